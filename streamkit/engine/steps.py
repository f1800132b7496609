"""Which operator does what a node says."""

from collections.abc import Mapping

from streamkit.dsl.nodes.folds import RunningFold
from streamkit.dsl.nodes.in_order import InOrder
from streamkit.dsl.nodes.joins import Join
from streamkit.dsl.nodes.merges import Merge, MergedSide
from streamkit.dsl.nodes.node import Node
from streamkit.dsl.nodes.outputs import Repartition, To
from streamkit.dsl.nodes.steps import By, Filter, FlatMap, Map, Process
from streamkit.dsl.nodes.stream_joins import RightSide, StreamJoin
from streamkit.dsl.nodes.tables import KeptTable, RightRows, TableChanges, TableTopic
from streamkit.dsl.nodes.timers import OnTimer
from streamkit.dsl.nodes.waiting import Waiting
from streamkit.dsl.nodes.windows import WindowFold
from streamkit.engine.hot.steps import Forward
from streamkit.engine.operators import (
    by,
    filter,
    flat_map,
    in_order,
    keep_table,
    map,
    merge,
    process,
    repartition,
    running_fold,
    stream_join,
    table_changes,
    table_join,
    timers,
    to,
    waiting,
    windows,
)
from streamkit.engine.site import Build, Site
from streamkit.serde import Serde

OPERATORS: Mapping[type[Node], Build] = {
    Process: process.build,
    Waiting: waiting.build,
    Map: map.build,
    FlatMap: flat_map.build,
    Filter: filter.build,
    By: by.build,
    Join: table_join.build,
    StreamJoin: stream_join.build,
    RightSide: stream_join.build_right,
    Merge: merge.build,
    MergedSide: merge.build_side,
    KeptTable: keep_table.build,
    TableChanges: table_changes.build,
    RightRows: table_changes.build_right,
    TableTopic: table_changes.build_topic,
    WindowFold: windows.build,
    RunningFold: running_fold.build,
    InOrder: in_order.build,
    OnTimer: timers.build,
    To: to.build,
    Repartition: repartition.build,
}


def step(node: Node, key: Serde, site: Site) -> Forward:
    """The step of a node whose events have keys of serde `key`."""
    return OPERATORS[type(node)](node, key, site)
