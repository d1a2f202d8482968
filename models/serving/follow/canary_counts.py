"""What became of the requests of a canary and of its control: counted in memory, now and then brought to PostgreSQL.

The guardrails of ``monitoring/live/canary.py`` read them. Each process has a row an arm in the table ``canary_counts``
with its sums since the canary began; nothing here is on the path of a request but a few additions.
"""

import math
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import psycopg
from numpy.typing import NDArray

from models.serving.telemetry import Metrics
from models.versions.canaries import SCORE_BINS, Arm

REMEMBERED = 2000
"""Requests by whose times the champion is known."""

FEWEST = 100
"""Fewer of them have no 99th percentile worth the name."""

WRITE = """
INSERT INTO canary_counts (canary_id, process, arm, answered, errors, empty, slow, scores, slow_after_s)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (canary_id, process, arm) DO UPDATE SET answered = EXCLUDED.answered, errors = EXCLUDED.errors,
    empty = EXCLUDED.empty, slow = EXCLUDED.slow, scores = EXCLUDED.scores, slow_after_s = EXCLUDED.slow_after_s,
    counted_at = clock_timestamp()
"""

KNOWN = "SELECT max(slow_after_s) FROM canary_counts WHERE canary_id = %s"


class Pace:
    """How long the champion's own requests take here. Any thread may add."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def slow(self) -> float | None:
        """Their 99th percentile; None while too few are known."""
        known = list(self._seconds)
        return float(np.quantile(known, 0.99)) if len(known) >= FEWEST else None


@dataclass
class ArmCounts:
    """Of one arm; those with an error, without an item and slow are among the answered."""

    answered: int = 0
    errors: int = 0
    empty: int = 0
    slow: int = 0
    scores: NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))


class CanaryCounts:
    """One canary's, in this process. Any thread may add."""

    def __init__(self, surface: str, canary_id: int, pace: Pace, metrics: Metrics) -> None:
        self.canary_id = canary_id
        self._surface = surface
        self._metrics = metrics
        self._process = uuid.uuid4().hex  # a restart counts from 0, under another name
        self._pace = pace
        self._lock = threading.Lock()
        self._arms: dict[Arm, ArmCounts] = {"canary": ArmCounts(), "control": ArmCounts()}
        self._slow_after_s: float | None = None
        self._changed = False

    def add(
        self, arm: Arm, *, seconds: float | None, scores: Sequence[float] | NDArray[np.floating], failed: bool = False
    ) -> None:
        """One request of an arm: how long it took (None: not at all), and the scores of what it showed."""
        bins = np.zeros(SCORE_BINS, np.int64)
        if len(scores):
            places = np.clip((np.asarray(scores, np.float64) * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
            bins = np.bincount(places, minlength=SCORE_BINS)
        self._metrics.canary_requests.labels(self._surface, arm, "error" if failed else "answered").inc()
        slow = seconds is not None and seconds > (self._slow_after_s or math.inf)
        with self._lock:
            counts = self._arms[arm]
            counts.answered += 1
            counts.errors += failed
            counts.empty += not failed and not len(scores)
            counts.slow += slow
            counts.scores += bins
            self._changed = True

    def of(self, arm: Arm) -> ArmCounts:
        """What was counted so far."""
        return self._arms[arm]

    def settle(self, connection: psycopg.Connection) -> None:
        """Learn what is slow, once: as processes of before have it, or by the champion's own pace here."""
        if self._slow_after_s is None:
            row = connection.execute(KNOWN, [self.canary_id]).fetchone()
            self._slow_after_s = row[0] if row and row[0] is not None else self._pace.slow()

    def write(self, connection: psycopg.Connection) -> None:
        """Bring the sums to PostgreSQL, where they have changed since. The connection is in autocommit mode."""
        with self._lock:
            if not self._changed:
                return
            rows = [
                [
                    *(self.canary_id, self._process, arm, each.answered, each.errors, each.empty, each.slow),
                    *(each.scores.tolist(), self._slow_after_s),
                ]
                for arm, each in self._arms.items()
            ]
            self._changed = False
        try:
            for row in rows:
                connection.execute(WRITE, row)
        except BaseException:
            self._changed = True
            raise
