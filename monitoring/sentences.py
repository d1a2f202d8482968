"""Figures in words, for reasons that a person reads; and words of the log as the text that they are."""

import math
import re
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


def as_text(told: str) -> str:
    """A sentence as text in markdown: what the log calls a region or an item is never a link or a picture."""
    escaped = re.sub(r"([\\`*_\[\]<>!|#~&@$])", r"\\\1", " ".join(told.split()))
    # A bare address would become a link by itself.
    return re.sub(r"(?i)(www)\.", r"\1\\.", re.sub(r":(?=//)", r"\\:", escaped))


def unlinked(told: str) -> str:
    """A sentence for a channel whose markup is not known: no address in it is one, and nothing is fetched for it."""
    text = " ".join(told.split()).replace("](", "] (").replace("<", "‹").replace(">", "›")
    return re.sub(r"(?i)(www)\.", r"\1 .", text.replace("://", ": //"))


def left_out(quality: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Why figures of the challenger or its rival are not there: "MRR, NDCG: no request has more than one candidate"."""
    reasons: dict[str, list[str]] = {}
    for who in ("challenger", "champion"):
        for key, reason in (quality.get(who, {}).get("left_out") or {}).items():
            whose = "" if who == "challenger" else f" of the {rival(quality)}"
            ours = (quality.get("challenger", {}).get("left_out") or {}).get(key)
            if key in names and (who == "challenger" or ours != reason):
                reasons.setdefault(f"{reason}{whose}", []).append(names[key])
    return [f"{', '.join(measures)} left out: {reason}" for reason, measures in reasons.items()]


def no(value: float | None) -> bool:
    """Whether a figure could not be had."""
    return value is None or not math.isfinite(value)
