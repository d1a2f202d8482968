"""Rows as served against rows as joined: which features differ, on how many impressions, and by how much at worst."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import psycopg

from features.declare.schema import RowSchema, RowValues

TOLERANCE = 0.02
"""Difference of a dense value that counts. They are logs and log-odds, so it is 2 %; as float16 they round by 0.4 %."""


@dataclass(frozen=True)
class FeatureDifference:
    """Where one feature differs."""

    impressions: int
    impression_id: str
    """The impression that differs most."""
    served: float | None
    joined: float | None
    """Values of that impression, None where they are no finite number; keys where the feature is an id."""


@dataclass(frozen=True)
class ServedComparison:
    """What a probe found."""

    first_shown: datetime
    last_shown: datetime
    impressions: int
    """Compared."""
    without_row: int
    """Sampled, but their served row is missing or of another schema version."""
    left_out: int
    """Live, but read as of a state older than the probe's: nothing can be said."""
    columns: int
    """Values of a row: dense ones, ids, and the last items taken as one."""
    differing: dict[str, FeatureDifference]


def differing(
    schema: RowSchema, names: Sequence[str], served: Sequence[bytes], joined: RowValues
) -> dict[str, FeatureDifference]:
    """The features that differ, of N impressions."""
    logged = schema.unpack(served)
    theirs, ours = (np.column_stack([rows.dense, rows.numbers]).astype(np.float64) for rows in (logged, joined))
    their_keys, our_keys = (np.column_stack([rows.ids, rows.history[:, :1]]) for rows in (logged, joined))
    with np.errstate(invalid="ignore"):  # infinity less infinity; equal ones do not differ
        gap = np.where(np.isnan(theirs) | np.isnan(ours), np.inf, np.abs(theirs - ours))
    gap[(theirs == ours) | (np.isnan(theirs) & np.isnan(ours))] = 0.0
    last = (logged.history != joined.history).sum(axis=1)
    sizes = np.column_stack([gap, logged.ids != joined.ids, last])  # [N, columns]
    limits = np.zeros(sizes.shape[1])
    limits[: len(schema.dense)] = TOLERANCE
    found = {}
    for column, name in enumerate(schema.columns):
        count = int((sizes[:, column] > limits[column]).sum())
        if not count:
            continue
        worst, key = int(np.argmax(sizes[:, column])), column - gap.shape[1]
        if key < 0:
            their, our = _finite(theirs[worst, column]), _finite(ours[worst, column])
        else:
            their, our = int(their_keys[worst, key]), int(our_keys[worst, key])
        found[name] = FeatureDifference(count, names[worst], their, our)
    return found


def write(connection: psycopg.Connection, surface: str, schema_version: str, comparison: ServedComparison) -> None:
    """Append what a probe found."""
    by_feature = {name: asdict(found) for name, found in comparison.differing.items()}
    connection.execute(
        "INSERT INTO skew (surface, schema_version, first_shown, last_shown, impressions, without_row, left_out,"
        " columns, differing) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            surface,
            schema_version,
            comparison.first_shown,
            comparison.last_shown,
            comparison.impressions,
            comparison.without_row,
            comparison.left_out,
            comparison.columns,
            json.dumps(by_feature),
        ],
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
