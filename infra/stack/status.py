"""What is up, and how fresh each surface is."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from infra.postgres.connections import connect, explain, is_absent
from infra.settings import Settings
from infra.stack.health import State, examine
from infra.stack.services import PROBE_S, Service
from infra.stack.uptake import NOBODY, Uptake, uptake

LIST_SURFACES = """
WITH surfaces (surface) AS (
    SELECT surface FROM event_days WHERE events = 'impressions' UNION SELECT surface FROM updates
)
SELECT s.surface, p.version, p.learned_to, p.promotion_id,
       (SELECT max(u.window_end) FROM updates u
        WHERE u.surface = s.surface AND u.state IN ('promoted', 'canary', 'held', 'rejected')),
       (SELECT c.version FROM canaries c LEFT JOIN canary_ends e USING (canary_id)
        WHERE c.surface = s.surface AND e.canary_id IS NULL)
FROM surfaces s
LEFT JOIN LATERAL (
    SELECT version, learned_to, promotion_id FROM promotions
    WHERE surface = s.surface ORDER BY promotion_id DESC LIMIT 1
) p ON true
ORDER BY s.surface
"""


# A row of `Partitions`.
PARTITIONS = """
SELECT count(*), sum(1 + (SELECT count(*) FROM pg_index WHERE indrelid = c.oid)),
    current_setting('max_locks_per_transaction')::int
        * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
    CASE WHEN NOT bool_or(pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT') THEN
        max((regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \\('([^']+)$$))[1]::timestamptz) END
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
WHERE inhparent IN ('impressions'::regclass, 'served'::regclass, 'feedback'::regclass)
"""

EARLY = 0.5
"""Part of the server's locks from which on it is warned."""


@dataclass(frozen=True)
class ServiceStatus:
    name: str
    address: str | None
    state: State
    detail: str

    @property
    def healthy(self) -> bool:
        return self.state == "healthy"


@dataclass(frozen=True)
class SurfaceStatus:
    surface: str
    champion: str | None
    """The version of the newest promotion; whether it serves is in ``uptake``."""
    watermark: datetime | None
    """Event time up to which a finished update has gone."""
    freshness_s: float | None
    """Seconds since the newest event that the champion was trained on."""
    canary: str | None = None
    """The version that is tried on live traffic beside it."""
    version: str | None = None
    """Of the file that declares it; None where none does."""
    uptake: Uptake = NOBODY
    """How many serving processes are connected, and what they have made of the champion."""
    warnings: tuple[str, ...] = ()
    """What a person should look at, a sentence each."""


@dataclass(frozen=True)
class Partitions:
    """The partitions of the log, and what the server can bear."""

    count: int
    locks: int
    """What a query over all of them takes: each, with its indexes."""
    held: int
    """Locks that the server can hold at once."""
    end: datetime | None
    """From then on there is none; None: there is one for whatever comes, or none at all."""

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """What will not go well for long, each with what to do."""
        found = []
        if self.locks > EARLY * self.held:
            found.append(
                f"the log has {self.count:,} partitions, with their indexes {self.locks:,} locks of the {self.held:,}"
                " that the server can hold: keep fewer days with MILLRACE_RETENTION_DAYS, or raise its"
                " max_locks_per_transaction"
            )
        if self.end is not None and self.end < now + timedelta(days=1):
            found.append(
                f"the log has no partition from {self.end.astimezone(UTC):%Y-%m-%d} on: the fold makes them ahead;"
                " see whether it runs, and its log"
            )
        return tuple(found)


@dataclass(frozen=True)
class Status:
    database_url: str
    services: tuple[ServiceStatus, ...]
    surfaces: tuple[SurfaceStatus, ...]
    warnings: tuple[str, ...] = ()
    """What will not go well for long, each with what to do."""

    def as_json(self) -> dict[str, Any]:
        return {
            "database_url": self.database_url,
            "services": [
                {
                    "name": service.name,
                    "address": service.address,
                    "healthy": service.healthy,
                    "state": service.state,
                    "detail": service.detail,
                }
                for service in self.services
            ],
            "surfaces": [
                {
                    "name": surface.surface,
                    "version": surface.version,
                    "champion": surface.champion,
                    "canary": surface.canary,
                    "watermark": surface.watermark.isoformat() if surface.watermark else None,
                    "freshness_s": surface.freshness_s,
                    "serving": asdict(surface.uptake),
                    "warnings": surface.warnings,
                }
                for surface in self.surfaces
            ],
            "warnings": list(self.warnings),
        }


def read_status(settings: Settings, services: Sequence[Service], now: datetime) -> Status:
    """Probe every service at once, and read the surfaces; takes about ``PROBE_S`` seconds at most."""
    with ThreadPoolExecutor(2) as pool:
        surfaces = pool.submit(read_surfaces, settings.database, now)
        warnings = pool.submit(read_warnings, settings.database, now)
        found = examine(settings.home.resolve(), services)
    return Status(
        database_url=settings.database_shown,
        services=tuple(
            ServiceStatus(service.name, service.address, health.state, health.detail)
            for service, health in zip(services, found, strict=True)
        ),
        surfaces=surfaces.result(),
        warnings=warnings.result(),
    )


def read_surfaces(database_url: str, now: datetime) -> tuple[SurfaceStatus, ...]:
    """State of each surface that was ever logged or updated; none when the database is down, or not yet migrated."""
    try:
        with connect(database_url, autocommit=True, timeout_s=PROBE_S) as connection:
            rows = connection.execute(LIST_SURFACES).fetchall()
            taken = {surface: uptake(connection, surface, promotion) for surface, _, _, promotion, *_ in rows}
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return ()  # the warnings have the reason
    return tuple(
        SurfaceStatus(
            surface=surface,
            champion=version,
            watermark=watermark,
            freshness_s=None if learned_to is None else (now - learned_to).total_seconds(),
            canary=canary,
            uptake=taken[surface],
        )
        for surface, version, learned_to, _, watermark, canary in rows
    )


def read_warnings(database_url: str, now: datetime) -> tuple[str, ...]:
    """What will soon go wrong with the log's partitions, or is wrong with a database that answers."""
    try:
        with connect(database_url, timeout_s=PROBE_S) as connection:
            return read_partitions(connection).warnings(now)
    except psycopg.errors.UndefinedTable:
        return ()
    except psycopg.OperationalError as error:
        return () if is_absent(error) else (explain(error),)


def read_partitions(connection: psycopg.Connection) -> Partitions:
    found = connection.execute(PARTITIONS).fetchone()
    assert found is not None, "an aggregate has one row"
    count, locks, held, end = found
    return Partitions(count, int(locks or 0), held, end)
