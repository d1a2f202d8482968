"""Feedback of a request: when each event happened, which surface it belongs to, and what became of it.

``service`` calls it and makes the entries durable. A click counts in its user's next request at once: it is added to
``follow.live_features``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import class_row

from features.declare.features import Features
from features.declare.feedback import HORIZON
from features.log.outcomes import ACCEPTED, ALREADY_THERE
from features.log.tally import Tally
from models.serving.account import Account
from models.serving.bodies import FeedbackBody
from models.serving.durable.database import AWAY, Database
from models.serving.durable.entries import Feedback, LogEntry, Recorded
from models.serving.rank.ranking import SurfaceRanker, surface_of

SURFACES_OF = """
SELECT DISTINCT ON (asked.impression_id) asked.impression_id, i.surface
FROM unnest(%(names)s::text[], %(times)s::timestamptz[]) AS asked (impression_id, at)
JOIN impressions i ON i.surface = ANY(%(surfaces)s) AND i.impression_id = asked.impression_id
  AND i.shown_at >= %(first)s AND i.shown_at <= %(last)s
  AND i.shown_at >= asked.at - %(horizon)s AND i.shown_at <= asked.at + %(horizon)s
"""


@dataclass(frozen=True)
class _SurfaceRow:
    impression_id: str
    surface: str


@dataclass(frozen=True)
class FeedbackEntry:
    """The events of one request that belong to one surface."""

    entry: LogEntry
    places: tuple[int, ...]
    """Of each event, its place in the request."""


@dataclass(frozen=True)
class FeedbackResult:
    """What became of the feedback of one request."""

    accepted: int
    """Events that are in the log, or on their way to it."""
    repeated: int
    """Of these, how many were there already; as far as the log answered at once."""
    dead_letters: Mapping[int, str]
    """Events that are dead letters, by their place in the request, and why."""
    degraded: tuple[str, ...]
    account: Account
    """The feedback by its kind."""


class UnfitFeedback(ValueError):
    """An event that the log could not look up, or whose surface is not clear."""

    def __init__(self, place: int, field: str, message: str) -> None:
        self.place = place
        """Which event of the request."""
        self.field = field
        super().__init__(message)


class FeedbackIntake:
    """Of all surfaces of a process. May be called by many threads."""

    def __init__(
        self, rankers: Callable[[], Mapping[str, SurfaceRanker]], database: Database, clock: Callable[[], float]
    ) -> None:
        self._current = rankers
        self._database = database
        self._clock = clock

    def accept(self, events: Sequence[FeedbackBody]) -> list[FeedbackEntry]:
        """An entry for each surface. The clicks count in their users' next requests at once. Raises UnfitFeedback."""
        now, rankers = self._clock(), self._current()
        times = [time_of(place, event.at, now) for place, event in enumerate(events)]
        surfaces = self._surfaces_of(events, times, rankers)
        feedback: dict[str, list[Feedback]] = {}
        places: dict[str, list[int]] = {}
        for place, (surface, event, at) in enumerate(zip(surfaces, events, times, strict=True)):
            one = Feedback(event.impression_id, event.kind, event.value, round(at * 1e6))
            feedback.setdefault(surface, []).append(one)
            places.setdefault(surface, []).append(place)
        for surface, some in feedback.items():
            rankers[surface].live_features.add_clicks(some)
        return [
            FeedbackEntry(LogEntry(surface, feedback=tuple(some)), tuple(places[surface]))
            for surface, some in feedback.items()
        ]

    def _surfaces_of(
        self, events: Sequence[FeedbackBody], times: Sequence[float], rankers: Mapping[str, SurfaceRanker]
    ) -> list[str]:
        these = "these are: " + ", ".join(sorted(rankers))
        found: dict[int, str] = {}
        for place, event in enumerate(events):
            if event.surface is not None and event.surface not in rankers:
                raise UnfitFeedback(place, "surface", f"{event.surface!r} is not served here; {these}")
            named = event.surface or surface_of(event.impression_id)
            if named in rankers:
                found[place] = named
            elif len(rankers) == 1:
                found[place] = next(iter(rankers))
        unclear = [place for place in range(len(events)) if place not in found]
        logged = self._look_up([(events[place].impression_id, times[place]) for place in unclear], rankers)
        for place in unclear:
            if events[place].impression_id not in logged:
                message = f"no impression of this id is known; name its surface: {these}"
                raise UnfitFeedback(place, "surface", message)
            found[place] = logged[events[place].impression_id]
        return [found[place] for place in range(len(events))]

    def _look_up(self, asked: Sequence[tuple[str, float]], rankers: Mapping[str, SurfaceRanker]) -> dict[str, str]:
        """The surfaces of the impressions that the log has, by their ids; one query for all."""
        if not asked:
            return {}
        times = [datetime.fromtimestamp(at, UTC) for _, at in asked]
        parameters: dict[str, object] = {"surfaces": list(rankers), "names": [name for name, _ in asked]}
        parameters |= {"times": times, "horizon": HORIZON, "first": min(times) - HORIZON, "last": max(times) + HORIZON}
        try:
            rows = self._database.query(SURFACES_OF, parameters, class_row(_SurfaceRow))
        except AWAY:
            return {}
        return {row.impression_id: row.surface for row in rows}


def time_of(place: int, at: datetime | None, now: float) -> float:
    """When feedback happened, in seconds since 1970; a client's clock may be ahead of ours, and is not believed. Raises
    UnfitFeedback for one too long ago."""
    if at is None:
        return now
    if at < datetime.fromtimestamp(now, UTC) - HORIZON:
        message = f"is more than {HORIZON.days} days ago; feedback that late belongs to no impression"
        raise UnfitFeedback(place, "at", message)
    return min(now, at.timestamp())


def result_of(
    entries: Sequence[FeedbackEntry],
    recorded: Sequence[Recorded],
    declared: Mapping[str, Features],
    degraded: tuple[str, ...],
) -> FeedbackResult:
    """What became of the events of a request, whose entries were recorded so. ``declared``: by surface."""
    outcomes: dict[int, str] = {}
    account = Account()
    for each, one in zip(entries, recorded, strict=True):
        found = one.feedback or (ACCEPTED,) * len(each.places)  # while it is in the journal
        outcomes |= dict(zip(each.places, found, strict=True))
        tally = Tally.of([event.kind for event in each.entry.feedback], found)
        account += Account.of(tally, each.entry.surface, declared[each.entry.surface])
    dead = {place: outcome for place, outcome in sorted(outcomes.items()) if outcome not in (ACCEPTED, ALREADY_THERE)}
    repeated = sum(outcome == ALREADY_THERE for outcome in outcomes.values())
    return FeedbackResult(len(outcomes) - len(dead), repeated, dead, degraded, account)
