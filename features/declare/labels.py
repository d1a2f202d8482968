"""The labels of a surface: which kinds of feedback its model predicts, and what of them counts.

    Label("click")                                              # it happened, within five minutes
    Label("rating", at_least=4)
    Label("purchase", within=timedelta(days=7), of="value", most=200, weight=10)

The first one is what a user's state counts as a click. Several are predicted side by side, and an impression is scored
by their mean, weighted; so is the label that ranking is judged by. Counters may count each (``Family.kind``).
"""

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from features.declare.feedback import HORIZON
from features.identity.names import KIND_PATTERN


@dataclass(frozen=True)
class Label:
    """The target of one head of the model, from one kind of feedback; 0 to 1."""

    kind: str
    """``click``, ``purchase``, ``rating``, ...: as feedback names it."""

    within: timedelta = timedelta(minutes=5)
    """How long after the showing it may come and still count. The watermark trails by the longest of a surface."""

    at_least: float | None = None
    """The value from which on it counts; None: any above 0."""

    of: Literal["event", "value"] = "event"
    """``event``: that it happened, 1. ``value``: its value as a share of ``most``, 1 at the most."""

    most: float = 100.0
    """With ``value``: what counts as 1."""

    weight: float = 1.0
    """In the score. With 0 it is predicted and counted, and does not rank."""

    def __post_init__(self) -> None:
        about = f"Label({self.kind!r})"
        if not isinstance(self.kind, str) or not re.fullmatch(KIND_PATTERN, self.kind) or self.kind == "impression":
            raise ValueError(
                f"{about}: the kind must be a lower-case word such as click or dwell, of letters, digits and _, 64 at"
                " most, and not impression"
            )
        if not isinstance(self.within, timedelta) or not timedelta(0) <= self.within <= HORIZON:
            raise ValueError(
                f"{about}: within={self.within!r} must be a timedelta of nothing to {HORIZON.days} days; what comes"
                " after is not taken"
            )
        if self.at_least is not None and not (_is_number(self.at_least) and self.at_least > 0):
            raise ValueError(
                f"{about}: at_least={self.at_least!r} must be a number above 0: a value of 0 or below says that it did"
                " not happen"
            )
        if self.of not in ("event", "value"):
            raise ValueError(f"{about}: of={self.of!r} must be 'event' or 'value'")
        if not (_is_number(self.most) and self.most > 0):
            raise ValueError(f"{about}: most={self.most!r} must be a number above 0")
        if not (_is_number(self.weight) and self.weight >= 0):
            raise ValueError(f"{about}: weight={self.weight!r} must be a number, 0 or above")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
