"""What a surface asks of a challenger: for each figure a limit, what a breach means, and what missing data mean."""

import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

Word = Literal["promote", "hold", "reject"]
Breach = Literal["hold", "reject"]


@dataclass(frozen=True)
class Limit:
    """How far a figure may go, and what follows where it goes further or is not there."""

    at_most: float
    breach: Breach = "hold"

    missing: Literal["pass", "hold", "reject"] = "pass"
    """What follows where the figure could not be had: no data for it, or too few."""

    chosen: str = ""
    """Who set it on the desk and when, in words; empty where the surface's file declares it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.at_most) and self.at_most >= 0):
            raise ValueError(f"Limit.at_most={self.at_most}: wants a finite number, 0 or more")
        if self.breach not in ("hold", "reject") or self.missing not in ("pass", "hold", "reject"):
            raise ValueError(
                f"Limit.breach={self.breach!r}, missing={self.missing!r}: 'hold' or 'reject', or to 'pass'"
            )


@dataclass(frozen=True)
class Policy:
    """What a surface asks of a challenger. Shares of log loss are of the champion's."""

    margin: float = 0.01
    """A challenger is not worse when its log loss is higher by less than this share."""

    risk: float = 0.05
    """Chance at most of being wrong, over the whole life of the updating process: see the promise above."""

    requests: int = 20
    """Judged requests below which nothing is said: the challenger is held."""

    too_good: Limit = field(default_factory=lambda: Limit(0.3))
    """Share of the log loss gained: from there on a leak of the future is likelier than a better model."""

    calibration: Limit = field(default_factory=lambda: Limit(0.05, missing="hold"))
    """Calibration error, where it is beyond what chance gives and above the champion's."""

    mean_prediction: Limit = field(default_factory=lambda: Limit(0.7))
    """Change of the mean prediction in log-odds; 0.7 doubles or halves the odds."""

    prediction_shift: Limit = field(default_factory=lambda: Limit(6.0))
    """Change of the single prediction in log-odds, its 99th percentile, by the weights that would go live."""

    flattened: Limit = field(default_factory=lambda: Limit(10.0))
    """The champion's spread of predictions over the challenger's."""

    slices: Limit = field(default_factory=lambda: Limit(0.05))
    """Share of log loss that a slice is shown to lose."""

    forgetting: Limit = field(default_factory=lambda: Limit(0.1))
    """Share of log loss lost on the day before."""

    in_sample: Limit = field(default_factory=lambda: Limit(0.01))
    """Share of log loss by which the weights that would go live are worse on the window they were trained on."""

    skew: Limit = field(default_factory=lambda: Limit(0.01))
    """Share of feature values that serving had otherwise than the log says."""

    skew_of_one: Limit = field(default_factory=lambda: Limit(0.2))
    """Share of the rows in which a single feature was served otherwise."""

    drift: Limit = field(default_factory=lambda: Limit(1.0))
    """How far a column's PSI may be beyond its own limit, times: against what the champion was trained on, and against
    the same hours of earlier days. That limit is what chance gives and what the column had in the surface's windows
    before (``monitoring/evaluation/drift.py``)."""

    ranking_value: Limit = field(default_factory=lambda: Limit(0.05))
    """Share of the champion's estimated value of showing things in its order that the challenger's is shown to lose."""

    retrieval: Limit = field(default_factory=lambda: Limit(0.02))
    """Share of the next clicks that the champion's towers find among 50 items (popularity, where it has none) and the
    challenger's are shown not to."""

    rated: Limit = field(default_factory=lambda: Limit(0.005))
    """NDCG of rated pairs that the champion's encoder has and the challenger's is shown to lose."""

    rated_as_it_comes: Limit = field(default_factory=lambda: Limit(0.01))
    """The same of the encoder as it comes: what champions lose one after another adds up to no more."""

    query_drift: Limit = field(default_factory=lambda: Limit(1.0))
    """How far the MMD² of the queries may be beyond its own limit, times, against what the champion was trained on:
    what chance gives and what the surface's windows had before (``monitoring/evaluation/query_drift.py``)."""

    fairness: Limit = field(default_factory=lambda: Limit(0.1))
    """Change of the share of exposure of a value of the declared attribute."""

    score_p99_ms: Limit = field(default_factory=lambda: Limit(1000.0))
    """Milliseconds to score one request's candidates, the 99th percentile."""

    megabytes: Limit = field(default_factory=lambda: Limit(20_000.0))
    """Size of the model."""

    early: Breach | Literal["pass"] = "hold"
    """When training stopped early because it made predictions worse."""

    decide_within: timedelta = timedelta(hours=24)
    """How long a held challenger waits for a person; then the champion stays."""

    approvals: int = 1
    """People who must approve a held challenger."""

    def __post_init__(self) -> None:
        if not (0 < self.margin < 1):
            raise ValueError(f"Policy.margin={self.margin}: a share of the champion's log loss, between 0 and 1")
        if not (0 < self.risk < 0.5):
            raise ValueError(f"Policy.risk={self.risk}: a chance, between 0 and 0.5")
        if self.requests < 2:
            raise ValueError(f"Policy.requests={self.requests}: a comparison wants at least 2")
        if self.approvals < 1:
            raise ValueError(f"Policy.approvals={self.approvals}: wants at least 1")
        if self.decide_within <= timedelta(0):
            raise ValueError(f"Policy.decide_within={self.decide_within}: wants some time")
