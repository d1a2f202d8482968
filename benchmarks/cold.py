"""The first thousand impressions: what a model is worth that has seen so few, beside what else one would fit to them.

    millrace bench cold --log clicks.parquet --items items.parquet --until 2017-10-05

A surface begins with no event known. What it shows first is learned in one pass, and the next impressions are scored:
by the share clicked so far, by the surface's own learner, by logistic regression (scikit-learn) and boosted trees
(LightGBM) on the same features, and by Vowpal Wabbit on ids and their crosses. All that again from several beginnings:
of one log at times spread over it, of the seeded log with several seeds.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import vw
from benchmarks.stream import Replay, Stream, folded
from benchmarks.table import Row, Table, machine
from flows.drill.windows import Log, simulated
from models import metrics
from models.examples import Examples, apart, concat
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.metrics import ONE_SIDED_95
from models.networks.layers import Standardise

BASE, LOGISTIC, TREES, VOWPAL = "base rate", "logistic regression", "LightGBM", "Vowpal Wabbit"

LEVEL_FROM = 1_000
"""Impressions from which on ours must be level with logistic regression; below, with the base rate."""

Floats = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan(Replay):
    """What to run."""

    sizes: tuple[int, ...] = (500, 1_000, 2_500, 5_000, 10_000, 20_000, 40_000)
    """Impressions learned; whole instants, so that it may be a few less."""

    scored: int = 5_000
    """Impressions after those."""

    beginnings: int = 4

    def logs(self) -> Iterator[Log]:
        """A log from each beginning, as long as the largest size wants."""
        most = max(self.sizes) + 2 * self.scored
        if self.log is None:
            for seed in range(self.beginnings):
                whole = simulated(seed=seed, days=1.0, requests_per_day=most // 4)
                yield replace(whole, shown=whole.shown.head(most))
            return
        whole = self.read()
        for rows in np.linspace(0, max(0, len(whole.shown) - most), self.beginnings).astype(int):
            yield replace(
                whole,
                shown=whole.shown.filter(whole.shown["shown_at"] >= whole.shown["shown_at"][int(rows)]).head(most),
            )


@dataclass(frozen=True, eq=False)
class Scored:
    """The impressions after the first so many, by every arm."""

    part: Examples
    scores: Mapping[str, Floats]


OURS = "Millrace"


def bench(plan: Plan, *, clock: Callable[[], float], say: Say) -> Table:
    """Run all of it. ``clock`` gives seconds; ``say`` is told each size as it ends."""
    found: dict[int, list[Scored]] = {size: [] for size in plan.sizes}
    name = ""
    for number, log in enumerate(plan.logs()):
        whole = folded(log, plan.surface, warmup=timedelta(microseconds=1))
        name = whole.name
        text = vw.Text.of(whole, plan.surface.features)
        for size in plan.sizes:
            stream = cut(whole, size, plan.scored)
            if not len(stream.scored):
                continue
            scores = dict(arms(plan, stream, text, number, clock))
            found[size].append(Scored(stream.scored, scores))
            told = ", ".join(f"{arm} {metrics.log_loss(p, stream.scored.label):.4f}" for arm, p in scores.items())
            say(f"beginning {number + 1}, after {stream.warm:,}: log loss {told}")
    return Table("cold", machine(), [row for size, parts in found.items() if parts for row in rows(name, size, parts)])


def cut(stream: Stream, size: int, scored: int) -> Stream:
    """The stream as far as it is learned and scored; an instant is not taken apart, nor is a request."""
    if size >= len(stream.examples):
        return replace(stream, begins=float(stream.examples.time[-1]) + 1)
    begins = float(stream.examples.time[size])
    end = stream.row_at(begins) + scored
    while end < len(stream.examples) and stream.examples.request[end] == stream.examples.request[end - 1]:
        end += 1
    return replace(stream, examples=stream.examples[:end], begins=begins)


def arms(
    plan: Plan, stream: Stream, text: vw.Text, seed: int, clock: Callable[[], float]
) -> Iterator[tuple[str, Floats]]:
    """What each predicts of the stream's scored part, having learned what is before."""
    first, then = stream.examples[: stream.warm], stream.scored
    yield BASE, np.full(len(then), (float(np.nansum(first.label)) + 0.5) / (len(first) + 1))
    model = Model.new(plan.surface.layout, plan.surface.design, seed)
    model, _ = fine_tune(model, first, seed=seed, device="cpu", clock=clock)
    yield OURS, model.score(then)
    if 0 < first.label.sum() < len(first):
        yield LOGISTIC, logistic(first, then, plan.surface.design.shape.clip)
        yield TREES, trees(first, then, seed)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        cut_text = replace(
            text, features=text.features[: len(stream.examples)], clicked=text.clicked[: len(stream.examples)]
        )
        run = vw.follow(vw.IN_WINDOWS, cut_text, stream, every=None, fewest=1, folder=Path(folder), name=VOWPAL)
    yield VOWPAL, run.scores


