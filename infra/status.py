"""What is up, and how fresh each surface is."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from infra.database import connect
from infra.health import State, examine
from infra.services import PROBE_S, Service
from infra.settings import Settings

# Distinct surfaces by one index step each: the log may hold millions of rows of a handful of surfaces.
LIST_SURFACES = """
WITH RECURSIVE logged (surface) AS (
    SELECT min(surface) FROM impressions
    UNION ALL
    SELECT (SELECT min(i.surface) FROM impressions i WHERE i.surface > logged.surface)
    FROM logged WHERE logged.surface IS NOT NULL
),
surfaces (surface) AS (
    SELECT surface FROM logged WHERE surface IS NOT NULL
    UNION SELECT surface FROM updates
)
SELECT s.surface, p.version, p.learned_to,
       (SELECT max(u.window_end) FROM updates u
        WHERE u.surface = s.surface AND u.state IN ('promoted', 'held', 'rejected'))
FROM surfaces s
LEFT JOIN LATERAL (
    SELECT version, learned_to FROM promotions
    WHERE surface = s.surface ORDER BY promotion_id DESC LIMIT 1
) p ON true
ORDER BY s.surface
"""


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
    """Version in service: that of the newest promotion."""
    watermark: datetime | None
    """Event time up to which a finished update has gone."""
    freshness_s: float | None
    """Seconds since the newest event that the champion learned from."""


@dataclass(frozen=True)
class Status:
    database_url: str
    services: tuple[ServiceStatus, ...]
    surfaces: tuple[SurfaceStatus, ...]

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
                    "champion": surface.champion,
                    "watermark": surface.watermark.isoformat() if surface.watermark else None,
                    "freshness_s": surface.freshness_s,
                }
                for surface in self.surfaces
            ],
        }


def read_status(settings: Settings, services: Sequence[Service], now: datetime) -> Status:
    """Ask every service at once, and the database for its surfaces; takes about ``PROBE_S`` seconds at most."""
    with ThreadPoolExecutor(1) as pool:
        surfaces = pool.submit(read_surfaces, settings.database, now)
        found = examine(settings.home.resolve(), services)
    return Status(
        database_url=settings.database_shown,
        services=tuple(
            ServiceStatus(service.name, service.address, health.state, health.detail)
            for service, health in zip(services, found, strict=True)
        ),
        surfaces=surfaces.result(),
    )


def read_surfaces(database_url: str, now: datetime) -> tuple[SurfaceStatus, ...]:
    """State of each surface that was ever logged or updated; none when the database is down, or not yet migrated."""
    try:
        with connect(database_url, timeout_s=PROBE_S) as connection:
            rows = connection.execute(LIST_SURFACES).fetchall()
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return ()
    return tuple(
        SurfaceStatus(
            surface=surface,
            champion=version,
            watermark=watermark,
            freshness_s=None if learned_to is None else (now - learned_to).total_seconds(),
        )
        for surface, version, learned_to, watermark in rows
    )
