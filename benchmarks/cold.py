"""The first thousand impressions: what a model is worth that has seen so few, beside what else one would fit to them.

    python -m benchmarks cold --log clicks.parquet --items items.parquet --until 2017-10-05

A surface begins with no event known. Its first impressions are trained on in one pass, and the next ones are scored: by
the share clicked so far, by the surface's own learner, by logistic regression (scikit-learn) and boosted trees
(LightGBM) on the same features, and by Vowpal Wabbit on ids and their crosses. All that from several beginnings: of one
log at times spread over it, of the seeded log with several seeds.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import vw
from benchmarks.bench import Clock, Progress
from benchmarks.logs import SEEDED_LOG, LogConfig
from benchmarks.stream import Stream, folded
from benchmarks.table import Row, Table, machine
from flows.drill.logs import Log, simulated
from flows.surface import Surface
from models import metrics
from models.examples import Examples, apart, concat
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.metrics import ONE_SIDED_95
from models.networks.layers import Standardise

OURS, BASE, LOGISTIC, TREES, VOWPAL = "Millrace", "base rate", "logistic regression", "LightGBM", "Vowpal Wabbit"

LEVEL_FROM = 1_000
"""Impressions from which on ours must be level with logistic regression; below, with the base rate."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ColdConfig:
    """What to run."""

    surface: Surface
    """Whose features and learner are measured."""

    log: LogConfig = SEEDED_LOG

    sizes: tuple[int, ...] = (500, 1_000, 2_500, 5_000, 10_000, 20_000, 40_000)
    """Impressions trained on; whole instants, so that it may be a few less."""

    test_size: int = 5_000
    """Impressions after those."""

    beginnings: int = 4

    def logs(self) -> Iterator[Log]:
        """A log from each beginning, as long as the largest size wants."""
        most = max(self.sizes) + 2 * self.test_size
        if self.log.path is None:
            for seed in range(self.beginnings):
                whole = simulated(seed=seed, days=1.0, requests_per_day=most // 4)
                yield replace(whole, shown=whole.shown.head(most))
            return
        whole = self.log.read()
        shown = whole.shown
        for row in np.linspace(0, max(0, len(shown) - most), self.beginnings).astype(int).tolist():
            yield replace(whole, shown=shown.filter(shown["shown_at"] >= shown["shown_at"][row]).head(most))


@dataclass(frozen=True, eq=False)
class ColdStart:
    """The impressions after the first so many, and every learner's scores of them."""

    test: Examples
    scores: Mapping[str, Floats]


def bench(config: ColdConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it; ``progress`` gets each size's outcome as it ends."""
    found: dict[int, list[ColdStart]] = {size: [] for size in config.sizes}
    name = ""
    for number, log in enumerate(config.logs()):
        whole = folded(log, config.surface, warmup=timedelta(microseconds=1))
        name = whole.name
        text = vw.VwText.of(whole, config.surface.features)
        for size in config.sizes:
            stream = cut(whole, size, config.test_size)
            if not len(stream.test):
                continue
            scores = dict(learners(config.surface, stream, text, number, clock))
            found[size].append(ColdStart(stream.test, scores))
            losses = ", ".join(f"{who} {metrics.log_loss(p, stream.test.label):.4f}" for who, p in scores.items())
            progress(f"beginning {number + 1}, after {stream.warm:,}: log loss {losses}")
    return Table("cold", machine(), [row for size, parts in found.items() if parts for row in rows(name, size, parts)])


def cut(stream: Stream, size: int, test_size: int) -> Stream:
    """The stream as far as it is trained and tested on; an instant is not taken apart, nor is a request."""
    if size >= len(stream.examples):
        return replace(stream, begins=float(stream.examples.time[-1]) + 1)
    begins = float(stream.examples.time[size])
    end = stream.row_at(begins) + test_size
    while end < len(stream.examples) and stream.examples.request[end] == stream.examples.request[end - 1]:
        end += 1
    return replace(stream, examples=stream.examples[:end], begins=begins)


def learners(
    surface: Surface, stream: Stream, text: vw.VwText, seed: int, clock: Clock
) -> Iterator[tuple[str, Floats]]:
    """What each predicts of the stream's test part, trained on what is before."""
    train, test = stream.examples[: stream.warm], stream.test
    yield BASE, np.full(len(test), (float(np.nansum(train.label)) + 0.5) / (len(train) + 1))
    model = Model.new(surface.layout, surface.design, seed)
    model, _ = fine_tune(model, train, seed=seed, device="cpu", clock=clock)
    yield OURS, model.score(test)
    if 0 < train.label.sum() < len(train):
        yield LOGISTIC, logistic(train, test, surface.design.shape.clip)
        yield TREES, trees(train, test, seed)
    end = len(stream.examples)
    cut_text = replace(text, features=text.features[:end], clicked=text.clicked[:end])
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        result = vw.prequential(vw.IN_WINDOWS, cut_text, stream, every=None, fewest=1, folder=Path(folder), name=VOWPAL)
    yield VOWPAL, result.scores


def logistic(train: Examples, test: Examples, clip: float) -> Floats:
    """Regularised logistic regression on the numbers, standardised and clipped as the learner does."""
    from sklearn.linear_model import LogisticRegression

    standardise = Standardise(train.dense.shape[1], clip)
    standardise.observe(torch.from_numpy(np.ascontiguousarray(train.dense)), 1e6)
    before, after = (standardise(torch.from_numpy(np.ascontiguousarray(part.dense))).numpy() for part in (train, test))
    fitted = LogisticRegression(C=0.01, max_iter=500).fit(before, train.label)
    scores: Floats = fitted.predict_proba(after)[:, 1]
    return scores


def trees(train: Examples, test: Examples, seed: int) -> Floats:
    """Boosted trees on the numbers, small and slow as suits few rows."""
    from lightgbm import LGBMClassifier

    fitted = LGBMClassifier(
        n_estimators=100,
        learning_rate=0.05,
        num_leaves=15,
        min_child_samples=20,
        random_state=seed,
        n_jobs=1,
        verbosity=-1,
        deterministic=True,
    ).fit(train.dense, train.label)
    scores: Floats = np.asarray(fitted.predict_proba(test.dense))[:, 1]
    return scores


def rows(name: str, size: int, parts: Sequence[ColdStart]) -> Iterator[Row]:
    """What came of one size: over all beginnings, beside each peer, what chance does and whether ours is level."""
    where = f"after {size:,} impressions, {name}, {len(parts)} beginnings"
    for peer in (BASE, LOGISTIC, TREES, VOWPAL):
        both = [part for part in parts if peer in part.scores]
        if not both:
            continue
        low, high = interval(both, peer)
        with_goal = (peer == BASE) or (peer == LOGISTIC and size >= LEVEL_FROM)
        yield Row(
            f"log loss {where}; ours lower by {low:+.4f} to {high:+.4f}",
            mean_log_loss(parts, OURS),
            peer=peer,
            theirs=mean_log_loss(both, peer),
            goal="not higher by more than chance" if with_goal else None,
            met=high >= 0 if with_goal else None,
        )
        if peer != BASE:
            low, high = spread([auc(part, OURS) - auc(part, peer) for part in both])
            with_goal = peer == LOGISTIC and size >= LEVEL_FROM
            yield Row(
                f"AUC {where}; ours higher by {low:+.4f} to {high:+.4f}",
                mean_auc(parts, OURS),
                peer=peer,
                theirs=mean_auc(both, peer),
                goal="not lower by more than chance" if with_goal else None,
                met=high >= 0 if with_goal else None,
            )


def mean_log_loss(parts: Sequence[ColdStart], learner: str) -> float:
    """Over the beginnings."""
    return float(np.mean([metrics.log_loss(part.scores[learner], part.test.label) for part in parts]))


def mean_auc(parts: Sequence[ColdStart], learner: str) -> float:
    """Over the beginnings."""
    return float(np.mean([auc(part, learner) for part in parts]))


def auc(part: ColdStart, learner: str) -> float:
    return metrics.auc(part.scores[learner], part.test.label)


def interval(parts: Sequence[ColdStart], peer: str) -> tuple[float, float]:
    """Between what the peer's log loss less ours is, each bound with 95 % confidence, over all requests."""
    whole = concat(apart([part.test for part in parts]))
    theirs, ours = (np.concatenate([part.scores[learner] for part in parts]) for learner in (peer, OURS))
    difference = metrics.paired_difference(theirs, ours, whole.label, whole.request)
    return difference.lower, difference.upper


def spread(values: Sequence[float]) -> tuple[float, float]:
    """95 % bounds of a mean of some differences; of one alone nothing is known."""
    if len(values) < 2:
        return float("-inf"), float("inf")
    error = ONE_SIDED_95 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - error, float(np.mean(values)) + error
