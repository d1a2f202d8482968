"""Skew over a window: how far the feature values that serving logged are from those the log gives.

The fold's probes measure it (``features/skew/probes.py``); this adds up those that fell into the window.
"""

from collections import Counter
from datetime import datetime
from typing import Any

import psycopg

WORST = 10
"""Features named."""

PROBES = """
SELECT impressions, without_row, left_out, columns, differing FROM skew
WHERE surface = %s AND last_shown > %s AND last_shown <= %s ORDER BY skew_id
"""


def skew(connection: psycopg.Connection, surface: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Figures of the probes that ended in ``(start, end]``.

    ``rows`` impressions were compared in ``probes``, of ``values`` values the share ``differing_share`` differs; it is
    None where nothing was compared. ``without_row``: sampled, but their served row is missing or of another schema
    version. ``left_out``: read as of a state older than the probe knew, so nothing can be said; many of them mean that
    serving follows the log late. ``worst``: the features that differ on most impressions, the share of these, and the
    values of the one that differs most, as served and as joined.
    """
    probes = connection.execute(PROBES, [surface, start, end]).fetchall()
    rows = without_row = left_out = values = 0
    counts: Counter[str] = Counter()
    largest: dict[str, dict[str, Any]] = {}
    for impressions, missing, older, columns, differing in probes:
        rows, without_row, left_out = rows + impressions, without_row + missing, left_out + older
        values += impressions * columns
        for name, found in differing.items():
            counts[name] += found["impressions"]
            if name not in largest or _gap(found) > _gap(largest[name]):
                largest[name] = found
    return {
        "probes": len(probes),
        "rows": rows,
        "without_row": without_row,
        "left_out": left_out,
        "values": values,
        "differing_share": counts.total() / values if values else None,
        "worst": [
            {"feature": name, "share": count / rows}
            | {key: largest[name][key] for key in ("served", "joined", "impression_id")}
            for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:WORST]
        ],
    }


def _gap(found: dict[str, Any]) -> float:
    """How far the values are apart; a value that is no number is further than any other."""
    served, joined = found["served"], found["joined"]
    return float("inf") if served is None or joined is None else abs(served - joined)
