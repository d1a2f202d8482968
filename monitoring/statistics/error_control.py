"""How strict the next test must be, so that few of all promotions asked *better* are false, however many come.

    level = lord(past, risk=0.05)          # promote when the candidate's p-value is at most this
    past = past.add(p_value, promoted=p_value <= level)

The promise: of the candidates promoted as better, at most the share `risk` in expectation is not. When no candidate
ever is better, that is the chance that even one is promoted. A surface chooses by naming the function; three are here:

`lord` is the default. `benchmarks/gate_simulations.py` runs all three on 2,000 equal candidates, heavy tails and
all: each holds the promise, and a challenger better by 1 % on 4,000 requests that comes as the 500th after 499 equal
ones is promoted most often by `lord`. `saffron` catches up where many candidates are better: those with small p-values
cost it nothing. `e_lond` takes e-values and holds under any dependence between candidates, for a third less power.
`lord` and `saffron` ask that a p-value be honest given all that came before, which fresh impressions give.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

DELAY, DECAY = 500, 2.0
"""Weight of the j-th test after a promotion: (j + DELAY)^-DECAY. Nearly flat over the first hundreds, since no
candidate deserves more than another, and then so slow that power falls but never runs out: after 5,000 tests without
a promotion the level is a hundredth of the first, which costs 1.1 standard errors."""

FIRST = 0.9
"""The share of the risk that may be spent before the first promotion. The first gives back the rest, others all."""

SMALL = 0.5
"""SAFFRON's lambda: a p-value up to this costs nothing."""


@dataclass(frozen=True)
class Past:
    """What came of the tests so far: enough for each of the three.

    `promoted`: the numbers (from 1) of the tests that promoted. `small`: how many p-values were at most `SMALL`;
    `small_at[j]`: how many they were up to and with the j-th promotion.
    """

    tested: int = 0
    promoted: tuple[int, ...] = ()
    small: int = 0
    small_at: tuple[int, ...] = ()

    def add(self, p_value: float, *, promoted: bool) -> Self:
        """With one more test. `promoted`: by the test; what a person or another check did later is no matter."""
        number, small = self.tested + 1, self.small + (p_value <= SMALL)
        past = replace(self, tested=number, small=small)
        if not promoted:
            return past
        return replace(past, promoted=(*self.promoted, number), small_at=(*self.small_at, small))

    def as_dict(self) -> dict[str, Any]:
        return {
            "tested": self.tested,
            "promoted": list(self.promoted),
            "small": self.small,
            "small_at": list(self.small_at),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        return cls(int(kept["tested"]), tuple(kept["promoted"]), int(kept["small"]), tuple(kept["small_at"]))


Control = Callable[[Past, float], float]
"""The level of the next test, given the past and the risk."""


def lord(past: Past, risk: float) -> float:
    """LORD++ (Ramdas, Yang, Wainwright & Jordan 2017, "Online control of the false discovery rate with decaying
    memory"; after Javanmard & Montanari 2018)."""
    following = past.tested + 1
    level = FIRST * risk * _weight(following)
    for earlier, number in enumerate(past.promoted):
        level += (risk if earlier else (1 - FIRST) * risk) * _weight(following - number)
    return level


def saffron(past: Past, risk: float) -> float:
    """SAFFRON (Ramdas, Zrnic, Wainwright & Jordan 2018), with lambda = `SMALL`: only tests with larger p-values pay."""
    following = past.tested + 1
    wealth = (1 - SMALL) * risk
    level = FIRST * wealth * _weight(following - past.small)
    for earlier, (number, small) in enumerate(zip(past.promoted, past.small_at, strict=True)):
        share = wealth if earlier else (1 - FIRST) * wealth
        level += share * _weight(following - number - (past.small - small))
    return min(SMALL, level)


def e_lond(past: Past, risk: float) -> float:
    """e-LOND (Xu & Ramdas 2024, "Online multiple testing with e-values"): promote when the e-value is 1 / level."""
    return risk * _weight(past.tested + 1) * (len(past.promoted) + 1)


def _weight(number: int) -> float:
    """The weight of test `number` >= 1. All of them sum to 1 at most: the integral bounds a convex sum from above."""
    whole = (DELAY + 0.5) ** (1 - DECAY) / (DECAY - 1)
    return float((number + DELAY) ** -DECAY / whole)
