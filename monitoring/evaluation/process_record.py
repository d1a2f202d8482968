"""The record of an updating process: the gains of all its routine candidates together, and a CUSUM that alarms when
they turn for the worse.

    record = record.add(candidate, loss=0.005, judged_to=window.end)
    record = record.promoted(baseline_moves=False)     # that candidate went live

One window proves little. The record keeps the paired gains of every routine candidate against the champion of its
time, promoted or not (leaving some out would flatter), and two hypotheses are tested on it: has the process been shown
not to lose (`monitoring/gate/hypotheses.py`), and does it lose of late? The second is a CUSUM of evidence, an
e-detector (Shin, Ramdas & Rinaldo 2023, "E-detectors: a nonparametric framework for sequential change detection"): a
process that does not lose raises a false alarm at `level` once in 1 / level updates or more seldom.

Beside them it keeps how many went live since the proven baseline, and what candidates gained over that: losses that are
each too small to be seen add up.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from monitoring.statistics.sequential import FEWEST_FOR_NORMAL, Moments

LOUDEST = 4.0
"""A window counts in the record no further from 0 than the loss and this many standard errors. A broken challenger
(rejected by itself) would otherwise weigh on the record for weeks, and a young model's large gains would hide later
losses. An honest window is that far off once in 30,000, so what the record promises is unchanged."""

CUSUM_CEILING = math.log(1e6)
"""The CUSUM stays below this, so that a few good windows quiet it after a bad week. No alarm level may be
smaller than a millionth."""


CUMULATIVE_LOSS = 2.0
"""Margins that may be lost in all since the proven baseline."""

MOST_STALE = 3.0
"""Gains over the proven baseline that older champions' challengers had say less of the present one. They count so far
that on average no more were promoted since."""


@dataclass(frozen=True)
class SinceBaseline:
    """What is known of the sum of losses since the proven baseline."""

    promotions: int = 0
    """Challengers promoted since."""

    gains: Moments = field(default_factory=Moments)
    """Of candidates over the proven baseline; those of long ago count less."""

    staleness: float = 0.0
    """Promotions since, on average over these gains."""

    def add(self, gains: Moments, loss: float) -> Self:
        """With those of one more candidate; one that is broken counts as in the record."""
        if not gains.n:
            return self
        known, gains = self.gains, _bounded(gains, self.gains, CUMULATIVE_LOSS * loss)
        if known.n and self.staleness > MOST_STALE:
            share = min(1.0, MOST_STALE * gains.n / (known.n * (self.staleness - MOST_STALE)))
            known = replace(known, n=int(share * known.n))
        both = known + gains
        return type(self)(self.promotions, both, self.staleness * known.n / both.n)

    def promoted(self) -> Self:
        return type(self)(self.promotions + 1, self.gains, self.staleness + 1)


@dataclass(frozen=True)
class ProcessRecord:
    """What is known of the process before its next candidate."""

    updates: int = 0
    moments: Moments = field(default_factory=Moments)
    cusum: float = 0.0
    """Evidence that candidates lose, since the best moment to begin counting; 0 or less: none."""

    judged_to: datetime | None = None
    """The end of the last impressions that were judged."""

    against: Mapping[str, float] = field(default_factory=dict)
    """The same against the reference champions that the last candidate was compared with, by version."""

    since_baseline: SinceBaseline = field(default_factory=SinceBaseline)

    def add(
        self,
        candidate: Moments,
        *,
        loss: float,
        judged_to: datetime | None = None,
        against: Mapping[str, Moments] | None = None,
        over_baseline: Moments | None = None,
    ) -> Self:
        """With one more candidate.

        `candidate`: its gains over the champion on impressions after `self.judged_to`. `loss`: the smallest loss that
        matters, the margin of *not worse*, as a share. `judged_to`: end of the judged impressions. `against`: its gains
        over older champions, by version; versions that are no longer compared with are dropped. `over_baseline`: its
        gains over the proven baseline, where that can be compared with.
        """
        counted = _bounded(candidate, self.moments, loss)
        moments = self.moments + counted
        return type(self)(
            self.updates + 1,
            moments,
            cusum_after(
                self.cusum, counted, loss=loss, variance=moments.variance if moments.n >= FEWEST_FOR_NORMAL else 0.0
            ),
            judged_to or self.judged_to,
            {
                version: cusum_after(self.against.get(version, 0.0), gains, loss=loss)
                for version, gains in (against or {}).items()
            },
            self.since_baseline.add(over_baseline or Moments(), loss),
        )

    def promoted(self, *, baseline_moves: bool) -> Self:
        """After its last candidate went live; it may be the new proven baseline."""
        return replace(self, since_baseline=SinceBaseline() if baseline_moves else self.since_baseline.promoted())

    def reset(self) -> Self:
        """After a person has looked: the CUSUM starts anew, the gains stay."""
        return type(self)(self.updates, self.moments, 0.0, self.judged_to)


def latest_before(records: Iterable[ProcessRecord], start: datetime) -> ProcessRecord:
    """The longest of `records` that has judged nothing after `start`; an empty one when there is none.

    A window that was held comes again as part of the next. Going on from the record before it counts each impression
    once: the held candidate is replaced by the one that was judged on the same impressions and more.
    """
    fit = [record for record in records if record.judged_to is not None and record.judged_to <= start]
    return max(fit, key=lambda record: (record.judged_to or start, record.updates), default=ProcessRecord())


def _bounded(candidate: Moments, record: Moments, loss: float) -> Moments:
    """The candidate as the record counts it. Its spread is that of the record, once there is one: a broken
    challenger's own is as broken."""
    known = record if record.n >= FEWEST_FOR_NORMAL and record.variance > 0 else candidate
    if candidate.n == 0:
        return candidate
    furthest = loss + LOUDEST * math.sqrt(known.variance / candidate.n)
    if abs(candidate.mean) <= furthest:
        return candidate
    return Moments(candidate.n, math.copysign(furthest, candidate.mean), known.variance)


def cusum_after(cusum: float, candidate: Moments, *, loss: float, variance: float | None = None) -> float:
    """The CUSUM of evidence that candidates lose, after one more window.

    Each window adds the evidence that the mean gain is -`loss` rather than 0: -b S - b² V / 2 with b = loss / variance,
    the log likelihood ratio of the two for the sum S of n gains. `variance`: of a gain, where more is known of it than
    this window tells; 0: nothing is known, and nothing is added.
    """
    if variance is None:
        variance = candidate.variance if candidate.n >= FEWEST_FOR_NORMAL else 0.0
    bet = -candidate.n * loss * (candidate.mean + loss / 2) / variance if variance > 0 else 0.0
    return min(max(cusum, 0.0) + bet, CUSUM_CEILING)
