"""What an installation holds in memory: each process at rest, and what serving and the fold hold of a log.

    python -m benchmarks memory

Memory is PSS: a page that several processes share counts for each by its share. The installation has every service, a
champion, and a month of visits of a feed, each by another user. Then serving's state is loaded here once more, and what
it has by user, by item and by key is counted; a larger log of the same kind has as much for each user and item more.
"""

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Clock, Progress
from benchmarks.serve_installation import EVERYTHING, SURFACE, Installation, Seeded, installation
from benchmarks.table import Row, Table, machine
from features.counters import checkpoint
from features.counters.engine import Engine
from flows.taken_up import running
from infra.postgres import server as postgres
from infra.postgres.connections import connect
from infra.stack.begin import NAME_VARIABLE, marked

AT_REST_MB, SERVING_MB = 2_500, 1_500
"""The goals."""

USERS, ITEMS = 1_000_000, 100_000
"""What the goal of serving is meant for."""


MONTH = Seeded(days=1.2, requests_per_day=11_000, items_per_day=333, users=100_000, once=True, more=1_584_000)
"""30 days, 10,000 items, 99,000 visits."""


@dataclass(frozen=True)
class MemoryConfig:
    """What to make."""

    log: Seeded = MONTH

    rest_s: float = 60.0
    """After the last of it was folded."""

    folder: Path | None = None

    @staticmethod
    def quick() -> "MemoryConfig":
        """The same in a minute or two, for a first look."""
        return MemoryConfig(Seeded(days=1.2, requests_per_day=3_000, items_per_day=333, users=3_000, once=True), 5.0)


def bench(config: MemoryConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. Raises NotMeasurable."""
    with installation(config.log, config.folder, progress, services=EVERYTHING) as made:
        time.sleep(config.rest_s)
        found = at_rest(made)
        progress(", ".join(f"{name} {size:.0f} MB" for name, size in found.items()))
        with connect(made.settings.database) as connection:
            engine = checkpoint.load(connection, SURFACE, running(made.settings, SURFACE).features)
        items = int(made.rows("SELECT count(*) FROM items WHERE surface = %s", SURFACE)[0][0])
    return Table("memory", machine(), [*rest_rows(found), *state_rows(engine, items, found["serving"])])


def at_rest(made: Installation) -> dict[str, float]:
    """MB (PSS) of each service's processes, the largest first."""
    home, found = made.settings.home.resolve(), defaultdict[str, float](float)
    for process in marked(home):
        found[process.environ().get(NAME_VARIABLE, "the supervisor")] += process.memory_full_info().pss / 1e6
    found["postgres"] = sum(each.memory_full_info().pss / 1e6 for each in postgres.processes(home / "postgres"))
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def rest_rows(found: dict[str, float]) -> list[Row]:
    total = sum(found.values())
    return [
        *(Row(f"at rest, {name}", size, "MB") for name, size in found.items()),
        Row("at rest, all", total, "MB", goal=f"at most {AT_REST_MB:,} MB", met=total <= AT_REST_MB),
    ]


def state_rows(engine: Engine, items: int, serving: float) -> list[Row]:
    """What the state has, and what serving would have with ``USERS`` and ``ITEMS`` like those of the log."""
    keys = sum(counters.size for counters in engine.counters.values())
    of_keys, of_users = sum(counters.bytes_used for counters in engine.counters.values()), engine.users.bytes_used
    users = len(engine.users.rows)
    of_user_keys = sum(c.bytes_used for name, c in engine.counters.items() if name.startswith("user"))
    a_user, an_item = (of_users + of_user_keys) / users, (of_keys - of_user_keys) / items
    expected = serving + (a_user * (USERS - users) + an_item * (ITEMS - items)) / 1e6
    return [
        Row("users", users),
        Row("items", items),
        Row("counters, by key", keys),
        Row("bytes a counter", of_keys / keys, "B"),
        Row("bytes a user, without their counters", of_users / users, "B"),
        Row("bytes of a user's own counters", of_user_keys / users, "B"),
        Row("bytes of the other counters, by item", an_item, "B"),
        Row("serving's state", (of_keys + of_users) / 1e6, "MB"),
        Row(
            f"serving, {USERS:,} users and {ITEMS:,} items",
            expected,
            "MB",
            goal=f"at most {SERVING_MB:,} MB",
            met=expected <= SERVING_MB,
        ),
    ]
