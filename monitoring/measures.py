"""The measures of a ranker: their keys in evidence and JSON, their names, which way is better. One list for every page.

What each is, exactly: ``models/metrics.py`` and ``models/ranking_metrics.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DIGITS = 4
"""After the point, wherever a person reads a measure."""


@dataclass(frozen=True)
class Measure:
    """A figure that every ranker has."""

    key: str
    name: str
    better: Literal["higher", "lower", ""]
    meaning: str

    @property
    def title(self) -> str:
        """The name at the head of a row."""
        return self.name[0].upper() + self.name[1:]

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "": 0}[self.better]

    @property
    def remark(self) -> str:
        return f"{self.better} is better" if self.better else ""


MEASURES = (
    Measure("auc", "AUC", "higher", "chance that a clicked impression scores above one not clicked; 0.5 is guessing"),
    Measure("grouped_auc", "AUC within requests", "higher", "AUC of each request, averaged; 0.5 is guessing"),
    Measure("ndcg", "NDCG", "higher", "discounted gain of each request's order over the best order's, averaged"),
    Measure("mrr", "MRR", "higher", "mean over requests of 1 / rank of the highest clicked item"),
    Measure("hit_at_1", "hit@1", "higher", "share of requests whose top item was clicked"),
    Measure("log_loss", "log loss", "lower", "nats per impression"),
    Measure(
        "normalised_entropy", "norm. entropy", "lower", "log loss over that of the constant click rate; 1 is no better"
    ),
    Measure("calibration_error", "calibration error", "lower", "mean gap of predicted and observed click rate, by bin"),
    Measure("mean_prediction", "mean prediction", "", "mean predicted probability of a click"),
)

KEYS = tuple(measure.key for measure in MEASURES)

BY_KEY: Mapping[str, Measure] = {measure.key: measure for measure in MEASURES}


def number(value: float | None) -> str:
    """A measure with its digits; a dash where there is none."""
    return "–" if value is None else f"{value:.{DIGITS}f}"
