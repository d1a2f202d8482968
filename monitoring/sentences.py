"""Figures in words, for reasons that a person reads; and words of the log as the text that they are."""

import re


def change(gain_share: float) -> str:
    """A gain in log loss in words: "0.8 % lower"."""
    return f"{percent(abs(gain_share))} {'lower' if gain_share >= 0 else 'higher'}"


def percent(share: float, *, signed: bool = False) -> str:
    """A share as percent, with the digits it needs: "12 %", "0.8 %", "0.03 %", "99.9 %"; signed: "+0.8 %", "−3 %"."""
    size = 100 * abs(share)
    digits = 1 if 99 < size < 100 else 0 if size >= 10 else 1 if size >= 0.1 or size < 0.005 else 2
    text = f"{100 * share:{'+' if signed else ''}.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return (text.replace("-", "−") if signed else text) + " %"


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1,913 requests"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def as_text(sentence: str) -> str:
    """A sentence as text in markdown: what the log calls a region or an item is never a link or a picture."""
    escaped = re.sub(r"([\\`*_\[\]<>!|#~&@$])", r"\\\1", " ".join(sentence.split()))
    # A bare address would become a link by itself.
    return re.sub(r"(?i)(www)\.", r"\1\\.", re.sub(r":(?=//)", r"\\:", escaped))


def unlinked(sentence: str) -> str:
    """A sentence for a channel whose markup is not known: no address in it is one, and nothing is fetched for it."""
    text = " ".join(sentence.split()).replace("](", "] (").replace("<", "‹").replace(">", "›")
    return re.sub(r"(?i)(www)\.", r"\1 .", text.replace("://", ": //"))
