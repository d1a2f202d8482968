"""Skew over a window: how far the feature values that serving logged are from those the log gives.

The fold's probes measure it (``features/skew/probes.py``); this adds up those that fell into the window.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

import psycopg

WORST = 10
"""Features named."""

PROBES = """
SELECT impressions, without_row, left_out, columns, differing FROM skew
WHERE surface = %s AND last_shown > %s AND last_shown <= %s ORDER BY skew_id
"""


class Probed(TypedDict):
    """What a probe found of one feature, as the log keeps it."""

    impressions: int
    served: float | None
    joined: float | None
    impression_id: str


@dataclass(frozen=True)
class SkewedFeature:
    """A feature served otherwise than the log gives it, and the values of the impression where it differs most."""

    feature: str
    share: float
    """Of the impressions compared."""

    served: float | None
    joined: float | None
    impression_id: str


@dataclass(frozen=True)
class Skew:
    """Feature values as served against those the log gives."""

    probes: int = 0
    rows: int = 0
    """Impressions compared."""

    without_row: int = 0
    """Sampled, but their served row is missing or of another schema version."""

    left_out: int = 0
    """Read as of a state older than the probe knew, so nothing can be said; many of them mean that serving follows the
    log late."""

    values: int = 0
    differing_share: float | None = None
    """Of the values; None where nothing was compared."""

    worst: tuple[SkewedFeature, ...] = ()
    """Those that differ on most impressions."""


def skew(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> Skew:
    """What the probes found that ended in ``(start, end]``."""
    probes = connection.execute(PROBES, [surface, start, end]).fetchall()
    rows = without_row = left_out = values = 0
    counts: Counter[str] = Counter()
    largest: dict[str, Probed] = {}
    for impressions, missing, older, columns, differing in probes:
        rows, without_row, left_out = rows + impressions, without_row + missing, left_out + older
        values += impressions * columns
        features: Mapping[str, Probed] = differing
        for name, found in features.items():
            counts[name] += found["impressions"]
            if name not in largest or _gap(found) > _gap(largest[name]):
                largest[name] = found
    worst = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:WORST]
    return Skew(
        probes=len(probes),
        rows=rows,
        without_row=without_row,
        left_out=left_out,
        values=values,
        differing_share=counts.total() / values if values else None,
        worst=tuple(
            SkewedFeature(
                name,
                count / rows,
                served=largest[name]["served"],
                joined=largest[name]["joined"],
                impression_id=largest[name]["impression_id"],
            )
            for name, count in worst
        ),
    )


def _gap(found: Probed) -> float:
    """How far the values are apart; a value that is no number is further than any other."""
    served, joined = found["served"], found["joined"]
    return float("inf") if served is None or joined is None else abs(served - joined)
