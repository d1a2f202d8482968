"""How large a fault must be before a check or guardrail speaks, and how often each speaks on windows that are sound.

    measured = measure(surface, log, Plan(), clock=time.perf_counter, progress=print)
    measured.trial               # what the desk draws (``monitoring/gate/sensitivity.py``)

A drill of the log's last part, in windows as updates of the surface claim them, that plants every fault at rising
strengths. What each window needs of every limit is kept, so that nothing has to be replayed for another limit.
"""

import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from flows.drill import drill
from flows.drill.cadence import Cadence
from flows.drill.drill import Drilled, Planted, Progress
from flows.drill.faults import FAULTS, Fault, Story
from flows.drill.in_memory import JudgedWindow
from flows.drill.life import DAY, Life, Trained, life_of
from flows.drill.logs import Log, LogTooShort
from flows.steps.publish import STATE_OF
from flows.surface import Surface
from monitoring.evaluation.history import CHECK
from monitoring.gate.memory import needed
from monitoring.gate.sensitivity import PastNeeds, PlantedFault, Strength, Trial
from monitoring.sentences import percent
from monitoring.statistics.sequential import Moments

STALE = 24
"""Windows by which the champion of the fault of new readers is behind: fewer than in a drill, since each is trained on
again and again."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    windows: int = 144
    """At most so many windows of the surface's own length, the log's last, after a warm-up of a day or more."""

    faults: tuple[Fault | Story, ...] = FAULTS
    seed: int = 0
    """Of what the faults draw."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What was measured."""

    life: Life
    trained: Trained
    trial: Trial
    cadence: timedelta
    """Of the windows of the trial."""


def measure(surface: Surface, log: Log, plan: Plan, *, clock: Callable[[], float], progress: Progress) -> Sensitivity:
    """Measure both ways in which this surface's limits are wrong on a log. Raises LogTooShort."""
    life = life_of(surface, log)
    if not life.updates:
        raise LogTooShort(
            f"{log.name} has {life.impressions:,} impressions, and an update of {surface.name} waits for"
            f" fewest={surface.fewest:,}: name a longer log, or a smaller fewest"
        )
    own, length = _whole_ticks(life.cadence, surface), log.shown["shown_at"][-1] - log.shown["shown_at"][0]
    warmup = min(max(DAY, plan.windows * own / 4), length / 2)
    recent = log.after(log.shown["shown_at"][-1] - warmup - plan.windows * own)
    faults = tuple(
        replace(fault, strengths=ladder(fault))
        for fault in plan.faults
        if isinstance(fault, Fault) and "promote" not in fault.expected
    )
    drilled = drill.Plan(Cadence(own, warmup), own_pace=timedelta(0), faults=faults, seed=plan.seed, stale=STALE)
    done = drill.drill(surface, recent, drilled, clock=clock, progress=progress)
    return Sensitivity(life, trained(done), trial(surface, log.name, done), own)


def trained(done: Drilled) -> Trained:
    """What the updates of a drill say of a surface's life."""
    evidence = [judged.evidence for judged in done.updates]
    gains = [each.process_after.moments for each in evidence if each.process_after is not None]
    rates = [each.cost.examples_per_s for each in evidence if each.cost is not None and each.cost.examples_per_s]
    return Trained(
        done.first_model,
        done.before_it,
        gains[-1] if gains else Moments(),
        statistics.median(rates) if rates else None,
        statistics.median(done.seconds) if done.seconds else None,
    )


def trial(surface: Surface, log: str, done: Drilled) -> Trial:
    """What a drill says of limits: its clean windows, of those held one after another the last, and its faults."""
    last = {judged.checks.window.start: judged for judged in done.updates}
    windows = tuple(_past_needs(surface, judged) for judged in last.values())
    scene = {} if done.scene is None else needed(surface.policy, done.scene.evidence)
    by_fault: dict[str, list[Planted]] = {}
    for planted in done.planted:
        by_fault.setdefault(planted.fault, []).append(planted)
    return Trial(log, windows, scene, tuple(_planted(name, strengths) for name, strengths in by_fault.items()))


def _past_needs(surface: Surface, judged: JudgedWindow) -> PastNeeds:
    state = STATE_OF[judged.verdict.verdict]
    return PastNeeds(judged.window.end, needed(surface.policy, judged.evidence), state=state)


def _planted(name: str, strengths: list[Planted]) -> PlantedFault:
    steps = tuple(Strength(planted.strength, dict(_moved(planted))) for planted in strengths)
    # Another champion moves much by itself.
    return PlantedFault(name, steps, steps[0].needs if strengths[0].other_champion else None)


def _moved(planted: Planted) -> Iterator[tuple[str, float]]:
    """What its data checks say is nothing of a fault of training."""
    for code, need in planted.needs.items():
        if planted.of_window or not code.startswith(CHECK):
            yield code, need


def ladder(fault: Fault) -> dict[str, float]:
    """Rising strengths of a fault, from well below the weaker of its two to the stronger, in words."""
    if fault.ladder is not None:
        values = fault.ladder
    else:
        weak, strong = min(fault.strengths.values()), max(fault.strengths.values())
        values = (weak / 4, weak / 2, weak, (weak * strong) ** 0.5, strong)
    return {strength_in_words(value, fault.strengths): value for value in values}


def strength_in_words(value: float, named: Mapping[str, float]) -> str:
    """As those that have a name: "2 % of the requests" for one gives "0.5 % of the requests" for another."""
    for words, other in named.items():
        if value == other:
            return words
    for words, other in named.items():
        for text, new in ((percent(other), percent(value)), (f"{other:g}", f"{value:.2g}")):
            if re.search(rf"(?<![\d.]){re.escape(text)}(?![\d.])", words):
                return words.replace(text, new)
    weakest = min(named, key=lambda words: named[words])
    found, places = re.subn(r"\b(all|half|a third|a quarter|a tenth)\b", percent(value), weakest)
    return found if places else f"{value:.2g} ({weakest}: {named[weakest]:g})"


def _whole_ticks(length: timedelta, surface: Surface) -> timedelta:
    """As many whole ticks of the fold, of which a window must be."""
    tick = timedelta(seconds=surface.features.tick)
    return max(round(length / tick), 1) * tick
