"""Feedback of a request: when each event happened, which surface it belongs to, and what became of it.

``service`` calls it and makes the entries durable. A click counts in its user's next request at once: it is added to
``follow.live_features``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import class_row

from features.declare.feedback import HORIZON
from features.log.append_result import ACCEPTED, ALREADY_THERE
from models.serving.bodies import FeedbackBody
from models.serving.durable.database import AWAY, Database
from models.serving.durable.entries import Feedback, LogEntry, Recorded
from models.serving.rank.ranking import SurfaceRanker, surface_of

SURFACE_OF = """
SELECT surface FROM impressions WHERE surface = ANY(%s) AND impression_id = %s AND shown_at >= %s AND shown_at <= %s
LIMIT 1
"""


@dataclass(frozen=True)
class _SurfaceRow:
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
        now = self._clock()
        times = [self._time_of(place, event, now) for place, event in enumerate(events)]
        surfaces = [self._surface_of(place, event, times[place]) for place, event in enumerate(events)]
        feedback: dict[str, list[Feedback]] = {}
        places: dict[str, list[int]] = {}
        for place, (surface, event, at) in enumerate(zip(surfaces, events, times, strict=True)):
            one = Feedback(event.impression_id, event.kind, event.value, round(at * 1e6))
            feedback.setdefault(surface, []).append(one)
            places.setdefault(surface, []).append(place)
            live_features = self._rankers[surface].live_features
            if event.kind == live_features.declared.label.kind:
                live_features.add_click(event.impression_id, event.value, at)
        return [
            FeedbackEntry(LogEntry(surface, feedback=tuple(some)), tuple(places[surface]))
            for surface, some in feedback.items()
        ]

    @property
    def _rankers(self) -> Mapping[str, SurfaceRanker]:
        return self._current()

    def _time_of(self, place: int, event: FeedbackBody, now: float) -> float:
        """When it happened, in seconds since 1970; a client's clock may be ahead of ours, and is not believed."""
        if event.at is None:
            return now
        if event.at < datetime.fromtimestamp(now, UTC) - HORIZON:
            message = f"is more than {HORIZON.days} days ago; feedback that late belongs to no impression"
            raise UnfitFeedback(place, "at", message)
        return min(now, event.at.timestamp())

    def _surface_of(self, place: int, event: FeedbackBody, at: float) -> str:
        if event.surface is not None:
            if event.surface not in self._rankers:
                raise UnfitFeedback(place, "surface", f"{event.surface!r} is not served here; {self._these()}")
            return event.surface
        named = surface_of(event.impression_id)
        if named in self._rankers:
            return named
        if len(self._rankers) == 1:
            return next(iter(self._rankers))
        happened = datetime.fromtimestamp(at, UTC)
        parameters = [list(self._rankers), event.impression_id, happened - HORIZON, happened + HORIZON]
        try:
            found = self._database.query(SURFACE_OF, parameters, class_row(_SurfaceRow))
        except AWAY:
            found = []
        if not found:
            message = f"no impression of this id is known; name its surface: {self._these()}"
            raise UnfitFeedback(place, "surface", message)
        return found[0].surface

    def _these(self) -> str:
        return "these are: " + ", ".join(sorted(self._rankers))


def result_of(entries: Sequence[FeedbackEntry], recorded: Sequence[Recorded]) -> FeedbackResult:
    """What became of the events of a request, whose entries were recorded so."""
    outcomes = {
        place: outcome
        for each, one in zip(entries, recorded, strict=True)
        for place, outcome in zip(each.places, one.feedback or [ACCEPTED] * len(each.places), strict=True)
    }
    dead = {place: outcome for place, outcome in sorted(outcomes.items()) if outcome not in (ACCEPTED, ALREADY_THERE)}
    repeated = sum(outcome == ALREADY_THERE for outcome in outcomes.values())
    return FeedbackResult(len(outcomes) - len(dead), repeated, dead, without_log(recorded))


def without_log(recorded: Sequence[Recorded]) -> tuple[str, ...]:
    """``("log",)`` where the spool had to take an entry."""
    return ("log",) if any(one.where == "spool" for one in recorded) else ()
