"""Which serving processes have taken a promotion into service: each shows it in PostgreSQL by advisory locks.

A serving process follows the promotions by one connection. For each surface it follows, each promotion it serves, and
each that it could not load, that connection holds a shared advisory lock: so what is shown ends with the process, or
with its connection, and there is nothing to clear away.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass

import psycopg

FOLLOWS, SERVES, REFUSES = 1_836_018_001, 1_836_018_002, 1_836_018_003
"""First keys of the locks, ours alone among those of two keys. The second: a surface's hash, or a promotion's id."""

POLL_S = 0.05

_SURFACE = "SELECT hashtext(%s)"

_HELD = """
SELECT count(*) FILTER (WHERE classid = %(follows)s AND objid = (hashtext(%(surface)s)::bigint & 4294967295)::oid),
       count(*) FILTER (WHERE classid = %(serves)s AND objid = %(promotion)s::bigint::oid),
       count(*) FILTER (WHERE classid = %(refuses)s AND objid = %(promotion)s::bigint::oid)
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class Uptake:
    """How far the serving processes that are connected have followed a promotion."""

    following: int
    """Processes that serve the surface."""
    serving: int
    """Those of them that have taken the promotion into service."""
    refusing: int
    """Those that tried, and could not load it."""

    @property
    def complete(self) -> bool:
        """Whether each has answered."""
        return self.serving + self.refusing >= self.following

    @property
    def sentence(self) -> str:
        """For a person who has just changed the champion, or looks how it is."""
        if not self.following:
            return "No serving process is connected; each takes it when it starts."
        processes = "1 serving process" if self.following == 1 else f"{self.following} serving processes"
        if self.serving >= self.following:
            return f"In service at {processes}."
        away = self.following - self.serving
        missing = f"{away} of {processes} {'has' if away == 1 else 'have'} not taken it"
        cannot = "" if not self.refusing else f"; {self.refusing} cannot load it, and /readyz there says why"
        return f"Not in service everywhere: {missing}{cannot}."


NOBODY = Uptake(0, 0, 0)


class ShownPromotions:
    """What one serving process shows of itself, by the connection it follows the promotions with (autocommit mode)."""

    def __init__(self, connection: psycopg.Connection, surfaces: Collection[str]) -> None:
        self._connection = connection
        self._held: set[tuple[int, int]] = set()
        for surface in surfaces:
            ((key,),) = connection.execute(_SURFACE, [surface]).fetchall()
            connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", [FOLLOWS, key])

    def show(self, serving: Collection[int], refused: Collection[int]) -> None:
        """These promotions are in service here; these could not be loaded."""
        wanted = {(SERVES, promotion) for promotion in serving} | {(REFUSES, promotion) for promotion in refused}
        for gone in self._held - wanted:
            self._connection.execute("SELECT pg_advisory_unlock_shared(%s, %s)", gone)
        for new in wanted - self._held:
            self._connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", new)
        self._held = wanted


def uptake(
    connection: psycopg.Connection, surface: str, promotion_id: int | None, *, patience_s: float = 0.0
) -> Uptake:
    """What the serving processes have made of a promotion, once each has answered or ``patience_s`` have passed.

    ``connection`` is in autocommit mode.
    """
    parameters = {
        "follows": FOLLOWS,
        "serves": SERVES,
        "refuses": REFUSES,
        "surface": surface,
        "promotion": promotion_id,
    }
    until = time.monotonic() + patience_s
    while True:
        (row,) = connection.execute(_HELD, parameters).fetchall()
        found = Uptake(*row)
        if found.complete or time.monotonic() >= until:
            return found
        time.sleep(POLL_S)
