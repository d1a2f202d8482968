"""The bench of wordings: of the headlines that an article was tested under, does what was learned from earlier tests
tell which is clicked more?

    python -m benchmarks text --headlines upworthy_headlines.parquet

Tests come in the order of their weeks, and a week's pairs of headlines are ordered by what was learned of the weeks
before it (test, then train). A pair counts as much as its click rates differ, in standard errors (|z|): of most pairs
chance decides which was clicked more, these count little, and none has to be left out by a limit. Only pairs of the
later half of the weeks count; the earlier half chose the settings. What is compared was tested with the same picture.
Intervals are by bootstrap over tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from benchmarks.text_words import WordModel
from features.ingest.sources import ImportRefused
from models.text.appeal import DAY, Appeal
from models.text.pairs import distinct
from models.text.pretrained import base_of
from models.text.texts import Vectors
from models.text.wording_design import WordingDesign
from models.text.wordings import Floats, Keys, Wordings

OURS, WHOLE, WORDS = "a direction on four layers", "a direction on the encoder as it comes", "bag of words"

COLUMNS = (
    *("clickability_test_id", "eyecatcher_id", "headline", "impressions", "clicks"),
    *("week_start", "suspect_randomisation_period"),
)

SIGNIFICANT = 1.96
"""Standard errors."""

DRAWS = 2_000
"""Of the bootstrap."""


@dataclass(frozen=True)
class WordingsConfig:
    """What to run."""

    headlines: Path
    weeks: int | None = None
    """At most so many, the first."""

    seed: int = 0
    """Of the bootstrap."""

    @staticmethod
    def quick(headlines: Path) -> WordingsConfig:
        """Small sizes."""
        return WordingsConfig(headlines, weeks=20)


@dataclass(frozen=True, eq=False)
class Headlines:
    """N headlines as they were tested, and their T distinct texts."""

    texts: tuple[str, ...]

    text: Keys
    """[N], index into ``texts``."""

    thing: Keys
    """[N]; a code for the test and its picture."""

    test: Keys
    """[N]"""

    week: Keys
    """[N], from 0 on, ascending; only weeks with tests count."""

    shown: Floats
    clicked: Floats

    @staticmethod
    def read(path: Path, weeks: int | None = None) -> Headlines:
        """Those of the first ``weeks``, where there are to be at most so many; without the weeks in which it is not
        sure that chance alone decided who saw what. Raises ImportRefused for a file without ``COLUMNS``."""
        table = pl.read_parquet(path)
        if missing := [name for name in COLUMNS if name not in table.columns]:
            raise ImportRefused(
                f"{path} has no column {', '.join(missing)}: tested headlines have {', '.join(COLUMNS)}"
            )
        thing = ["week_start", "clickability_test_id", "eyecatcher_id"]
        table = (
            table.filter(~pl.col("suspect_randomisation_period"))
            .group_by(*thing, "headline")
            .agg(pl.col("impressions").sum(), pl.col("clicks").sum())
            .filter(pl.len().over(thing) > 1)
            .sort(*thing, "headline")
            .with_columns(
                week=pl.col("week_start").rank("dense") - 1,
                thing=pl.struct(thing).rle_id(),
                test=pl.col("clickability_test_id").rank("dense") - 1,
            )
        )
        if weeks is not None:
            table = table.filter(pl.col("week") < weeks)
        texts, text = distinct(table["headline"].to_list())
        thing_code, test, week = (table[name].to_numpy().astype(np.int64) for name in ("thing", "test", "week"))
        shown, clicked = (table[name].to_numpy().astype(np.float64) for name in ("impressions", "clicks"))
        return Headlines(texts, text, thing_code, test, week, shown, clicked)


class Ranker(Protocol):
    """What orders headlines."""

    def score(self, rows: Keys) -> Floats:
        """[n], of these rows of what was tested."""

    def learn(self, rows: Keys) -> None:
        """From what came of a week's rows."""