def logistic(first: Examples, then: Examples, clip: float) -> Floats:
    """Regularised logistic regression on the numbers, standardised and cut as the learner does."""
    from sklearn.linear_model import LogisticRegression

    standardise = Standardise(first.dense.shape[1], clip)
    standardise.observe(torch.from_numpy(np.ascontiguousarray(first.dense)), 1e6)
    before, after = (standardise(torch.from_numpy(np.ascontiguousarray(part.dense))).numpy() for part in (first, then))
    fitted = LogisticRegression(C=0.01, max_iter=500).fit(before, first.label)
    scores: Floats = fitted.predict_proba(after)[:, 1]
    return scores


def trees(first: Examples, then: Examples, seed: int) -> Floats:
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
    ).fit(first.dense, first.label)
    scores: Floats = np.asarray(fitted.predict_proba(then.dense))[:, 1]
    return scores


def rows(name: str, size: int, parts: Sequence[Scored]) -> Iterator[Row]:
    """What came of one size: over all beginnings, beside each peer, what chance does and whether ours is level."""
    where = f"after {size:,} impressions, {name}, {len(parts)} beginnings"
    ours = over(parts, OURS)
    for peer in (BASE, LOGISTIC, TREES, VOWPAL):
        both = [part for part in parts if peer in part.scores]
        if not both:
            continue
        theirs = over(both, peer)
        low, high = interval(both, peer)
        held = (peer == BASE) or (peer == LOGISTIC and size >= LEVEL_FROM)
        yield Row(
            f"log loss {where}; ours lower by {low:+.4f} to {high:+.4f}",
            ours["log_loss"],
            peer=peer,
            theirs=theirs["log_loss"],
            goal="not higher by more than chance" if held else None,
            met=high >= 0 if held else None,
        )
        if peer != BASE:
            low, high = spread([auc(part, OURS) - auc(part, peer) for part in both])
            held = peer == LOGISTIC and size >= LEVEL_FROM
            yield Row(
                f"AUC {where}; ours higher by {low:+.4f} to {high:+.4f}",
                ours["auc"],
                peer=peer,
                theirs=theirs["auc"],
                goal="not lower by more than chance" if held else None,
                met=high >= 0 if held else None,
            )


def over(parts: Sequence[Scored], arm: str) -> dict[str, float]:
    """The arm's log loss and AUC, mean over the beginnings."""
    losses = [metrics.log_loss(part.scores[arm], part.part.label) for part in parts]
    return {"log_loss": float(np.mean(losses)), "auc": float(np.mean([auc(part, arm) for part in parts]))}


def auc(part: Scored, arm: str) -> float:
    return metrics.auc(part.scores[arm], part.part.label)


def interval(parts: Sequence[Scored], peer: str) -> tuple[float, float]:
    """Between what the peer's log loss less ours is, each bound with 95 % confidence, over all requests."""
    whole = concat(apart([part.part for part in parts]))
    theirs, ours = (np.concatenate([part.scores[arm] for part in parts]) for arm in (peer, OURS))
    difference = metrics.paired_difference(theirs, ours, whole.label, whole.request)
    return difference.lower, difference.upper


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The same of a mean of some differences; of one alone nothing is known."""
    if len(values) < 2:
        return float("-inf"), float("inf")
    error = ONE_SIDED_95 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)) - error, float(np.mean(values)) + error
