"""What the gate promises, shown: thousands of candidates of known worth, judged by `monitoring/gate/hypotheses.py`
itself.

    rows = simulations()                       # about a minute on one core
    rows = simulations(gains=measured)         # with the noise of a real log: its gains by request

Each candidate is drawn as its window would be measured: gains of requests, resampled with replacement from `gains`
(centred), plus its true gain. By default a seeded draw of Student's t with 4 degrees of freedom: heavy tails, and the
spread of an hour of a real feed (0.125; a standard error of 0.29 % on 1,913 requests).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.table import Row
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.gate.hypotheses import PROVEN_BASELINE, baseline_moves, better, no_ratchet, not_worse
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments

Gains = npt.NDArray[np.float64]

SPREAD = 0.125
"""Standard deviation of the gain of one request, as a share of the log loss."""

RICH, THIN = 4_000, 300
"""Requests of a window of 20,000 and of 1,500 impressions."""

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


def simulations(
    gains: npt.ArrayLike | None = None,
    *,
    margin: float = 0.005,
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
    promoted = 0
    for _ in range(size.runs):
        record = ProcessRecord()
        for candidate in windows(noise, random, THIN, -margin, size.candidates):
            if not_worse(candidate, record, margin=margin, risk=risk).word == "promote":
                promoted += 1
                break
            record = record.add(candidate, loss=margin)
    yield _share(
        f"{size.candidates:,} candidates worse by the margin, tested as not worse: any promoted, of {size.runs} runs",
        promoted / size.runs,
        risk,
    )


def tested_better(noise: Gains, random: np.random.Generator, risk: float, size: Size) -> Iterator[Row]:
    """Equal candidates tested as *better*, and one that is better by 1 % on 20,000 impressions, first or after 499."""
    false, pasts = 0, []
    for _ in range(size.runs):
        past, any_promoted = PastTests(), False
        for number, candidate in enumerate(windows(noise, random, THIN, 0.0, size.candidates), 1):
            if number == min(500, size.candidates):
                pasts.append(past)
            answer = better(candidate, past=past, risk=risk)
            past = answer.tests
            any_promoted |= answer.word == "promote"
        false += any_promoted
    yield _share(
        f"{size.candidates:,} equal candidates tested as better: any promoted, of {size.runs} runs",
        false / size.runs,
        risk,
    )
    for which, before in {"first": [PastTests()] * len(pasts), "500th, after 499 equal": pasts}.items():
        words = [
            better(candidate, past=past, risk=risk).word
            for past in before
            for candidate in windows(noise, random, RICH, 0.01, size.retried)
        ]
        share = words.count("promote") / len(words)
        what = f"better by 1 % on 20,000 impressions, {which}: promoted"
        yield Row(what, round(100 * share, 1), "%", goal=">= 80 %", met=share >= 0.8)


def half_the_margin(noise: Gains, random: np.random.Generator, margin: float, risk: float, size: Size) -> Iterator[Row]:
    """Candidates each worse than the champion by half the margin: what is lost in all, in margins; under two of them
    with the certainty that the gate promises elsewhere."""
    for requests, runs in ((RICH, size.runs), (THIN, max(1, size.runs // 4))):
        lost = np.array([decline(noise, random, requests, margin, risk, size.in_a_row) for _ in range(runs)])
        under = float((lost < 2).mean())
        what = f"{size.in_a_row} in a row worse by half the margin, {5 * requests:,} impressions each"
        rich = requests == RICH
        yield Row(
            f"{what}: the total loss stays under two margins, of {len(lost)} runs",
            round(100 * under, 1),
            "%",
            goal=f">= {100 * (1 - risk):g} %" if rich else None,
            met=under >= 1 - risk if rich else None,
        )
        yield Row(f"{what}: total loss, mean", round(float(lost.mean()), 2), "margins")
        yield Row(f"{what}: total loss, largest", round(float(lost.max()), 2), "margins")


def routine(noise: Gains, random: np.random.Generator, margin: float, risk: float, size: Size) -> Iterator[Row]:
    """What the gate costs a sound process: the share of its updates that wait, once an equal or better one is known."""
    cases = {
        "equal, hourly": (1_913, 0.0),
        "better by 0.6 %, hourly": (1_913, 0.006),
        "better by 0.1 %, 10 min": (301, 0.001),
    }
    for name, (requests, gain) in cases.items():
        waited = tested = 0
        for _ in range(max(1, size.runs // 10)):
            record = ProcessRecord()
            for number, candidate in enumerate(windows(noise, random, requests, gain, size.in_a_row)):
                word = not_worse(candidate, record, margin=margin, risk=risk).word
                record = record.add(candidate, loss=margin)
                if number >= size.in_a_row // 4:
                    tested, waited = tested + 1, waited + (word != "promote")
        yield Row(
            f"routine updates {name}: held or rejected after the first quarter", round(100 * waited / tested, 2), "%"
        )


def decline(
    noise: Gains, random: np.random.Generator, requests: int, margin: float, risk: float, in_a_row: int
) -> float:
    """One run of `half_the_margin`: how far the champion has fallen below the first, in margins.

    Every version's true log loss is known. Two models differ on a request by their own noise: the gain over an older
    champion is noisier than that over the present one.
    """
    loss, serving, baseline = [0.0], [0], 0
    record = ProcessRecord()
    for number in range(in_a_row):
        champion = serving[-1]
        own = _draw(noise, random, requests)
        ages = {"a day ago": serving[max(0, number - DAY)], "a week ago": serving[max(0, number - WEEK)]}
        versions = {**ages, PROVEN_BASELINE: baseline}
        true = loss[champion] + margin / 2
        measured = {
            version: Moments.of(
                own - (true - loss[version]) + (0 if version == champion else _draw(noise, random, requests))
            )
            for version in sorted({champion, *versions.values()})
        }
        references = {name: measured[version] for name, version in versions.items()}
        before = {name: record.against.get(str(version), 0.0) for name, version in versions.items()}
        words = {
            not_worse(measured[champion], record, margin=margin, risk=risk).word,
            no_ratchet(references, margin=margin, over_champion=measured[champion], cusums=before).word,
        }
        against = {str(version): measured[version] for version in versions.values()}
        record = record.add(measured[champion], loss=margin, against=against)
        if words == {"promote"}:
            loss.append(true)
            champion = len(loss) - 1
            baseline = champion if baseline_moves(references[PROVEN_BASELINE]) else baseline
        serving.append(champion)
    return loss[-1] / margin


def windows(noise: Gains, random: np.random.Generator, requests: int, gain: float, count: int) -> Iterator[Moments]:
    """`count` windows of `requests` requests each, of candidates whose true gain is `gain`."""
    at_once = 1 + 300_000 // requests
    for first in range(0, count, at_once):
        drawn = _draw(noise, random, (min(at_once, count - first), requests))
        means, variances = drawn.mean(axis=1), drawn.var(axis=1, ddof=1)
        for mean, variance in zip(means.tolist(), variances.tolist(), strict=True):
            yield Moments(requests, mean + gain, variance)


def _draw(noise: Gains, random: np.random.Generator, shape: int | tuple[int, int]) -> Gains:
    drawn: Gains = noise[random.integers(0, len(noise), shape, dtype=np.int32)]
    return drawn


def _share(what: str, share: float, promised: float) -> Row:
    return Row(what, round(100 * share, 1), "%", goal=f"<= {100 * promised:g} %", met=share <= promised)
