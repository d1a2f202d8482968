"""What the gate promises, shown: thousands of candidates of known worth, judged by `monitoring/gate/hypotheses.py`
itself.

    rows = simulations()                       # some minutes on one core
    rows = simulations(gains=measured)         # with the noise of a real log: its gains by request

Each candidate is drawn as its window would be measured: gains of requests, resampled with replacement from `gains`
(centred), plus its true gain. By default a seeded draw of Student's t with 4 degrees of freedom: heavy tails, and more
than twice the spread that hours of a real feed have (0.125; a standard error of 0.29 % on 1,913 requests).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import numpy.typing as npt

from benchmarks.table import Row
from monitoring.evaluation.process_record import CUMULATIVE_LOSS, ProcessRecord
from monitoring.gate.hypotheses import PROVEN_BASELINE, baseline_moves, better, no_ratchet, not_worse
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments

Gains = npt.NDArray[np.float64]

SPREAD = 0.125
"""Standard deviation of the gain of one request, as a share of the log loss."""

SHOWN = 5
"""Impressions of a request."""

DRAWN = 8_000_000
"""Requests drawn for a run at most: so many candidates have windows of a hundred thousand impressions, or fewer."""

POWER_FROM = 20_000
"""From so many impressions on, a candidate that is better by 1 % is to be promoted by its own window."""

LATER = 500
"""Which candidate is better, where equal ones come before it; the last where there are fewer."""

DAY, WEEK = 24, 168
"""Updates in a day and in a week, hourly."""


@dataclass(frozen=True)
class Size:
    """How much is simulated; the defaults are the bench's."""

    runs: int = 200
    candidates: int = 2_000
    in_a_row: int = 200
    retried: int = 5
    """Challengers better by 1 %, drawn for each run."""

    requests: tuple[int, ...] = (40, 300, 4_000, 20_000)
    """Of a window: 200 to 100,000 impressions."""

    def candidates_of(self, requests: int) -> int:
        """How many of windows of so many requests."""
        return min(self.candidates, DRAWN // requests)


def simulations(
    gains: npt.ArrayLike | None = None,
    *,
    margin: float = 0.01,
    risk: float = 0.05,
    size: Size | None = None,
    seed: int = 0,
) -> list[Row]:
    """The rows of all simulations. `gains`: f[R], of real requests, to resample; their mean is taken off."""
    size = size or Size()
    random = np.random.default_rng(seed)
    noise = heavy_tailed(random) if gains is None else np.array(gains, dtype=np.float64)
    noise -= noise.mean()
    return [
        *worse_by_the_margin(noise, random, margin, risk, size),
        *tested_better(noise, random, risk, size),
        *half_the_margin(noise, random, margin, risk, size),
        *routine(noise, random, margin, risk, size),
    ]


def heavy_tailed(random: np.random.Generator, count: int = 400_000) -> Gains:
    """Gains of `count` requests without mean: Student's t with 4 degrees of freedom, of `SPREAD`."""
    drawn = random.standard_t(4, count)
    gains: Gains = (drawn - drawn.mean()) * (SPREAD / drawn.std())
    return gains


def worse_by_the_margin(
    noise: Gains, random: np.random.Generator, margin: float, risk: float, size: Size
) -> Iterator[Row]:
    """Candidates all worse by just the margin, tested as *not worse*: the share of runs in which any is promoted."""
    for requests in size.requests:
        many = size.candidates_of(requests)
        runs = (process(noise, random, requests, -margin, margin=margin, risk=risk) for _ in range(size.runs))
        promoted = sum(any(update.promoted for update in islice(run, many)) for run in runs)
        yield _share(
            f"{many:,} candidates worse by the margin, {_each(requests)}, tested as not worse: any promoted, "
            f"of {size.runs} runs",
            promoted / size.runs,
            risk,
        )


def tested_better(noise: Gains, random: np.random.Generator, risk: float, size: Size) -> Iterator[Row]:
    """Equal candidates tested as *better*, and one that is better by 1 %, first or after 499 equal."""
    for requests in size.requests:
        false, pasts, many = 0, [], size.candidates_of(requests)
        for _ in range(size.runs):
            past, any_promoted = PastTests(), False
            for number, candidate in enumerate(windows(noise, random, requests, 0.0, many), 1):
                if number == min(LATER, many):
                    pasts.append(past)
                answer = better(candidate, past=past, risk=risk)
                past = answer.tests
                any_promoted |= answer.word == "promote"
            false += any_promoted
        yield _share(
            f"{many:,} equal candidates, {_each(requests)}, tested as better: any promoted, of {size.runs} runs",
            false / size.runs,
            risk,
        )
        late = f"after {min(LATER, many) - 1} equal"
        for which, before in {"first": [PastTests()] * len(pasts), late: pasts}.items():
            words = [
                better(candidate, past=past, risk=risk).word
                for past in before
                for candidate in windows(noise, random, requests, 0.01, size.retried)
            ]
            share = words.count("promote") / len(words)
            goal = SHOWN * requests >= POWER_FROM
            yield Row(
                f"better by 1 %, {_each(requests)}, {which}: promoted",
                round(100 * share, 1),
                "%",
                goal=">= 80 %" if goal else None,
                met=share >= 0.8 if goal else None,
            )


def half_the_margin(noise: Gains, random: np.random.Generator, margin: float, risk: float, size: Size) -> Iterator[Row]:
    """Candidates each worse than the champion by half the margin: what is lost in all, in margins; under two of them
    with the certainty that the gate promises elsewhere."""
    for requests in size.requests:
        runs = (process(noise, random, requests, -margin / 2, margin=margin, risk=risk) for _ in range(size.runs))
        lost = np.array([max(update.lost for update in islice(run, size.in_a_row)) / margin for run in runs])
        under = float((lost < CUMULATIVE_LOSS).mean())
        what = f"{size.in_a_row} in a row worse by half the margin, {_each(requests)}"
        yield Row(
            f"{what}: the total loss stays under {CUMULATIVE_LOSS:g} margins, of {len(lost)} runs",
            round(100 * under, 1),
            "%",
            goal=f">= {100 * (1 - risk):g} %",
            met=under >= 1 - risk,
        )
        yield Row(f"{what}: total loss, mean", round(float(lost.mean()), 2), "margins")
        yield Row(f"{what}: total loss, largest", round(float(lost.max()), 2), "margins")


def routine(noise: Gains, random: np.random.Generator, margin: float, risk: float, size: Size) -> Iterator[Row]:
    """What the gate costs a sound process: the share of its updates that wait, once an equal or better one is known,
    and which update is the first to go live by itself."""
    for requests in size.requests:
        for name, gain in {"equal": 0.0, "better by 0.1 %": 0.001, "better by 0.6 %": 0.006}.items():
            waited, firsts = list[bool](), list[int]()
            for _ in range(max(1, size.runs // 10)):
                run = process(noise, random, requests, gain, margin=margin, risk=risk)
                promoted = [update.promoted for update in islice(run, size.in_a_row)]
                waited += [not live for live in promoted[size.in_a_row // 4 :]]
                firsts.append(1 + promoted.index(True) if any(promoted) else 1 + size.in_a_row)
            what = f"routine updates {name}, {_each(requests)}"
            yield Row(f"{what}: held or rejected after the first quarter", round(100 * float(np.mean(waited)), 2), "%")
            yield Row(f"{what}: the first to go live, median", int(np.median(firsts)), f"of {size.in_a_row}")


@dataclass(frozen=True)
class Simulated:
    """One update of a simulated process."""

    promoted: bool
    lost: float
    """By how much the champion in service is worse than the first one, as a share of the log loss."""


def process(
    noise: Gains, random: np.random.Generator, requests: int, gain: float, *, margin: float, risk: float
) -> Iterator[Simulated]:
    """Updates without end, each challenger's true gain over its champion `gain`, judged as the gate does.

    Every version's true log loss is known. Two models differ on a request by their own noise: the gain over an older
    champion is noisier than that over the present one. A window that was held comes again as part of the next.
    """
    loss, serving, baseline, held = [0.0], [0], 0, dict[int, Moments]()
    record = ProcessRecord()
    for number in count():
        champion = serving[-1]
        own = _draw(noise, random, requests)
        ages = {"a day ago": serving[max(0, number - DAY)], "a week ago": serving[max(0, number - WEEK)]}
        versions = {**ages, PROVEN_BASELINE: baseline}
        true = loss[champion] - gain
        measured = {
            version: held.get(version, Moments())
            + Moments.of(own - (true - loss[version]) + (0 if version == champion else _draw(noise, random, requests)))
            for version in sorted({champion, *versions.values()})
        }
        over, over_baseline = measured[champion], measured[baseline]
        references = {name: measured[version] for name, version in versions.items()}
        before = {name: record.against.get(str(version), 0.0) for name, version in versions.items()}
        words = {
            not_worse(over, record, margin=margin, risk=risk, over_baseline=over_baseline).word,
            no_ratchet(references, margin=margin, over_champion=over, cusums=before).word,
        }
        against = {str(version): measured[version] for version in versions.values()}
        after = record.add(over, loss=margin, against=against, over_baseline=over_baseline)
        if words == {"promote"}:
            moves = baseline_moves(over_baseline)
            loss.append(true)
            champion = len(loss) - 1
            baseline = champion if moves else baseline
            record = after.promoted(baseline_moves=moves)
        elif "reject" in words:
            record = after
        held = measured if "hold" in words and "reject" not in words else {}
        serving.append(champion)
        yield Simulated(words == {"promote"}, loss[champion])


def windows(noise: Gains, random: np.random.Generator, requests: int, gain: float, many: int) -> Iterator[Moments]:
    """`many` windows of `requests` requests each, of candidates whose true gain is `gain`."""
    at_once = 1 + 300_000 // requests
    for first in range(0, many, at_once):
        drawn = _draw(noise, random, (min(at_once, many - first), requests))
        means, variances = drawn.mean(axis=1), drawn.var(axis=1, ddof=1)
        for mean, variance in zip(means.tolist(), variances.tolist(), strict=True):
            yield Moments(requests, mean + gain, variance)


def _draw(noise: Gains, random: np.random.Generator, shape: int | tuple[int, int]) -> Gains:
    drawn: Gains = noise[random.integers(0, len(noise), shape, dtype=np.int32)]
    return drawn


def _each(requests: int) -> str:
    return f"{SHOWN * requests:,} impressions each"


def _share(what: str, share: float, promised: float) -> Row:
    return Row(what, round(100 * share, 1), "%", goal=f"<= {100 * promised:g} %", met=share <= promised)
