"""Small seeded worlds for the tests of monitoring."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

END = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = END - timedelta(hours=1)
NAMES = tuple(f"feature_{column}" for column in range(12))


@dataclass(frozen=True)
class Window:
    frame: pl.DataFrame
    dense: np.ndarray
    truth: np.ndarray
    """The probability with which each impression's label was drawn."""

    label: np.ndarray
    request: np.ndarray

    def blurred(self, noise: float, seed: int) -> np.ndarray:
        """Predictions whose log-odds are off by a normal error of this size."""
        odds = np.log(self.truth / (1 - self.truth))
        odds = odds + noise * np.random.default_rng(seed).normal(size=len(odds))
        return 1 / (1 + np.exp(-odds))


def window(seed: int = 0, requests: int = 480, candidates: int = 5, shift: float = 0.0) -> Window:
    """A clean hour: `requests` requests of `candidates` impressions, labels drawn from a known probability."""
    random = np.random.default_rng(seed)
    rows = requests * candidates
    request = np.repeat(np.arange(requests), candidates)
    dense = random.normal(size=(rows, len(NAMES))).astype(np.float16)
    dense[:, 0] += np.float16(shift)
    dense[:, 1] = random.integers(0, 4, rows)
    odds = -1.6 + dense[:, :6].astype(np.float64) @ np.array([0.8, 0.1, -0.5, 0.4, 0.3, -0.2])
    truth = 1 / (1 + np.exp(-odds))
    label = (random.random(rows) < truth).astype(np.float32)
    shown = [START + timedelta(seconds=1 + int(code) % 3500) for code in request]
    frame = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(rows)],
            "request_id": [f"r{code}" for code in request],
            "user_id": [f"u{code % 97}" for code in request],
            "item_id": [f"a{row % 31}" for row in range(rows)],
            "shown_at": pl.Series(shown, dtype=pl.Datetime("us", "UTC")),
            "label": label,
            "schema_version": ["v1"] * rows,
        }
    )
    return Window(frame, dense, truth, label, request)
