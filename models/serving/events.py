"""Events of a request of others: impressions that they served, and feedback on these or on ours.

``service`` calls it and makes the entry durable. What is new counts in its user's next request at once: it is added to
``follow.live_features``. An event that is refused does not take its neighbours with it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from features.declare.features import Features
from features.declare.feedback import HORIZON
from features.ingest.json_events import FeedbackEvent, ImpressionEvent, Unfit, not_to_come
from features.log.outcomes import ACCEPTED, ALREADY_THERE, REFUSED
from features.log.tally import Tally
from models.serving.account import Account
from models.serving.bodies import SentEvent
from models.serving.durable.entries import Feedback, Impressions, LogEntry, Recorded
from models.serving.feedback import UnfitFeedback, time_of
from models.serving.rank.ranking import SurfaceRanker


@dataclass(frozen=True)
class AcceptedEvents:
    """The events of one request on their way to the log."""

    entry: LogEntry
    impressions: tuple[int, ...]
    """Of each impression of the entry, its place in the request."""
    feedback: tuple[int, ...]
    unfit: Mapping[int, Unfit]
    """The others, by their place."""
    kinds: Mapping[int, str]
    """Of all feedback, by its place."""
    columns: frozenset[str]
    """Names that the impressions' contexts have."""

    @property
    def any(self) -> bool:
        return bool(self.impressions or self.feedback)


@dataclass(frozen=True)
class EventsResult:
    """What became of the events of one request."""

    outcomes: tuple[str, ...]
    """Of each: ``taken``, ``already there``, as far as the log answered at once, or ``refused``."""
    refused: Mapping[int, Unfit]
    """By their place in the request."""
    degraded: tuple[str, ...]
    account: Account
    """The feedback by its kind, and what nobody declared."""

    @property
    def accepted(self) -> int:
        """Events that are in the log, or on their way to it."""
        return len(self.outcomes) - len(self.refused)

    @property
    def repeated(self) -> int:
        """Of these, how many were there already."""
        return sum(outcome == ALREADY_THERE for outcome in self.outcomes)


class EventIntake:
    """May be called by many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def accept(self, ranker: SurfaceRanker, events: Sequence[SentEvent]) -> AcceptedEvents:
        """The entry of a surface's events. Impressions before feedback, so that a click finds its own."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        shown: dict[int, ImpressionEvent] = {}
        times: list[int] = []
        given: dict[int, Feedback] = {}
        unfit: dict[int, Unfit] = {}
        for place, event in enumerate(events):
            if isinstance(event, Unfit):
                unfit[place] = event
            elif isinstance(event, ImpressionEvent):
                shown_at = not_to_come(event.shown_at, now)
                wrong = _unfit_time(shown_at, now)
                if wrong is None:
                    shown[place] = event
                    times.append(round(shown_at.timestamp() * 1e6))
                else:
                    unfit[place] = wrong
        impressions = _impressions([*shown.values()], times)
        ranker.live_features.add_shown(impressions)
        kinds = {place: event.kind for place, event in enumerate(events) if isinstance(event, FeedbackEvent)}
        for place, event in enumerate(events):
            if isinstance(event, FeedbackEvent):
                try:
                    at = time_of(place, event.at, now.timestamp())
                except UnfitFeedback as error:
                    unfit[place] = Unfit((error.field,), str(error))
                else:
                    given[place] = Feedback(event.impression_id, event.kind, event.value, round(at * 1e6))
        ranker.live_features.add_clicks(list(given.values()))
        columns = frozenset(name for event in shown.values() for name in event.context)
        entry = LogEntry(ranker.surface, impressions, tuple(given.values()))
        return AcceptedEvents(entry, tuple(shown), tuple(given), unfit, kinds, columns)


def _unfit_time(shown_at: datetime, now: datetime) -> Unfit | None:
    if shown_at > now:
        return Unfit(("shown_at",), "is in the future; send it with the time at which it was shown")
    if shown_at < now - HORIZON:
        return Unfit(("shown_at",), f"is more than {HORIZON.days} days ago; import what is older, from a file")
    return None


def _impressions(shown: Sequence[ImpressionEvent], times: list[int]) -> Impressions:
    """``times``: when each was shown, in microseconds since 1970."""
    return Impressions(
        impression_id=[event.impression_id for event in shown],
        request_id=[event.request_id or event.impression_id for event in shown],
        user_id=[event.user_id for event in shown],
        item_id=[event.item_id for event in shown],
        position=[event.position for event in shown],
        shown_at=times,
        propensity=[event.propensity for event in shown],
        context=[json.dumps(event.context) for event in shown],
    )


def result_of_events(
    accepted: AcceptedEvents,
    recorded: Sequence[Recorded],
    surface: str,
    declared: Features,
    degraded: tuple[str, ...],
) -> EventsResult:
    """What became of the events of a request to a surface, whose entry, where there was any, was recorded so."""
    outcomes = dict.fromkeys([*accepted.impressions, *accepted.feedback], ACCEPTED)
    for one in recorded:
        for places, found in ((accepted.impressions, one.impressions), (accepted.feedback, one.feedback)):
            outcomes |= dict(zip(places, found, strict=False))  # of none while it is in the journal
    reasons = {place: Unfit((), found) for place, found in outcomes.items() if found not in (ACCEPTED, ALREADY_THERE)}
    refused = dict(sorted({**reasons, **accepted.unfit}.items()))
    outcomes |= dict.fromkeys(refused, REFUSED)
    tally = Tally.of([*accepted.kinds.values()], [outcomes[place] for place in accepted.kinds], accepted.columns)
    return EventsResult(
        tuple(outcomes[place] for place in sorted(outcomes)),
        refused,
        degraded,
        Account.of(tally, surface, declared),
    )
