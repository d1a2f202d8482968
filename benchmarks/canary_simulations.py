"""Canaries whose truth is known, judged after every look by what ships: how often each is promoted or rolled back, how
soon, and why.

    outcome = outcomes(Canary(margin=0.1), Planted(clicks=0.7), Traffic(), runs=100, seed=3)

Users arrive over the day and come back; each has a rate of requests, of clicks and a score of its own, so what one
user gives hangs together. They fall to either arm by a coin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import numpy as np
import numpy.typing as npt

from models.versions.canaries import SCORE_BINS
from monitoring.live.arms import Arm, Arms, Preferences
from monitoring.live.canary import Canary, CanaryLook, judge_canary
from monitoring.statistics.difference import Ratio
from monitoring.statistics.sequential import Moments

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BEGAN = datetime(2026, 3, 2, 8, tzinfo=UTC)

ITEMS = 5
"""Impressions of a request."""


@dataclass(frozen=True)
class Planted:
    """What the canary is in truth. The control has the values of the defaults."""

    clicks: float = 1.0
    """Multiple of the control's rate of clicks."""

    errors: float = 0.002
    empty: float = 0.002
    slow: float = 0.01
    """Shares of its requests."""

    constant_score: float | None = None
    """The score it gives to all."""

    users: float = 1.0
    """Users who fall to it for one who falls to the control."""

    gain: float = 0.0
    """Of a shadow: mean gain by request, as a share of the champion's log loss."""


@dataclass(frozen=True)
class Traffic:
    """Who comes while the canary runs."""

    users: int = 12_000
    """In both arms."""

    looks: int = 48
    """Spread over a day."""

    requests: float = 0.15
    """Of a user between two looks, once there, beside the first; users differ (gamma, shape 2)."""

    clicks: float = 0.3
    """By request; users differ (beta)."""


@dataclass(frozen=True)
class Outcome:
    """What became of canaries that are in truth alike. Shares of all runs."""

    promoted: float
    rolled_back: float
    """Before the end, on evidence."""

    undecided: float
    """Rolled back in the end, for want of evidence."""

    requests: float | None
    """Of the canary's arm at the decision, median of those decided on evidence."""

    codes: frozenset[str]
    """Of what they were rolled back for, on evidence."""


def outcomes(canary: Canary, planted: Planted, traffic: Traffic, *, runs: int, seed: int) -> Outcome:
    """Judge so many canaries, each until it is promoted or rolled back."""
    ends = [last_look(canary, looks(planted, traffic, np.random.default_rng([seed, run]))) for run in range(runs)]
    decided = [(look, arms) for look, arms in ends if look.findings[0].code != "want_of_evidence"]
    back = [look for look, _ in decided if look.word == "roll back"]
    return Outcome(
        sum(look.word == "promote" for look, _ in decided) / runs,
        len(back) / runs,
        1 - len(decided) / runs,
        float(np.median([arms.canary.requests for _, arms in decided])) if decided else None,
        frozenset(finding.code for look in back for finding in look.findings if finding.word == "reject"),
    )


def last_look(canary: Canary, arms: Iterator[tuple[timedelta, Arms]]) -> tuple[CanaryLook, Arms]:
    """The look that ends a canary, and what it read."""
    for ran, seen in arms:
        look = judge_canary(canary, seen, BEGAN, BEGAN + ran)
        if look.word != "wait":
            return look, seen
    raise AssertionError(f"the looks end before {canary.at_most}")


def looks(planted: Planted, traffic: Traffic, random: np.random.Generator) -> Iterator[tuple[timedelta, Arms]]:
    """What is seen of one canary, by the time that it has run."""
    day = Day.drawn(planted, traffic, random)
    gains = Moments()
    for look in range(traffic.looks):
        gains += Moments.of(random.normal(planted.gain, 0.5, day.new_requests(look)))
        arms = Arms(day.arm(look, canary=False), day.arm(look, canary=True), gains, day.preferences(look))
        yield timedelta(days=(look + 1) / traffic.looks), arms


@dataclass(frozen=True, eq=False)
class Day:
    """What U users do, cumulative by look."""

    ours: Bools
    """[U] who gets the canary."""

    requests: Ints
    clicks: Ints
    """[looks, U]"""

    score: Ints
    """[U] the bin of all scores that a user gets."""

    preferred: Ints
    """[looks, U] the team of the user's first click: 1 the canary's, -1 the champion's, 0 none yet."""

    outcomes: Ints
    """[looks, 2, 3] requests of control and canary with an error, empty, slow."""

    @classmethod
    def drawn(cls, planted: Planted, traffic: Traffic, random: np.random.Generator) -> Self:
        """A day at random."""
        users, looks = traffic.users, traffic.looks
        ours = random.random(users) < planted.users / (1 + planted.users)
        first, now = random.integers(0, looks, users), np.arange(looks)[:, None]
        requests = random.poisson(traffic.requests * random.gamma(2.0, 0.5, users), (looks, users)) * (now > first)
        requests += now == first
        rate = random.beta(6 * traffic.clicks, 6 * (1 - traffic.clicks), users)
        rate = np.minimum(np.where(ours, planted.clicks * rate, rate), 1.0)
        clicks = random.binomial(requests, rate).cumsum(axis=0)
        score = np.minimum(random.beta(2, 5, users) * SCORE_BINS, SCORE_BINS - 1).astype(np.int64)
        if planted.constant_score is not None:
            score[ours] = int(planted.constant_score * SCORE_BINS)
        team = np.where(random.random(users) < planted.clicks / (1 + planted.clicks), 1, -1)
        answered = np.stack([requests[:, ~ours].sum(axis=1), requests[:, ours].sum(axis=1)], axis=1)
        shares = np.array([[arm.errors, arm.empty, arm.slow] for arm in (Planted(), planted)])
        outcomes = random.binomial(answered[:, :, None], shares).cumsum(axis=0)
        return cls(ours, requests.cumsum(axis=0), clicks, score, team * (clicks > 0), outcomes)

    def new_requests(self, look: int) -> int:
        """Of this look alone."""
        return int(self.requests[look].sum() - (self.requests[look - 1].sum() if look else 0))

    def preferences(self, look: int) -> Preferences:
        """Of users, if both arms' models were interleaved for all of them."""
        return Preferences(*(int((self.preferred[look] == team).sum()) for team in (1, -1, 0)))

    def arm(self, look: int, *, canary: bool) -> Arm:
        """One arm; labels are mature one look after their request."""
        whose = self.ours == canary
        requests, clicks, score = self.requests[look, whose], self.clicks[look, whose], self.score[whose]
        mature = self.requests[look - 1, whose] if look else np.zeros(0, np.int64)
        seen = mature > 0
        errors, empty, slow = self.outcomes[look, int(canary)].tolist()
        answered = int(requests.sum())
        return Arm(
            users=int((requests > 0).sum()),
            requests=answered,
            impressions=answered * ITEMS,
            reward=Ratio.of(self.clicks[look - 1, whose][seen], mature[seen]) if look else Ratio(),
            clicks=int(clicks.sum()),
            clicks_squared=int((clicks**2).sum()),
            exposure_s=float(look + 1),
            answered=answered,
            errors=errors,
            empty=empty,
            slow=slow,
            scores=tuple(np.bincount(score, requests * ITEMS, SCORE_BINS).astype(int).tolist()),
            impressions_squared=int(((requests * ITEMS) ** 2).sum()),
        )
