"""Figures in words, for reasons that a person reads."""

import math
from collections.abc import Mapping
from typing import Any


def change(gain_share: float) -> str:
    """A gain in log loss in words: "0.8 % lower"."""
    return f"{percent(abs(gain_share))} {'lower' if gain_share >= 0 else 'higher'}"


def percent(share: float) -> str:
    """A share as percent, with the digits it needs: "12 %", "0.8 %", "0.03 %", "99.9 %"."""
    size = 100 * abs(share)
    digits = 1 if 99 < size < 100 else 0 if size >= 10 else 1 if size >= 0.1 or size < 0.005 else 2
    text = f"{100 * share:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"


def sure(paired: Mapping[str, Any]) -> str:
    """The confidence of a comparison's bounds: "95 %"."""
    return percent(paired["confidence"])


def many(count: int, noun: str) -> str:
    """A count with its noun: "1,913 requests"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def rival(quality: Mapping[str, Any]) -> str:
    """What the challenger is compared with."""
    return "champion" if quality["baseline"] == "champion" else "base rate"


def no(value: float | None) -> bool:
    """Whether a figure could not be had."""
    return value is None or not math.isfinite(value)
