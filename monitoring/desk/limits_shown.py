"""The limits of a surface in words: a row each for the list, and one with its candidates for its own page."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.desk.limit_drawing import LimitDrawing, drawn
from monitoring.desk.words import listed, unbroken
from monitoring.gate.adjustable import ADJUSTABLE, Adjustable
from monitoring.gate.sensitivity import PastNeeds, Tradeoff
from monitoring.records.limit_choices import LimitChoice
from monitoring.records.limits_known import LimitsKnown
from monitoring.sentences import counted

FAULTS_NAMED = 3

WINDOWS_NAMED = 12
"""Stopped windows that are listed."""


@dataclass(frozen=True)
class LimitRow:
    """A limit in the list."""

    of: Adjustable
    limit: str
    source: str
    stopped: int
    windows: int
    smallest: str
    """The smallest faults that it catches; empty where none was planted, or none moves it."""


@dataclass(frozen=True)
class Candidate:
    """A limit that can be chosen, with its two figures."""

    number: int
    value: str
    """As the form sends it."""

    limit: str
    words: str
    notes: tuple[str, ...]
    """What it is beside: "in force", "the file's"."""

    in_force: bool


@dataclass(frozen=True)
class PastChoice:
    """A choice in the history of a limit."""

    choice: LimitChoice
    what: str
    """``from 2.5 to 4``."""

    known: str
    """What was known then."""


@dataclass(frozen=True)
class LimitShown:
    """One limit on its page."""

    of: Adjustable
    limit: str
    because: str
    """Where it comes from, as a sentence."""

    unchosen: str
    chosen: bool
    also: str
    """Findings beside the first that go by the same limit; empty where none does."""

    drawing: LimitDrawing
    candidates: tuple[Candidate, ...]
    stopped: tuple[PastNeeds, ...]
    """The newest of the past windows that the limit in force stops."""

    stopped_in_all: int
    windows: int
    unmoved: int
    """Planted faults that do not move the figure."""

    history: tuple[PastChoice, ...]
    newest: int
    """Number of the newest choice, 0 for none."""


def rows(known: LimitsKnown) -> tuple[list[LimitRow], list[LimitRow]]:
    """Of the data checks, and of the guardrails."""
    found = [_row(known.tradeoff(of)) for of in ADJUSTABLE]
    return [row for row in found if row.of.check is not None], [row for row in found if row.of.check is None]


def _row(tradeoff: Tradeoff) -> LimitRow:
    return LimitRow(
        tradeoff.of,
        number(tradeoff.limit),
        tradeoff.source,
        len(tradeoff.stopped(tradeoff.limit)),
        tradeoff.windows,
        smallest(tradeoff),
    )


def smallest(tradeoff: Tradeoff) -> str:
    """``feedback logged twice: 3 % of the clicks; …``, of the limit in force; empty where it catches none."""
    if tradeoff.speaks_of_nothing(tradeoff.limit):
        return "It stops that window without a fault too."
    caught = [f"{fault}: {words}" for fault, words in tradeoff.caught(tradeoff.limit)]
    more = [f"{len(caught) - FAULTS_NAMED} more"] if len(caught) > FAULTS_NAMED else []
    return unbroken("; ".join([*caught[:FAULTS_NAMED], *more]))


def shown(known: LimitsKnown, of: Adjustable) -> LimitShown:
    """One limit."""
    tradeoff = known.tradeoff(of)
    limits, history = tradeoff.candidates(), known.choices_of(of)
    stopped = tradeoff.stopped(tradeoff.limit)
    planted = known.trial.trial.faults if known.trial is not None else ()
    return LimitShown(
        of=of,
        limit=number(tradeoff.limit),
        because=_because(known, tradeoff),
        unchosen=number(tradeoff.unchosen),
        chosen=of.code in known.in_force.chosen,
        also=listed([code.replace("_", " ") for code in of.codes[1:]]),
        drawing=drawn(tradeoff, limits),
        candidates=tuple(_candidates(tradeoff, limits)),
        stopped=tuple(stopped[:WINDOWS_NAMED]),
        stopped_in_all=len(stopped),
        windows=tradeoff.windows,
        unmoved=len(planted) - len(tradeoff.faults),
        history=tuple(_past(choice) for choice in history),
        newest=history[0].choice_id if history else 0,
    )


def _because(known: LimitsKnown, tradeoff: Tradeoff) -> str:
    declared = f"the {number(known.in_force.declared(tradeoff.of))} that the file declares"
    match tradeoff.source:
        case "declared":
            return "It is as the file declares"
        case "own windows":
            return f"It is wider than {declared}: so far do the surface’s own windows go by chance"
        case "few windows known":
            return f"It is wider than {declared} while few windows are known"
    return f"It was {tradeoff.source}; without that it would be {number(tradeoff.unchosen)}"


def _candidates(tradeoff: Tradeoff, limits: Sequence[float]) -> list[Candidate]:
    effects = [dict(tradeoff.effect(limit).caught) for limit in limits]
    # First the faults in which the candidates differ.
    faults = sorted(
        (fault.fault for fault in tradeoff.faults), key=lambda name: len({effect[name] for effect in effects}) == 1
    )
    found = []
    for place, (limit, effect) in enumerate(zip(limits, effects, strict=True), 1):
        notes = [
            *(("in force",) if limit == tradeoff.limit else ()),
            *(("without a choice",) if limit == tradeoff.unchosen != tradeoff.limit else ()),
        ]
        caught = [(name, words) for name in faults if (words := effect[name]) is not None]
        words = f"{_stops(tradeoff, limit)}; {_catches(tradeoff, limit, caught)}"
        found.append(
            Candidate(
                place, repr(limit), number(limit), unbroken(words), tuple(notes), in_force=limit == tradeoff.limit
            )
        )
    return found


def _stops(tradeoff: Tradeoff, limit: float) -> str:
    if not tradeoff.windows:
        return "no past window is known"
    stopped = len(tradeoff.stopped(limit))
    return f"stops {stopped if stopped else 'none'} of {counted(tradeoff.windows, 'window')}"


def _catches(tradeoff: Tradeoff, limit: float, caught: Sequence[tuple[str, str]]) -> str:
    if not tradeoff.tried:
        return "what faults it catches is not measured"
    if tradeoff.speaks_of_nothing(limit):
        return "stops the window of the trial without a fault too"
    if not caught:
        return "catches none of the planted faults"
    named = [f"“{name}” from {words}" for name, words in caught[:FAULTS_NAMED]]
    more = [f"{len(caught) - FAULTS_NAMED} more"] if len(caught) > FAULTS_NAMED else []
    return f"catches {listed([*named, *more])}"


def _past(choice: LimitChoice) -> PastChoice:
    to = "back to the file's" if choice.at_most is None else f"to {number(choice.at_most)}"
    known = ""
    if choice.windows:
        known = (
            f"Of {counted(choice.windows, 'window')} known then, the limit before stopped {choice.stopped_before},"
            f" this one {choice.stopped_after}."
        )
    changed = [fault for fault in choice.smallest if fault["before"] != fault["after"]]
    for fault in changed[:FAULTS_NAMED]:
        before, after = (fault[when] or "at no strength" for when in ("before", "after"))
        known += f" Caught of “{fault['fault']}”: before {before}, now {after}."
    return PastChoice(choice, f"from {number(choice.before)} {to}", unbroken(known.strip()))


def number(value: float) -> str:
    """``0.05``, ``2.5``, ``20,000``: three digits."""
    text = f"{value:.3g}"
    return f"{value:,.0f}" if "e" in text and value >= 1 else text
