"""The bench of text: measures by their definition, queries apart, everything in one table; on made-up pairs."""

import json
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import text_precision, text_stream
from benchmarks.text import AS_IT_COMES, MEASURES, OURS, WAYS, Difference, TextConfig, bench
from benchmarks.text_precision import PrecisionConfig
from benchmarks.text_search import Found, RatedQueries, found, ndcg
from benchmarks.text_stream import StreamConfig
from features.ingest.sources import ImportRefused
from tests.worlds.encoders import WORDS, write_encoder

DATA = Path(os.environ.get("MILLRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_pairs(path: Path, queries: int = 120) -> Path:
    """Each query of three words with four titles: the more words they share, the better they were rated."""
    draw, rows = np.random.default_rng(0), list[tuple[str, str, float]]()
    for _ in range(queries):
        query = draw.choice(WORDS, 3, replace=False).tolist()
        for shared in range(4):
            others = draw.choice(WORDS, 5 - shared).tolist()
            rows.append((" ".join(query), " ".join([*query[:shared], *others]), 1 + 2 * shared / 3))
    pl.DataFrame(rows, ["query", "title", "relevance"], orient="row").write_parquet(path)
    return path


def test_ndcg_is_that_of_the_definition() -> None:
    assert ndcg(np.array([3.0, 2.0, 1.0], np.float32), np.array([7.0, 3.0, 1.0])) == 1
    worst = (1 + 3 / np.log2(3) + 7 / 2) / (7 + 3 / np.log2(3) + 1 / 2)
    assert ndcg(np.array([1.0, 2.0, 3.0], np.float32), np.array([7.0, 3.0, 1.0])) == pytest.approx(worst)


def test_queries_are_in_one_part_each(tmp_path: Path) -> None:
    rated = RatedQueries.read(write_pairs(tmp_path / "pairs.parquet"))
    parts = [set(rated.query[rated.rows_of(part)].tolist()) for part in ("train", "validation", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(rated.queries)


def test_one_who_knows_the_ratings_finds_all(tmp_path: Path) -> None:
    rated = RatedQueries.read(write_pairs(tmp_path / "pairs.parquet"))

    def knows(queries: object) -> np.ndarray:
        assert isinstance(queries, list)
        scores = np.zeros((len(queries), len(rated.titles)), np.float32)
        for row, query in enumerate(queries):
            own = rated.query == rated.queries.index(query)
            np.maximum.at(scores[row], rated.title[own], rated.relevance[own])
        return scores

    best = found(rated, "test", knows, random_titles=20)
    assert best.alone.min() == best.among.min() == best.recall.min() == 1
    blind = found(rated, "test", lambda queries: np.zeros((len(queries), len(rated.titles))), random_titles=20)
    assert blind.among.mean() < 0.5


def test_a_difference_is_paired_by_query() -> None:
    draw = np.random.default_rng(0)
    theirs, gain = draw.random(400), draw.normal(0.01, 0.02, 400)
    theirs[0] = np.nan
    ours, base = Found(theirs + gain, theirs, theirs), Found(theirs, theirs, theirs)
    assert Difference.of(ours, base, "alone").mean == pytest.approx(gain[1:].mean())
    assert Difference.of(ours, base, "alone").error == pytest.approx(gain[1:].std(ddof=1) / 399**0.5)


def test_the_bench_ends_in_one_table(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    config = TextConfig(write_pairs(tmp_path / "pairs.parquet"), encoder=encoder, seeds=2, moving_pairs=40)
    lines: list[str] = []
    table = bench(replace(config, impressions=100), clock=time.perf_counter, progress=lines.append)
    rows = {row.what: row for row in table.rows}
    for measure in MEASURES.values():
        for name in ("BM25", *WAYS):
            row = rows[f"{measure}, {name}"]
            assert isinstance(row.ours, float)
            assert 0 < row.ours <= 1
            assert row.peer == AS_IT_COMES
    assert rows[f"pairs and seeds, {OURS}"].ours == f"{len(RatedQueries.read(config.search).rows_of('train')):,} and 2"
    assert rows["pairs and seeds, all weights"].ours == "40 and 2"
    assert rows[f"{MEASURES['recall']}, {OURS} over all weights, same pairs"].goal == "level in an error"
    assert rows[f"{MEASURES['recall']}, {OURS} over all weights, all pairs for its few"].goal is None
    assert json.loads(table.text())["name"] == "text"
    assert lines


@pytest.mark.slow
def test_the_bench_of_int8_has_both_precisions_of_the_same_updates(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    config = PrecisionConfig(write_pairs(tmp_path / "pairs.parquet"), seeds=2, alone=10, titles=40, encoder=encoder)
    table = text_precision.bench(config, clock=time.perf_counter, progress=lambda line: None)
    rows = {row.what: row for row in table.rows}
    for name in ("as it comes", "adapters"):
        for measure in MEASURES.values():
            row = rows[f"{measure}, {name}"]
            assert isinstance(row.ours, float)
            assert row.theirs is not None
            assert abs(row.ours - row.theirs) < 0.1
        cosine = rows[f"cosine with float32, {name}, mean"].ours
        assert isinstance(cosine, float)
        assert 0.98 < cosine < 1


def test_the_stream_ends_in_one_table_with_each_part_and_without(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    pairs = write_pairs(tmp_path / "pairs.parquet", queries=300)
    config = StreamConfig(pairs, windows=4, requests=40, recurring=8, encoder=encoder)
    table = text_stream.bench(config, clock=time.perf_counter, progress=lambda line: None)
    rows = {row.what: row for row in table.rows}
    for arm in ("counters alone", text_stream.BASE, "counters and encoder as it comes", text_stream.OURS):
        for sort in (text_stream.TURNED, text_stream.KEPT, text_stream.ONCE):
            path = str(rows[f"NDCG@10 by window, {sort}, {arm}"].ours).split()
            assert len(path) == config.windows - 1
            assert all(0.3 < float(value) <= 1 for value in path if value != "nan")
    assert rows["asked once, later"].peer == text_stream.BASE


def test_the_meaning_of_some_queries_turns_half_way(tmp_path: Path) -> None:
    config = StreamConfig(write_pairs(tmp_path / "pairs.parquet", queries=300), windows=4, requests=60, recurring=8)
    world = text_stream.drawn(RatedQueries.read(config.search), config)
    assert text_stream.drawn(RatedQueries.read(config.search), config).gain == world.gain
    shown = world.log.with_columns(
        pl.col("impression_id").replace_strict(world.gain, return_dtype=pl.Float64).alias("gain"),
        pl.col("request_id").replace_strict(world.sort).alias("sort"),
        (pl.col("shown_at") < pl.lit(text_stream.START + timedelta(hours=2))).alias("before"),
    )
    means = shown.filter(pl.col("gain") > 0).group_by("sort", "query", "item_id").agg(pl.col("gain").n_unique())
    assert means.filter(pl.col("sort") != text_stream.TURNED)["gain"].max() == 1
    assert means.filter(pl.col("sort") == text_stream.TURNED)["gain"].max() == 2


def test_a_file_without_ratings_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"query": ["a"]}).write_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(ImportRefused, match="has no column relevance, title"):
        RatedQueries.read(tmp_path / "pairs.parquet")


def test_the_public_pairs_are_read_as_they_are() -> None:
    path = DATA / "product_search.parquet"
    if not path.exists():
        pytest.skip(f"no {path}: the rated pairs are not here; MILLRACE_DATA says where they are")
    rated = RatedQueries.read(path)
    assert (len(rated.queries), len(rated.titles), len(rated.query)) == (8_256, 40_579, 52_220)
