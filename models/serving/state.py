"""How one serving process is: what ``/readyz`` shows to a balancer, by its status, and to a person, in sentences.

Degraded parts do not make a process unready: it answers without them, and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from models.serving.access.callers import Access
from models.serving.access.follow import AccessFollower
from models.serving.durable.acceptance import LONG_S
from models.serving.durable.database import Database
from models.serving.durable.segments import Segments
from models.serving.generation import Generation
from models.serving.rank.ranking import SurfaceRanker


@dataclass(frozen=True)
class SurfaceState:
    """One surface."""

    version: str
    """Of the file that declares it."""
    champion: str | None
    """The version in service."""
    behind: str | None
    """Why another may be the champion."""
    features: Literal["stale", "live"]
    encoder: Literal["compiled", "torch"] | None
    """What encodes queries; None: nothing does, or not yet."""
    degraded: Mapping[str, str]
    """What answers do without, by the word that they have for it, and why."""


@dataclass(frozen=True)
class ServiceState:
    """What ``/readyz`` shows."""

    ready: bool
    """Models and features are in place, or it is known that the database is away; and somebody may be let in."""
    degraded: Mapping[str, str]
    """What of the process is not as it should be: ``database``, ``journal``, ``keys``; and why."""
    database: bool
    journaled: int
    """Accepted requests that wait in the journal for the database."""
    journal_age_s: float
    """How long the oldest of them has waited."""
    surfaces: Mapping[str, SurfaceState]


def service_state(
    generation: Generation,
    database: Database,
    segments: Segments | None,
    access: Access,
    follower: AccessFollower,
    now: float,
) -> ServiceState:
    """As it is at ``now``, seconds since 1970."""
    degraded = {
        "database": _database(database, now),
        "journal": None if segments is None else _journal(segments),
        "keys": access.nobody or follower.lacks(),
    }
    return ServiceState(
        ready=generation.ready and access.nobody is None,
        degraded={part: why for part, why in degraded.items() if why is not None},
        database=database.available,
        journaled=segments.waiting if segments else 0,
        journal_age_s=round(segments.age_s, 3) if segments else 0.0,
        surfaces={surface: _surface(generation, ranker) for surface, ranker in generation.rankers.items()},
    )


def _database(database: Database, now: float) -> str | None:
    away_s = database.away_s
    if away_s is None:
        return None
    since = datetime.fromtimestamp(now - away_s, UTC)
    return f"away since {since:%Y-%m-%d %H:%M:%S} UTC, for {away_s:.0f} s: what is accepted waits in the journal"


def _journal(segments: Segments) -> str | None:
    trouble = segments.trouble()
    if trouble is not None:
        return f"the disk does not take it, PostgreSQL is asked to: {trouble}"
    if segments.age_s > LONG_S:
        return f"{segments.waiting} requests wait for PostgreSQL, the oldest for {segments.age_s:.0f} s"
    return None


def _surface(generation: Generation, ranker: SurfaceRanker) -> SurfaceState:
    champion = generation.champions.current(ranker.surface)
    behind = generation.champions.behind(ranker.surface)
    stale = ranker.live_features.stale()
    recommender, texts = ranker.recommender, generation.texts.get(ranker.surface)
    degraded = {
        "model": "no version is in service: the base rate ranks" if champion is None else None,
        "champion": behind if champion is not None else None,
        "features": _followed("the log", ranker.live_features.lag_s()) if stale else None,
        "retrieval": _followed("what is recommended", recommender.lag_s())
        if recommender is not None and recommender.stale()
        else None,
        "texts": texts.lacks() if texts else None,
    }
    return SurfaceState(
        version=generation.versions[ranker.surface],
        champion=champion.version if champion else None,
        behind=behind,
        features="stale" if stale else "live",
        encoder=texts.encoder if texts else None,
        degraded={part: why for part, why in degraded.items() if why is not None},
    )


def _followed(what: str, lag_s: float) -> str:
    return f"{what} was not followed yet" if lag_s == float("inf") else f"{what} was last followed {lag_s:.0f} s ago"
