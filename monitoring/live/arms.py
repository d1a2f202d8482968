"""What a look at a canary reads: figures of both arms, cumulative since it began.

    arms = Arms(control=Arm(users=900, requests=2_100, ...), canary=Arm(users=913, requests=2_084, ...))

All are counts and sums, so a look costs the same after a day as after a minute. Users are counted in the arm that the
hash puts them in, whoever answered them (intention to treat).
"""

from dataclasses import dataclass, field

from models.versions.canaries import SCORE_BINS
from monitoring.statistics.difference import Ratio
from monitoring.statistics.sequential import Moments


@dataclass(frozen=True)
class Arm:
    """Figures of one arm. For a shadow: the champion's answers (control) and what the shadow scored (canary)."""

    users: int = 0
    """Seen since the canary began, each once; what the sample ratio is tested on."""

    requests: int = 0
    impressions: int = 0

    reward: Ratio = field(default_factory=Ratio)
    """Of users with a mature impression: the sum of combined targets of their mature impressions, over the requests
    that these belong to."""

    clicks: int = 0
    """Positive labels that have arrived, mature or not."""

    clicks_squared: int = 0
    """Sum over users of the square of each one's clicks: it tells how far they hang together."""

    exposure_s: float = 0.0
    """Seconds in which clicks could arrive. Only the ratio of both arms' counts."""

    answered: int = 0
    """Requests by what became of them, as serving reports: all of them, and those among them with an error, with no
    item, and slower than the champion's 99th percentile when the canary began."""

    errors: int = 0
    empty: int = 0
    slow: int = 0

    scores: tuple[int, ...] = (0,) * SCORE_BINS
    """Impressions by their score, in :data:`SCORE_BINS` bins."""

    impressions_squared: int = 0
    """Sum over users of the square of each one's impressions in `scores`."""

    def __post_init__(self) -> None:
        if len(self.scores) != SCORE_BINS:
            raise ValueError(f"Arm.scores has {len(self.scores)} bins: wants {SCORE_BINS}")
        for name in ("errors", "empty", "slow"):
            if not 0 <= getattr(self, name) <= self.answered:
                raise ValueError(f"Arm.{name}={getattr(self, name)}: wants 0 to answered={self.answered}")
        if self.clicks_squared < self.clicks or self.impressions_squared < sum(self.scores):
            raise ValueError(
                f"{self}: a sum of squares of whole numbers is no less than their sum; clicks_squared and"
                " impressions_squared are sums over users"
            )


@dataclass(frozen=True)
class Preferences:
    """Users by the team they prefer, of interleaved lists.

    A user's preference is that of the first request in which one team had more clicks, and stays so: then each user
    is a toss of a coin of its own, whenever one looks.
    """

    wins: int = 0
    """For the canary's team."""

    losses: int = 0
    ties: int = 0
    """Users without a preference so far; they say nothing."""


@dataclass(frozen=True)
class Arms:
    """Both arms; beside them what a shadow and an interleaving are judged by."""

    control: Arm = field(default_factory=Arm)
    canary: Arm = field(default_factory=Arm)

    paired: Moments = field(default_factory=Moments)
    """Of a shadow: what the canary gains by request, as a share of the champion's log loss."""

    preferences: Preferences = field(default_factory=Preferences)
    """Of an interleaving."""
