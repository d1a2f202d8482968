"""How strict the next test must be, so that few of all promotions as *better* are false, however many come.

    level = lord(past, risk=0.05)          # promote when the candidate's p-value is at most this
    past = past.add(promoted=p_value <= level)

The promise: of the candidates promoted as better, at most the share `risk` in expectation is not. When no candidate
ever is better, that is the chance that even one is promoted. It asks that a p-value be honest given all that came
before, which fresh impressions give.

LORD++ was chosen among three (`benchmarks/gate_simulations.py`, 2,000 equal candidates, heavy tails and all): SAFFRON
(Ramdas et al. 2018) and e-LOND (Xu & Ramdas 2024) hold the promise as well, and promoted a challenger better by 1 % on
4,000 requests that came as the 500th after 499 equal ones less often.
"""

from dataclasses import dataclass
from typing import Self

DELAY, DECAY = 500, 2.0
"""Weight of the j-th test after a promotion: (j + DELAY)^-DECAY. Nearly flat over the first hundreds, since no
candidate deserves more than another, and then so slow that power falls but never runs out: after 5,000 tests without
a promotion the level is a hundredth of the first, which costs 1.1 standard errors."""

BEFORE_FIRST = 0.9
"""The share of the risk that may be spent before the first promotion. The first gives back the rest, others all."""


@dataclass(frozen=True)
class PastTests:
    """What came of the tests so far."""

    tested: int = 0
    promoted: tuple[int, ...] = ()
    """The numbers (from 1) of the tests that promoted."""

    def add(self, *, promoted: bool) -> Self:
        """With one more test. `promoted`: by the test; what a person or another check did later does not count."""
        number = self.tested + 1
        return type(self)(number, (*self.promoted, number) if promoted else self.promoted)


def lord(past: PastTests, risk: float) -> float:
    """LORD++ (Ramdas, Yang, Wainwright & Jordan 2017, "Online control of the false discovery rate with decaying
    memory"; after Javanmard & Montanari 2018)."""
    following = past.tested + 1
    level = BEFORE_FIRST * risk * _weight(following)
    for earlier, number in enumerate(past.promoted):
        level += (risk if earlier else (1 - BEFORE_FIRST) * risk) * _weight(following - number)
    return level


def _weight(number: int) -> float:
    """The weight of test `number` >= 1. All of them sum to 1 at most: the integral bounds a convex sum from above."""
    whole = (DELAY + 0.5) ** (1 - DECAY) / (DECAY - 1)
    return float((number + DELAY) ** -DECAY / whole)
