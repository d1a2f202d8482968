"""How a surface has its windows checked and its challengers evaluated, as its declaration says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from monitoring.checks.limits import Limits

Judging = Literal["tail", "progressive"]


@dataclass(frozen=True)
class Terms:
    """How a surface has its windows checked and its challengers evaluated."""

    judging: Judging
    features: tuple[str, ...]
    """[D], the names of the dense features."""

    schema_version: str
    """Of served rows."""

    contexts: Mapping[str, str]
    """What of the impressions' context is looked at by value: names, and their keys there."""

    limits: Limits
    margin: float
    """A challenger is not worse when its log loss is higher by less than this share."""

    numbers: tuple[str, ...] = ()
    """Those of ``features`` that are a team's own values as they are: columns of numbers, and views."""

    drift: float = 1.0
    """A column's PSI over its own limit, at most."""

    fairness: str | None = None
    """One of ``contexts``, or a column of the frame, whose values must be treated alike."""
