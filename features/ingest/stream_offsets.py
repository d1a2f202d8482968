"""The offsets up to which a topic is in the log of a surface: table ``stream_offsets``, which this module alone
writes."""

from collections.abc import Mapping
from datetime import datetime

import psycopg

READ = "SELECT partition, next_offset FROM stream_offsets WHERE surface = %s AND topic = %s"

MOVE = """
INSERT INTO stream_offsets AS o (surface, topic, partition, next_offset, updated_at)
VALUES (%(surface)s, %(topic)s, %(partition)s, %(next)s, %(now)s)
ON CONFLICT (surface, topic, partition) DO UPDATE
    SET next_offset = EXCLUDED.next_offset, updated_at = EXCLUDED.updated_at WHERE o.next_offset = %(was)s
"""


class OffsetsMoved(RuntimeError):
    """Another process has moved the offsets meanwhile: what was read from the old ones is in the log already."""


def read_offsets(connection: psycopg.Connection, surface: str, topic: str) -> dict[int, int]:
    """By partition, the offset of the first message that is not in the log; without those never read."""
    return dict(connection.execute(READ, [surface, topic]).fetchall())


def move_offsets(
    connection: psycopg.Connection,
    surface: str,
    topic: str,
    was: Mapping[int, int | None],
    following: Mapping[int, int],
    now: datetime,
) -> None:
    """Move offsets from what they were (None: not there) in the transaction of their events. Raises OffsetsMoved."""
    moves = [
        {"surface": surface, "topic": topic, "partition": partition, "next": offset, "was": was[partition], "now": now}
        for partition, offset in sorted(following.items())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(MOVE, moves)
        if cursor.rowcount != len(moves):
            raise OffsetsMoved(
                f"the offsets of topic {topic!r} in the log of {surface} are no longer {dict(was)}: another process"
                " reads it too, or has read it; what it read is in the log"
            )
