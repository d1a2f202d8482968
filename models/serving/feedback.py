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
from models.serving.access.callers import Caller
from models.serving.access.signing import Signer, has_signed_form
from models.serving.account import Account
from models.serving.bodies import FeedbackBody
from models.serving.durable.database import AWAY, Database
from models.serving.durable.entries import Feedback, LogEntry, Recorded
from models.serving.rank.ranking import SurfaceRanker

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
    """An event that the log could not look up, whose surface is not clear, or whose impression was never served."""

    status = 422

    def __init__(self, place: int, field: str, message: str) -> None:
        self.place = place
        """Which event of the request."""
        self.field = field
        super().__init__(message)


class NotTheirs(UnfitFeedback):
    """An event on an impression about which the caller may say nothing."""

    status = 403


class NotVerifiable(UnfitFeedback):
    """An event on an impression that another process may have served: its secret is not known here at the moment."""

    status = 503


class FeedbackIntake:
    """Of all surfaces of a process. May be called by many threads."""

    def __init__(
        self,
        rankers: Callable[[], Mapping[str, SurfaceRanker]],
        database: Database,
        clock: Callable[[], float],
        signer: Signer,
        signer_behind: Callable[[], bool],
    ) -> None:
        """``signer_behind``: whether ids may be signed by secrets that the signer does not know."""
        self._current = rankers
        self._database = database
        self._clock = clock
        self._signer = signer
        self._signer_behind = signer_behind

    def accept(self, events: Sequence[FeedbackBody], caller: Caller) -> list[FeedbackEntry]:
        """An entry for each surface. The clicks count in their users' next requests at once. Raises UnfitFeedback."""
        now, rankers = self._clock(), self._current()
        times = [time_of(place, event.at, now) for place, event in enumerate(events)]
        surfaces = self._surfaces_of(events, times, rankers, caller)
        for place, surface in enumerate(surfaces):
            if (lacks := caller.lacks("feedback", surface)) is not None:
                raise NotTheirs(place, "impression_id", lacks)
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
        self,
        events: Sequence[FeedbackBody],
        times: Sequence[float],
        rankers: Mapping[str, SurfaceRanker],
        caller: Caller,
    ) -> list[str]:
        these = "these are: " + ", ".join(sorted(rankers))
        found: dict[int, str] = {}
        for place, event in enumerate(events):
            if event.surface is not None and event.surface not in rankers:
                raise UnfitFeedback(place, "surface", f"{event.surface!r} is not served here; {these}")
            served_on = self._served_on(place, event, rankers, caller)
            named = served_on or event.surface or event.impression_id.partition(":")[0]
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

    def _served_on(
        self, place: int, event: FeedbackBody, rankers: Mapping[str, SurfaceRanker], caller: Caller
    ) -> str | None:
        """The surface of an impression that was served here; None of one that others served, where the caller may speak
        of those. Raises UnfitFeedback."""
        signed = self._signer.surface_of(event.impression_id)
        if signed is not None:
            if event.surface not in (None, signed):
                raise UnfitFeedback(place, "surface", f"the impression was served on {signed}; leave the surface out")
            if signed not in rankers:
                message = f"was served on {signed}, which is not served any more; these are: " + ", ".join(rankers)
                raise UnfitFeedback(place, "impression_id", message)
            return signed
        if has_signed_form(event.impression_id, rankers):
            if self._signer_behind():
                message = "cannot be verified while the database is away: send it again later"
                raise NotVerifiable(place, "impression_id", message)
            message = "was not served here, or was changed: send it as the answer of a request has it"
            raise UnfitFeedback(place, "impression_id", message)
        if (lacks := caller.lacks("events")) is not None:
            raise NotTheirs(place, "impression_id", f"is of no impression that was served here, and {lacks}")
        return None

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
