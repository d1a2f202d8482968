"""Two ways in which a limit can be wrong: it stops windows that are sound, and it lets faults pass.

    tradeoff = Tradeoff.made(limit, in_force, windows, trial)
    tradeoff.stopped(1.5)            # of the past windows, those that need more
    tradeoff.caught(1.5)             # by fault: the smallest strength at which the window needs more
    tradeoff.candidates()            # limits between which something changes

Each window says how far a limit would have to be for it to pass (``monitoring/gate/memory.needed``); so does a window
into which a fault is planted (``flows/drill/sensitivity.py``). That is all that is needed to say what another limit
would have done.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from monitoring.checks.limits import Limits
from monitoring.evaluation.history import CHECK, Recalled
from monitoring.gate.adjustable import Adjustable, LimitsInForce

CANDIDATES = 12
"""Limits that a person chooses among."""

FEWEST = 5
"""Below so many, limits around the one in force are added."""

ALIKE = 1.03
"""Limits within this ratio of each other are one."""


COSTS = ("scoring_time", "size")
"""What no planted fault moves but by chance: the machine was busy."""


@dataclass(frozen=True)
class PastNeeds:
    """A past window, and the least limits with which it passes, by the finding's code."""

    end: datetime
    needs: Mapping[str, float]

    update_id: int | None = None
    """None: of a log that was replayed."""

    state: str = ""
    """What became of the update."""


@dataclass(frozen=True)
class Strength:
    """A fault planted at one strength, and the least limits with which the window passes."""

    words: str
    """``2 % of the requests``."""

    needs: Mapping[str, float]


@dataclass(frozen=True)
class PlantedFault:
    """A fault at rising strengths."""

    name: str
    strengths: tuple[Strength, ...]

    before: Mapping[str, float] | None = None
    """Needs of what the update would have met without the fault; None: those of the trial's window."""


@dataclass(frozen=True)
class Trial:
    """What replaying a log and planting faults into it gave."""

    log: str
    windows: tuple[PastNeeds, ...]
    """Clean ones, the newest last."""

    scene: Mapping[str, float]
    """Needs of the window that faults were planted into, without one."""

    faults: tuple[PlantedFault, ...]


@dataclass(frozen=True)
class Moved:
    """What a limit makes of one fault, at rising strengths."""

    fault: str
    steps: tuple[tuple[str, float | None], ...]
    """Strength in words, and what the window then needs; None where that could not be measured."""

    def smallest(self, at_most: float) -> str | None:
        """The strength from which on the limit is passed; None where the strongest passes it too."""
        found = None
        for words, need in reversed(self.steps):
            if need is None:
                continue
            if need <= at_most:
                break
            found = words
        return found

    def threshold(self, place: int) -> float | None:
        """Below this a limit catches the strength at `place` and all that are stronger."""
        needs = [need for _, need in self.steps[place:] if need is not None]
        return min(needs) if needs and self.steps[place][1] is not None else None


@dataclass(frozen=True)
class Effect:
    """What a limit does: on the past windows, and to planted faults."""

    at_most: float
    stopped: int
    windows: int
    caught: tuple[tuple[str, str | None], ...]
    """By fault that moves the figure: the smallest strength that is caught; None where none is."""