@dataclass(eq=False)
class Direction:
    """What the part of a model that reads wordings does, a week an update."""

    tested: Headlines
    design: WordingDesign
    vectors: Vectors
    """[T, W], of the texts."""

    appeal: Appeal = field(init=False)

    def __post_init__(self) -> None:
        self.appeal = Appeal.new(self.design, self.vectors.shape[1])

    def score(self, rows: Keys) -> Floats:
        return self.appeal.of(self.vectors[self.tested.text[rows]]).astype(np.float64)

    def learn(self, rows: Keys) -> None:
        own = self.tested
        wordings = Wordings.of(own.thing[rows], own.text[rows], own.shown[rows], own.clicked[rows])
        at = 7 * DAY * (float(own.week[rows].max()) + 1)
        self.appeal = self.appeal.updated(wordings, self.vectors[wordings.text], at, self.design)


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of headlines of one thing."""

    one: Keys
    other: Keys
    """[P] each, rows of what was tested."""

    z: Floats
    """[P], how much more often the one was clicked, in standard errors of the difference if there were none."""

    @staticmethod
    def of(tested: Headlines, rows: Keys) -> Pairs:
        """All of these rows."""
        found = list[NDArray[np.int64]]()
        for own in np.split(rows, np.flatnonzero(np.diff(tested.thing[rows])) + 1):
            places = np.triu_indices(len(own), 1)
            found.append(np.stack([own[places[0]], own[places[1]]]))
        one, other = np.concatenate(found, axis=1)
        (n, c), (m, d) = ((tested.shown[row], tested.clicked[row]) for row in (one, other))
        rate = (c + d) / (n + m)
        error = np.sqrt(rate * (1 - rate) * (1 / n + 1 / m))
        return Pairs(one, other, np.divide(c / n - d / m, error, out=np.zeros_like(error), where=error > 0))

    def right(self, score: Floats) -> Floats:
        """[P]: 1 where a score of rows [N] orders a pair as its clicks do, 1/2 where it does not order it."""
        return 0.5 + 0.5 * np.sign(score[self.one] - score[self.other]) * np.sign(self.z)


def bench(config: WordingsConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. Raises ImportRefused for a file it cannot read, LacksTextExtra and NoEncoder."""
    tested = Headlines.read(config.headlines, config.weeks)
    weeks = int(tested.week.max()) + 1
    progress(f"{len(tested.texts)} headlines of {len(np.unique(tested.test))} tests in {weeks} weeks")
    ours, whole = WordingDesign("headline", "thing"), WordingDesign("headline", "thing", layers=None)
    encoded, vectors = {}, {}
    for name, design in ((OURS, ours), (WHOLE, whole)):
        base, began = base_of(design.encoder, design.layers, wanted_by="the bench of headlines"), process_time()
        vectors[name] = base.encode(tested.texts)
        encoded[name] = 1_000 * (process_time() - began) / len(tested.texts)
        progress(f"{name}: {encoded[name]:.1f} CPU s to encode 1,000 headlines")
    learned = Direction(tested, ours, vectors[OURS])
    rankers: dict[str, Ranker] = {
        OURS: learned,
        WHOLE: Direction(tested, whole, vectors[WHOLE]),
        WORDS: WordModel([tested.texts[text] for text in tested.text.tolist()], tested),
    }
    scores, taken = {name: np.zeros(len(tested.text)) for name in rankers}, dict.fromkeys(rankers, 0.0)
    for week in range(weeks):
        rows = np.flatnonzero(tested.week == week)
        for name, ranker in rankers.items():
            scores[name][rows] = ranker.score(rows)
            began = process_time()
            ranker.learn(rows)
            taken[name] += process_time() - began
    judged = Pairs.of(tested, np.flatnonzero(tested.week >= weeks // 2))
    measured = {name: Accuracy.of(judged, score, tested.test, config.seed) for name, score in scores.items()}
    stored = sum(array.nbytes for array in learned.appeal.arrays().values()) / 1e6
    return Table(
        "text-headlines",
        machine(),
        [
            Row("weeks, and pairs of the later half", f"{weeks} and {len(judged.z):,}"),
            *qualities(measured),
            *(Row(f"encoding, {name}", cost, "CPU s per 1,000 headlines") for name, cost in encoded.items()),
            *(Row(f"learning, {name}", 1_000 * taken[name] / weeks, "CPU ms a week") for name in rankers),
            Row(f"stored, {OURS}", stored, "MB"),
        ],
    )


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Share of pairs in their order, by |z|; and on each draw of tests."""

    mean: float
    draws: Floats
    significant: float
    """Of those with |z| above ``SIGNIFICANT``, each counting alike."""

    @staticmethod
    def of(pairs: Pairs, score: Floats, test: Keys, seed: int) -> Accuracy:
        """The same ``seed`` draws the same tests, for all scores."""
        right, weight = pairs.right(score), np.abs(pairs.z)
        tests, code = np.unique(test[pairs.one], return_inverse=True)
        sums = np.stack([np.bincount(code, right * weight), np.bincount(code, weight)])
        random = np.random.default_rng(seed)
        times = random.multinomial(len(tests), np.full(len(tests), 1 / len(tests)), DRAWS)
        drawn, total = times @ sums[0], times @ sums[1]
        telling = weight > SIGNIFICANT
        return Accuracy(float(sums[0].sum() / sums[1].sum()), drawn / total, float(right[telling].mean()))

    def over(self, other: Accuracy | float) -> tuple[float, float, float]:
        """By how much it is above another, and the ends of the 95 % interval of that."""
        mean, draws = (other, other) if isinstance(other, float) else (other.mean, other.draws)
        low, high = np.quantile(self.draws - draws, [0.025, 0.975])
        return self.mean - mean, float(low), float(high)


def qualities(measured: Mapping[str, Accuracy]) -> list[Row]:
    """How often each is right, and whether ours is above the others beyond chance."""
    rows = list[Row]()
    for name, accuracy in measured.items():
        _, low, high = accuracy.over(0.0)
        rows += [
            Row(f"pairs in order, by |z|, {name}", 100 * accuracy.mean, "%"),
            Row("  95 % interval", f"{100 * low:.1f} to {100 * high:.1f} %"),
            Row("  of pairs beyond 1.96 errors", 100 * accuracy.significant, "%"),
        ]
    rivals: dict[str, Accuracy | float] = {"chance": 0.5, WORDS: measured[WORDS], WHOLE: measured[WHOLE]}
    for name, rival in rivals.items():
        mean, low, high = measured[OURS].over(rival)
        found = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) points"
        rows.append(Row(f"{OURS} over {name}", found, goal="above 0, the interval too", met=low > 0))
    return rows
