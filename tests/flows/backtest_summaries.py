"""Summaries of backtests that never ran, as JSON, for the tests of what is shown of them."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

BEGAN = datetime(2026, 3, 1, 3, tzinfo=UTC)
STEPS = dict(
    zip(
        ("claim", "join", "check", "test", "fine-tune", "judge", "decide", "publish"),
        (0.02, 0.5, 0.06, 0.2, 1.1, 0.7, 0.03, 0.9),
        strict=True,
    )
)
VERDICTS = ("promote", "promote", "hold", "promote", "promote", "promote", "reject", "promote")


def summary(windows: int = 24, updates: int | None = None, seed: int = 0) -> dict[str, Any]:
    """A day's warm-up, then hours; the first update is the warm-up's. Without updates nothing is better for them."""
    random = np.random.default_rng(seed)
    warm = BEGAN + timedelta(days=1)
    parts: list[dict[str, Any]] = []
    for hour in range(windows):
        wave = 0.01 * math.sin(hour / 4) + random.normal(0, 0.003)
        auc = {
            "champion": 0.843 + wave,
            "features_only": 0.842 - 0.03 * hour / windows + wave,
            "frozen": 0.70 - 0.15 * hour / windows + wave,
        }
        parts.append(
            {
                "start": (warm + timedelta(hours=hour)).isoformat(),
                "end": (warm + timedelta(hours=hour + 1)).isoformat(),
                "impressions": int(9000 + 6000 * math.sin(hour * math.pi / 12)) // 5 * 5,
                "served_by": "model",
                **{arm: _figures(value) for arm, value in auc.items()},
            }
        )
    done: list[dict[str, Any]] = []
    for number in range(windows + 1 if updates is None else updates):
        start, end = warm + timedelta(hours=number - 1), warm + timedelta(hours=number)
        verdict = VERDICTS[number % len(VERDICTS)]
        done.append(
            {
                "window": [(start if number else BEGAN).isoformat(), end.isoformat()],
                "verdict": verdict,
                "reasons": REASONS[verdict],
                "version": str(number + 1),
                "seconds": {
                    step: second * (6.0 if not number and step == "fine-tune" else random.uniform(0.8, 1.4))
                    for step, second in STEPS.items()
                },
            }
        )
    scored = sum(part["impressions"] for part in parts)
    spent = {"import": 11.3, "fold": 21.8, "updates": 3.6 * len(done), "scoring and the rest": 42.0}
    return {
        "log": "log.parquet",
        "impressions": scored + 160_000,
        "scored": scored,
        "champion": _figures(0.846 if len(done) > 1 else 0.827),
        "features_only": _figures(0.827),
        "frozen": _figures(0.612),
        "base_rate": None,
        "windows": parts,
        "updates": done,
        "dead_letters": 3,
        "seconds": round(sum(spent.values()), 3),
        "seconds_by_part": spent,
    }


def _figures(auc: float) -> dict[str, float]:
    return {
        "auc": auc,
        "log_loss": 0.50 - 0.55 * (auc - 0.5) ** 1.5,
        "normalised_entropy": 1 - 1.1 * (auc - 0.5) ** 1.5,
        "calibration_error": 0.006 + 0.1 * (0.86 - auc),
        "mrr": auc - 0.08,
        "hit_at_1": 0.2 + 1.1 * (auc - 0.5),
    }


REASONS = {
    "promote": [
        "The challenger's log loss on 2,104 impressions of 421 requests is 0.8 % lower than the champion's"
        " (95 % bound: at worst 0.1 % higher); allowed is 2 % higher.",
        "All 9 data checks passed.",
    ],
    "hold": [
        "Predictions have shifted: the mean on the same impressions is 31.0%, the champion's 19.8%.",
        "The challenger's log loss on 2,104 impressions of 421 requests is 0.3 % higher than the champion's"
        " (95 % bound: at worst 1.2 % higher); allowed is 2 % higher.",
    ],
    "reject": [
        "Data check 'label rate' failed: 0.2 % of impressions are clicked, 19.9 % before. Allowed: 10 % to 40 %.",
    ],
}
