"""The bench of text: do updates of a pretrained encoder help queries that were never trained on, and at what cost?

    python -m benchmarks text --search product_search.parquet

Rated pairs of queries and titles, split by query. Each way of updating starts from the encoder as it comes, trains on
the pairs of 60 % of the queries, and is measured on those of the last 20 %; the 20 % between chose the settings.
Differences are by query, the mean over seeds first, with their standard error over queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from benchmarks.text_rankers import Update, as_it_comes, bm25
from benchmarks.text_search import Found, Part, RatedQueries, Scorer, found
from models.text.pretrained import base_of
from models.text.text_design import Adapt, TextDesign

AS_IT_COMES, OURS, WHOLE = "as it comes", "adapters for queries", "all weights"

WAYS: Mapping[str, Adapt] = {"head alone": "head", OURS: "query", "adapters for both": "both", WHOLE: "full"}

MEASURES = {
    "among": "NDCG@10 among random titles",
    "recall": "recall@10 of all titles",
    "alone": "NDCG@10 of rated titles alone",
}


@dataclass(frozen=True)
class TextConfig:
    """What to run."""

    search: Path
    queries: int | None = None
    """At most so many of the file, with their titles."""

    part: Part = "test"
    """Queries that are measured."""

    seeds: int = 3
    moving_pairs: int = 4_000
    """Pairs that the ways which move items train on, since a pair costs them 20 times as much."""

    random_titles: int = 100
    impressions: int = 20_000
    """Pairs of the update that is timed."""

    encoder: str = TextDesign.encoder

    @staticmethod
    def quick(search: Path) -> TextConfig:
        """Small sizes."""
        return TextConfig(search, queries=600, seeds=1, moving_pairs=300, impressions=1_000)


@dataclass(frozen=True, eq=False)
class Way:
    """One way of updating: an update for each seed, and what they find, the mean over seeds."""

    updates: Sequence[Update]
    found: Found


@dataclass(frozen=True)
class Difference:
    """Of a measure between two rankers, by query."""

    mean: float
    error: float
    """Standard error of the mean."""

    @staticmethod
    def of(ours: Found, theirs: Found, measure: str) -> Difference:
        """Of the queries for which it is defined."""
        return Difference.paired(vars(ours)[measure], vars(theirs)[measure])

    @staticmethod
    def paired(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> Difference:
        """Of values [N] of the same, as far as both are known; NaN where fewer than two are."""
        each = ours - theirs
        each = each[np.isfinite(each)]
        if len(each) < 2:
            return Difference(float("nan"), float("nan"))
        return Difference(float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5))

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ± {self.error:.4f}"


def bench(config: TextConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. Raises ImportRefused for a file it cannot read, LacksTextExtra and NoEncoder."""
    rated = RatedQueries.read(config.search, config.queries)
    base = base_of(config.encoder, wanted_by="the bench of text")
    progress(f"{len(rated.queries)} queries, {len(rated.query)} pairs; {len(rated.titles)} titles to be encoded")
    began = clock()
    titles, trained = base.encode(rated.titles), rated.rows_of("train")
    progress(f"encoded in {clock() - began:.0f} s")

    def measured(name: str, *scorers: Scorer) -> Found:
        each = [found(rated, config.part, scorer, random_titles=config.random_titles) for scorer in scorers]
        mean = Found(*(np.mean([vars(one)[key] for one in each], axis=0) for key in ("alone", "among", "recall")))
        progress(f"{name}: " + ", ".join(f"{what} {value(mean, key):.4f}" for key, what in MEASURES.items()))
        return mean

    def updated(name: str, adapt: Adapt, *, few: bool) -> Way:
        design = TextDesign("query", "item", config.encoder, adapt)
        updates, rows = list[Update](), trained[: config.moving_pairs if few else None]
        for seed in range(config.seeds):
            updates.append(Update.of(design, base, rated, rows, titles, seed))
            loss = f"{updates[-1].training.loss_before:.3f} to {updates[-1].training.loss_after:.3f}"
            progress(f"{name}, seed {seed}: {updates[-1].cpu_s:.0f} CPU s, loss of queries held out {loss}")
        return Way(updates, measured(name, *(update.scorer(base, rated, titles) for update in updates)))

    peers = {
        "BM25": measured("BM25", bm25(rated.titles)),
        AS_IT_COMES: measured(AS_IT_COMES, as_it_comes(base, titles)),
    }
    ways = {name: updated(name, adapt, few=adapt in ("both", "full")) for name, adapt in WAYS.items()}
    few = updated(f"{OURS}, as few pairs", WAYS[OURS], few=True)
    design = TextDesign("query", "item", config.encoder, WAYS[OURS])
    timed = Update.of(design, base, rated, trained[: config.impressions], titles, seed=0)
    weights = sum(own.numel() for own in base.transformer.parameters())
    return Table("text", machine(), [*qualities(peers, ways, few), *costs(ways, timed, weights)])