@dataclass(frozen=True)
class Tradeoff:
    """One limit between its two ways of being wrong."""

    of: Adjustable
    limit: float
    """In force."""

    source: str
    unchosen: float
    """In force where nobody had chosen."""

    needs: tuple[tuple[PastNeeds, float], ...]
    """Past windows on which it was measured, and what they need, the newest first."""

    tried: bool
    """Whether faults were planted."""

    scene: float | None
    """What the window needs without a fault."""

    faults: tuple[Moved, ...]
    """Those that move the figure."""

    @classmethod
    def made(
        cls, of: Adjustable, in_force: LimitsInForce, windows: Sequence[PastNeeds], trial: Trial | None
    ) -> "Tradeoff":
        """`windows`: past ones, the newest first."""
        measured = [(window, of.need(window.needs)) for window in windows]
        scene = None if trial is None else of.need(trial.scene)
        planted = () if trial is None or of.code in COSTS else trial.faults
        moved = [
            (
                Moved(fault.name, tuple((step.words, of.need(step.needs)) for step in fault.strengths)),
                scene if fault.before is None else of.need(fault.before),
            )
            for fault in planted
        ]
        return cls(
            of,
            in_force.limit(of),
            in_force.source(of),
            in_force.unchosen(of),
            tuple((window, need) for window, need in measured if need is not None),
            trial is not None,
            scene,
            tuple(fault for fault, before in moved if _moves(fault, before, factor=of.factor)),
        )

    def stopped(self, at_most: float) -> list[PastNeeds]:
        """The past windows that such a limit stops, the newest first."""
        return [window for window, need in self.needs if need > at_most]

    @property
    def windows(self) -> int:
        return len(self.needs)

    def caught(self, at_most: float) -> list[tuple[str, str]]:
        """The smallest strength of each fault that such a limit catches; nothing where it stops the window without a
        fault too."""
        if self.speaks_of_nothing(at_most):
            return []
        found = [(fault.fault, fault.smallest(at_most)) for fault in self.faults]
        return [(name, words) for name, words in found if words is not None]

    def speaks_of_nothing(self, at_most: float) -> bool:
        """Whether such a limit stops the window that faults are planted into without any."""
        return self.scene is not None and self.scene > at_most

    def effect(self, at_most: float) -> Effect:
        caught = dict(self.caught(at_most))
        return Effect(
            at_most,
            len(self.stopped(at_most)),
            self.windows,
            tuple((fault.fault, caught.get(fault.fault)) for fault in self.faults),
        )

    def stopping(self, share: float) -> float | None:
        """The least limit that stops no more than this share of the past windows, infinite where none does; None where
        no window is known."""
        needs = sorted((need for _, need in self.needs), reverse=True)
        if not needs:
            return None
        need = max(needs[math.floor(share * len(needs))], 1.0 if self.of.factor else 0.0)
        return _rounded(need, up=True) if math.isfinite(need) else math.inf

    def candidates(self) -> list[float]:
        """Limits between which something changes, and those in force with and without a choice: rising, `CANDIDATES` at
        most."""
        found = sorted({value for value in (self.limit, self.unchosen) if self.of.fault(value) is None})
        base = found[-1] if found else 1.5 if self.of.factor else 0.1
        low, high = (1 + (base - 1) / 20, 1 + (base - 1) * 8) if self.of.factor else (base / 50, base * 8)
        low = max(low, self.scene or 0.0)
        quantiles = [self.stopping(share) for share in (0, 1 / 200, 1 / 100, 1 / 50, 1 / 20, 1 / 10)]
        high = max([high, *(value for value in quantiles if value is not None and math.isfinite(value))])
        places = range(max((len(fault.steps) for fault in self.faults), default=0))
        thresholds = [fault.threshold(place) for place in places for fault in self.faults if place < len(fault.steps)]
        below = [_rounded(least, up=False) for least in thresholds if least is not None and low < least < high]
        for value in (*quantiles, *sorted(below, key=lambda value: abs(math.log(value / base)))):
            if value is not None and low <= value <= high and self._new(value, found):
                found.append(value)
        if len(found) < FEWEST:
            spread = (0.7, 1.5, 0.5, 2.0)
            values = (1 + (base - 1) * share if self.of.factor else base * share for share in spread)
            found += [value for value in (_rounded(value, up=True) for value in values) if self.of.fault(value) is None]
        return sorted(set(found))

    def _new(self, value: float, found: Sequence[float]) -> bool:
        """Whether there is room for one more, and it does something that none of those found does."""
        if len(found) >= CANDIDATES or self.of.fault(value) is not None:
            return False
        if any(_alike(value, other, factor=self.of.factor) for other in found):
            return False
        does = replace(self.effect(value), at_most=0.0)
        return all(does != replace(self.effect(other), at_most=0.0) for other in found)


def tradeoffs(
    limits: Sequence[Adjustable], in_force: LimitsInForce, windows: Sequence[PastNeeds], trial: Trial | None
) -> list[Tradeoff]:
    return [Tradeoff.made(of, in_force, windows, trial) for of in limits]


def own_limits(windows: Sequence[PastNeeds], declared: Limits) -> Mapping[str, float]:
    """By data check: the limit that these windows, the newest first, need by chance. What was rejected was no window of
    the surface's."""
    needed: dict[str, list[float]] = {}
    for window in windows:
        if window.state != "rejected":
            for code, need in window.needs.items():
                if code.startswith(CHECK):
                    needed.setdefault(code, []).append(need)
    return Recalled(needed={code: tuple(values) for code, values in needed.items()}).own(declared)


def _moves(fault: Moved, before: float | None, *, factor: bool) -> bool:
    """Whether the fault is seen in the figure at all: at its strongest, by more than a tenth."""
    needs = [need for _, need in fault.steps if need is not None]
    least = 1.0 if factor else 0.0
    return bool(needs) and needs[-1] - least > 1.1 * max((before or least) - least, 0.0) + (0.01 if factor else 1e-9)


def _alike(one: float, other: float, *, factor: bool) -> bool:
    if factor and min(one, other) > 1:
        return max(one - 1, other - 1) < min(one - 1, other - 1) * ALIKE**2
    return max(one, other) < min(one, other) * ALIKE


def _rounded(value: float, *, up: bool) -> float:
    """To three digits, so that it can be read and said."""
    if value <= 0:
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    steps = value / unit
    return float(f"{(math.ceil(steps - 1e-9) if up else math.ceil(steps + 1e-9) - 1) * unit:.6g}")
