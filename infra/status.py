"""What is up, and how fresh each surface is."""

import http.client
import xmlrpc.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from infra.database import connect
from infra.services import PROBE_S, Service, is_well
from infra.settings import Settings
from infra.supervision import ProcessState, Supervisor

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
    healthy: bool


@dataclass(frozen=True)
class SurfaceStatus:
    surface: str
    champion: str | None
    """Version in service: that of the newest promotion."""
    watermark: datetime | None
    """Event time up to which a finished update has gone."""
    freshness_s: float | None
    """Seconds since the newest event that the champion learned from."""
    warnings: tuple[str, ...] = ()
    """What a person should look at, a sentence each."""


@dataclass(frozen=True)
class Status:
    database_url: str
    services: tuple[ServiceStatus, ...]
    surfaces: tuple[SurfaceStatus, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "database_url": self.database_url,
            "services": [
                {"name": service.name, "address": service.address, "healthy": service.healthy}
                for service in self.services
            ],
            "surfaces": [
                {
                    "name": surface.surface,
                    "champion": surface.champion,
                    "watermark": surface.watermark.isoformat() if surface.watermark else None,
                    "freshness_s": surface.freshness_s,
                    "warnings": surface.warnings,
                }
                for surface in self.surfaces
            ],
        }


def read_status(settings: Settings, services: Sequence[Service], now: datetime) -> Status:
    """Ask every service at once, and the database for its surfaces; takes about ``PROBE_S`` seconds at most."""
    states = _supervised(settings)
    with ThreadPoolExecutor(len(services) + 1) as pool:
        surfaces = pool.submit(read_surfaces, settings.database, now)
        healthy = list(pool.map(lambda service: _is_healthy(service, states), services))
    return Status(
        database_url=settings.database_shown,
        services=tuple(
            ServiceStatus(service.name, service.address, well) for service, well in zip(services, healthy, strict=True)
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


def _supervised(settings: Settings) -> dict[str, ProcessState]:
    try:
        return Supervisor(settings.home.resolve()).states()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return {}


def _is_healthy(service: Service, states: dict[str, ProcessState]) -> bool:
    """By its health address; a process that listens nowhere by what the supervisor says of it."""
    if service.health is not None:
        return is_well(service)
    state = states.get(service.name)
    return state is not None and state.state == "RUNNING" and state.up_s >= service.settles_s
