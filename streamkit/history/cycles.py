"""Transactions that depend on each other in a circle.

`ww`: its record stands in a partition behind the other's. `wr`: it read a record of the other.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from streamkit.history.evidence import Anomaly, Evidence
from streamkit.history.operations import Operation, Poll

Graph = dict[int, set[int]]


def cycles(found: Evidence, history: Iterable[Operation]) -> Iterator[Anomaly]:
    """G1c: information went in a circle. G0 and G1c-ww: records stand in a circular order.

    Each set of transactions that hang together is named once, with a shortest circle in it.
    """
    transactions = [operation for operation in history if operation.txn]
    numbers = {id(operation): number for number, operation in enumerate(transactions)}
    ww: Graph = {}
    for at in found.partitions.values():
        before = -1
        for offset in at.visible:
            write = found.writes.get(at.values[offset])
            number = -1 if write is None else numbers.get(id(write[0]), -1)
            if before >= 0 and 0 <= number != before:
                ww.setdefault(before, set()).add(number)
            before = number if number >= 0 else before
    wr: Graph = {}
    for number, operation in enumerate(transactions):
        for step in operation.steps:
            if isinstance(step, Poll):
                for _, value in step.records:
                    write = found.writes.get(value)
                    writer = -1 if write is None else numbers.get(id(write[0]), -1)
                    if writer >= 0:
                        wr.setdefault(writer, set()).add(number)
    both = {n: ww.get(n, set()) | wr.get(n, set()) for n in ww.keys() | wr.keys()}
    known: set[int] = set()
    for kind, graph in (("G0", ww), ("G1c", wr), ("G1c-ww", both)):
        for component in components(graph):
            if kind == "G1c-ww" and not known.isdisjoint(component):
                continue
            known.update(component)
            circle = shortest(graph, component)
            edges = zip(circle, [*circle[1:], circle[0]], strict=True)
            how = ", ".join("wr" if b in wr.get(a, ()) else "ww" for a, b in edges)
            text = f"{len(circle)} transactions follow each other in a circle ({how})"
            yield Anomaly(kind, text, tuple(transactions[n] for n in circle))


def components(graph: Mapping[int, set[int]]) -> Iterator[list[int]]:
    """The strongly connected components of two nodes and more (Tarjan's, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    waiting: set[int] = set()
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        waiting.add(root)
        while work:
            node, edges = work[-1]
            for following in edges:
                if following not in index:
                    index[following] = low[following] = len(index)
                    stack.append(following)
                    waiting.add(following)
                    work.append((following, iter(graph.get(following, ()))))
                    break
                if following in waiting:
                    low[node] = min(low[node], index[following])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = [stack.pop()]
                    while component[-1] != node:
                        component.append(stack.pop())
                    waiting.difference_update(component)
                    if len(component) > 1:
                        yield component


def shortest(graph: Mapping[int, set[int]], component: list[int]) -> list[int]:
    """A shortest circle through the first node of a component."""
    inside, start = set(component), component[0]
    came: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for following in graph.get(node, ()):
            if following == start:
                circle = [node]
                while circle[-1] != start:
                    circle.append(came[circle[-1]])
                return circle[::-1]
            if following in inside and following not in came:
                came[following] = node
                queue.append(following)
    raise AssertionError(f"{component} is not strongly connected")
