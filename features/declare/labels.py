"""The labels of a surface: which kinds of feedback its model predicts, and what of them counts.

    Label("click")                                              # it happened, within five minutes
    Label("rating", at_least=4)
    Label("purchase", within=timedelta(days=7), of="value", most=200, weight=10)

The first one is what a user's state counts as a click. Several are predicted side by side, and an impression is scored
by their mean, weighted; so is the label that ranking is judged by. Counters may count each (``Family.kind``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, LiteralString, get_args

import numpy as np
from numpy.typing import NDArray

from features.declare.expected import is_kind, is_number, is_span
from features.declare.feedback import HORIZON

Counted = Literal["event", "value"]

COUNTS: LiteralString = "f.value > 0 AND f.value >= {at_least} AND f.at BETWEEN i.shown_at AND i.shown_at + {within}"
"""In SQL: whether feedback ``f`` of a label's kind counts for its impression ``i``; ``Label.parameters`` fill it."""

TARGET: LiteralString = "CASE WHEN {of_value} THEN least(f.value / {most}, 1) ELSE 1 END"
"""In SQL: what it counts as, 0 to 1."""


@dataclass(frozen=True)
class Label:
    """The target of one head of the model, from one kind of feedback; 0 to 1."""

    kind: str
    """``click``, ``purchase``, ``rating``, ...: as feedback names it."""

    within: timedelta = timedelta(minutes=5)
    """How long after the showing it may come and still count. The watermark trails by the longest of a surface."""

    at_least: float | None = None
    """The value from which on it counts; None: any above 0."""

    of: Counted = "event"
    """``event``: that it happened, 1. ``value``: its value as a share of ``most``, 1 at the most."""

    most: float = 100.0
    """With ``value``: what counts as 1."""

    weight: float = 1.0
    """In the score. With 0 it is predicted and counted, and does not rank."""

    def __post_init__(self) -> None:
        about = f"Label({self.kind!r})"
        if not is_kind(self.kind):
            raise ValueError(
                f"{about}: the kind must be a lower-case word such as click or dwell, of letters, digits and _, 64 at"
                " most, and not impression"
            )
        if not is_span(self.within, HORIZON):
            raise ValueError(
                f"{about}: within={self.within!r} must be a timedelta of nothing to {HORIZON.days} days; what comes"
                " after is not taken"
            )
        if self.at_least is not None and not (is_number(self.at_least) and self.at_least > 0):
            raise ValueError(
                f"{about}: at_least={self.at_least!r} must be a number above 0: a value of 0 or below says that it did"
                " not happen"
            )
        if self.of not in get_args(Counted):
            raise ValueError(f"{about}: of={self.of!r} must be one of {', '.join(get_args(Counted))}")
        if not (is_number(self.most) and self.most > 0):
            raise ValueError(f"{about}: most={self.most!r} must be a number above 0")
        if not (is_number(self.weight) and self.weight >= 0):
            raise ValueError(f"{about}: weight={self.weight!r} must be a number, 0 or above")

    def parameters(self) -> dict[str, float | bool | timedelta]:
        """What ``COUNTS`` and ``TARGET`` are filled with."""
        return {
            "at_least": self.at_least or 0.0,
            "within": self.within,
            "of_value": self.of == "value",
            "most": float(self.most),
        }

    def targets(
        self, value: NDArray[np.float64], at: NDArray[np.float64], shown_at: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What feedback (N,) of this kind counts as, 0 where it does not; times in seconds, to the microsecond, which
        is what the log holds: seconds since 1970 as floats are exact to half of one."""
        value = np.asarray(value, np.float64)
        after = np.rint((np.asarray(at) - np.asarray(shown_at)) * 1e6)
        within = (after >= 0) & (after <= self.within // timedelta(microseconds=1))
        counts = within & (value > 0) & (value >= (self.at_least or 0.0))
        worth = np.minimum(value / self.most, 1.0) if self.of == "value" else np.ones(value.shape)
        return np.where(counts, worth, 0.0)


def combined(targets: NDArray[np.float32], labels: Sequence[Label]) -> NDArray[np.float32]:
    """The label (N,) that ranking is judged by, of the targets (N, kinds): their weighted mean."""
    weights = np.array([label.weight for label in labels])
    mean: NDArray[np.float64] = targets @ (weights / weights.sum())
    return mean.astype(np.float32)