def value(what: Found, measure: str) -> float:
    """The mean over queries."""
    return float(np.nanmean(vars(what)[measure]))


def qualities(peers: Mapping[str, Found], ways: Mapping[str, Way], few: Way) -> list[Row]:
    """Each ranker's measures beside those of the encoder as it comes, and the difference. ``few``: adapters for
    queries, trained on as few pairs as what moves items."""
    base = peers[AS_IT_COMES]
    all_found = {**peers, **{name: way.found for name, way in ways.items()}, f"{OURS}, as few pairs": few.found}
    rows = list[Row]()
    for key, measure in MEASURES.items():
        for name, own in all_found.items():
            if name == AS_IT_COMES:
                continue
            rows.append(Row(f"{measure}, {name}", value(own, key), "", AS_IT_COMES, value(base, key)))
            difference = Difference.of(own, base, key)
            goal, met = None, None
            if name == OURS and key == "alone":
                goal, met = "no more than .001 below", difference.mean >= -0.001
            elif name == OURS:
                goal, met = "above by two errors", difference.mean > 2 * difference.error
            rows.append(Row("  by query", str(difference), goal=goal, met=met))
        if key != "alone":
            level, for_all = (Difference.of(way.found, ways[WHOLE].found, key) for way in (few, ways[OURS]))
            beside, met = f"{measure}, {OURS} over {WHOLE}", level.mean >= -level.error
            rows += [
                Row(f"{beside}, same pairs", str(level), goal="level in an error", met=met),
                Row(f"{beside}, all pairs for its few", str(for_all)),
            ]
    return rows


def costs(ways: Mapping[str, Way], timed: Update, weights: int) -> list[Row]:
    """What each way moves, stores and takes; ``timed``, an update of adapters for queries; ``weights`` of the base."""
    rows = list[Row]()
    for name, way in ways.items():
        one = way.updates[0]
        share, stored = 100 * one.parameters / weights, one.stored / 1e6
        taken = sum(update.cpu_s for update in way.updates) / sum(update.rows for update in way.updates)
        ours = name == OURS
        rows += [
            Row(f"pairs and seeds, {name}", f"{one.rows:,} and {len(way.updates)}"),
            Row(f"training, {name}", one.cpu_s, "CPU s"),
            row_with_goal(f"parameters, {name}", share, "% of all", 3, held=ours),
            row_with_goal(f"stored, {name}", stored, "MB", 2, held=ours),
            Row(f"training by 20,000 impressions, {name}", 20_000 * taken, "CPU s"),
        ]
    met = timed.cpu_s < 60 if timed.rows >= 20_000 else None
    what = f"an update of {timed.rows:,} impressions, {OURS}"
    return [*rows, Row(what, timed.cpu_s, "CPU s", goal="under 60", met=met)]


def row_with_goal(what: str, figure: float, unit: str, below: float, *, held: bool) -> Row:
    """A figure that is to be under another, where it is ``held`` to that."""
    return (
        Row(what, figure, unit, goal=f"under {below:g} {unit}", met=figure < below) if held else Row(what, figure, unit)
    )
