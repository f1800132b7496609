"""The table `_streamkit_offsets`: where a SQL sink goes on, kept in its own database."""

from collections.abc import Mapping

import sqlalchemy as sa

from streamkit.connectors.sql import make_table
from streamkit.errors import TransientError
from streamkit.records import TopicPartition

NAME = "_streamkit_offsets"


class OffsetTable:
    """The rows of one connector. Made when it is missing."""

    def __init__(self, engine: sa.Engine, connector: str) -> None:
        self._connector = connector
        self._epochs: dict[TopicPartition, tuple[str, int]] = {}
        self._table = sa.Table(
            NAME,
            sa.MetaData(),
            sa.Column("connector", sa.String(249), primary_key=True),
            sa.Column("topic", sa.String(249), primary_key=True),
            sa.Column("partition", sa.Integer, primary_key=True),
            # A topic made anew has another id: offsets of the old one are not its own.
            sa.Column("topic_id", sa.String(32), primary_key=True),
            sa.Column("next_offset", sa.BigInteger, nullable=False),
            sa.Column("epoch", sa.BigInteger, nullable=False),
        )
        make_table(engine, self._table)

    def _row(self, partition: TopicPartition, topic_id: str) -> sa.ColumnElement[bool]:
        columns = self._table.c
        return sa.and_(
            columns.connector == self._connector,
            columns.topic == partition.topic,
            columns.partition == partition.partition,
            columns.topic_id == topic_id,
        )

    def take(
        self,
        connection: sa.Connection,
        partition: TopicPartition,
        topic_id: str,
        wanted: int | None,
    ) -> int | None:
        """Begin a new epoch of the partition, and return where it goes on.

        `wanted` sets the offset; None leaves it as it is, and is the answer when there is none.
        """
        table = self._table
        where = self._row(partition, topic_id)
        values: dict[str, object] = {"epoch": table.c.epoch + 1}
        if wanted is not None:
            values["next_offset"] = wanted
        # Updated before it is read: the row is locked, and two workers take it one after the other.
        if connection.execute(table.update().where(where).values(values)).rowcount == 0:
            if wanted is None:
                return None
            connection.execute(
                table.insert().values(
                    connector=self._connector,
                    topic=partition.topic,
                    partition=partition.partition,
                    topic_id=topic_id,
                    next_offset=wanted,
                    epoch=1,
                )
            )
        row = connection.execute(sa.select(table.c.next_offset, table.c.epoch).where(where)).one()
        self._epochs[partition] = topic_id, int(row.epoch)
        return int(row.next_offset)

    def advance(self, connection: sa.Connection, ends: Mapping[TopicPartition, int]) -> None:
        """Store the offsets after what this transaction wrote.

        Raises TransientError, which rolls the transaction back, when the epoch is over.
        """
        for partition, end in sorted(ends.items()):
            topic_id, epoch = self._epochs[partition]
            where = sa.and_(self._row(partition, topic_id), self._table.c.epoch == epoch)
            done = connection.execute(self._table.update().where(where).values(next_offset=end))
            if done.rowcount != 1:
                raise TransientError(
                    f"{partition}: another worker writes it into this database now; nothing of "
                    "this batch was written"
                )
