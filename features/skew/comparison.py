"""Rows as served against rows as joined: which features differ, on how many impressions, and by how much at worst."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import psycopg
from numpy.typing import NDArray

from features.declare.schema import RowSchema

TOLERANCE = 0.02
"""Difference of a dense value that counts. They are logs and log-odds, so it is 2 %; as float16 they round by 0.4 %."""

HISTORY = "history"
"""Name under which the user's last items are compared."""

Row = tuple[NDArray[np.float16], NDArray[np.int64], NDArray[np.int64]]
"""Dense values (D,), ids (K,), last items (L,) of one impression."""


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
    schema: RowSchema, names: Sequence[str], served: Sequence[bytes], joined: Sequence[Row]
) -> dict[str, FeatureDifference]:
    """The features that differ, of N impressions."""
    dense, ids, history = schema.unpack(served)
    our_dense, our_ids, our_history = (np.stack(part) for part in zip(*joined, strict=True))
    theirs, ours = dense.astype(np.float64), our_dense.astype(np.float64)
    their_keys, our_keys = np.column_stack([ids, history[:, :1]]), np.column_stack([our_ids, our_history[:, :1]])
    with np.errstate(invalid="ignore"):  # infinity less infinity; equal ones do not differ
        gap = np.where(np.isnan(theirs) | np.isnan(ours), np.inf, np.abs(theirs - ours))
    gap[(theirs == ours) | (np.isnan(theirs) & np.isnan(ours))] = 0.0
    sizes = np.column_stack([gap, ids != our_ids, (history != our_history).sum(axis=1)])  # [N, columns]
    limits = np.zeros(sizes.shape[1])
    limits[: len(schema.dense)] = TOLERANCE
    found = {}
    for column, name in enumerate([*schema.dense, *schema.ids, HISTORY]):
        count = int((sizes[:, column] > limits[column]).sum())
        if not count:
            continue
        worst, key = int(np.argmax(sizes[:, column])), column - len(schema.dense)
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
