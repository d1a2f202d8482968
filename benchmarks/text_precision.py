"""The bench of an encoder in int8: how much sooner a query has its vector, and what that costs in what is found.

    python -m benchmarks text --search product_search.parquet --int8

Titles' vectors are those of float32 in either case, as where vectors of items stay; queries are encoded one at a time,
in turns, by the compiled encoder, as serving does. An update is trained once, in float32, and applied in both.
Differences are by query, as in the bench of text.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from benchmarks.text import MEASURES, Difference, value
from benchmarks.text_rankers import Update
from benchmarks.text_search import Found, Part, RatedQueries, Scorer, found
from models.tables.rows import Floats
from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.compiled import Form, queries_by
from models.text.compiling import prepare
from models.text.pretrained import base_of
from models.text.text_design import EncoderPrecision, TextDesign

PRECISIONS: tuple[EncoderPrecision, EncoderPrecision] = ("float32", "int8")

Encode = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True)
class PrecisionConfig:
    """What to run."""

    search: Path
    queries: int | None = None
    """At most so many of the file, with their titles."""

    part: Part = "test"
    seeds: int = 3
    random_titles: int = 100
    alone: int = 500
    """Queries that are encoded one at a time."""

    titles: int = 2_000
    """That are encoded in bulk."""

    encoder: str = TextDesign.encoder

    @staticmethod
    def quick(search: Path) -> PrecisionConfig:
        """Small sizes."""
        return PrecisionConfig(search, queries=600, seeds=1, alone=100, titles=100)


def bench(config: PrecisionConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. Raises ImportRefused for a file it cannot read, LacksTextExtra and NoEncoder."""
    rated = RatedQueries.read(config.search, config.queries)
    base = base_of(config.encoder, wanted_by="the bench of text")
    progress(f"{len(rated.queries)} queries, {len(rated.query)} pairs; {len(rated.titles)} titles to be encoded")
    titles, trained = base.encode(rated.titles), rated.rows_of("train")
    design = TextDesign("query", "item", config.encoder)
    updates = [Update.of(design, base, rated, trained, titles, seed).adapted for seed in range(config.seeds)]
    progress("trained")
    with tempfile.TemporaryDirectory(prefix="millrace-text-") as folder:
        for precision in PRECISIONS:
            prepare(base, Form(precision, design.rank), Path(folder), threading.Event())
    progress("compiled")
    rows = list[Row]()
    parts_of: dict[str, Sequence[Adapted | None]] = {"as it comes": [None], "adapters": updates}
    for name, parts in parts_of.items():
        ways = [[encoder(base, part, precision) for part in parts] for precision in PRECISIONS]
        rows += query_rows(name, [one[0] for one in ways], rated.queries[: config.alone], clock)
        whole, rounded = (
            mean([found(rated, config.part, scorer(own, titles), random_titles=config.random_titles) for own in each])
            for each in ways
        )
        rows += quality_rows(name, whole, rounded)
        progress(f"{name}: measured")
    return Table("text-int8", machine(), [*rows, *bulk_rows(base, rated.titles[: config.titles])])


def encoder(base: Base, adapted: Adapted | None, precision: EncoderPrecision) -> Encode:
    """Of queries; an update's in another precision."""
    if adapted is None:
        plain = TextDesign("query", "item", base.name, precision=precision)
        return partial(queries_by, base, plain, None)
    other = Adapted.of(replace(adapted.design, precision=precision), adapted.arrays(), adapted.steps)
    return partial(other.queries, base)


def scorer(encode: Encode, titles: Floats) -> Scorer:
    """Cosines with the titles' vectors [T, width]."""
    return lambda queries: encode(queries) @ titles.T


def mean(each: Sequence[Found]) -> Found:
    """Over seeds."""
    return Found(*(np.mean([vars(one)[key] for one in each], axis=0) for key in ("alone", "among", "recall")))


def query_rows(name: str, ways: Sequence[Encode], queries: Sequence[str], clock: Clock) -> list[Row]:
    """How long a query takes, each way in turns, and how alike the vectors are."""
    for encode in ways:
        encode(queries[:2])
    times, vectors = [list[float]() for _ in ways], [list[Floats]() for _ in ways]
    for query in queries:
        for own, made, encode in zip(times, vectors, ways, strict=True):
            began = clock()
            made.append(encode([query])[0])
            own.append(clock() - began)
    whole, rounded = (np.array(own) * 1e3 for own in times)
    cosine = np.einsum("nw,nw->n", *(np.array(made) for made in vectors))
    rows = [
        Row(f"one query, {name}, p{100 * share:g}", at(rounded, share), "ms", "float32", at(whole, share))
        for share in (0.5, 0.9)
    ]
    return [
        *rows,
        Row(f"cosine with float32, {name}, mean", float(cosine.mean())),
        Row("  lowest", float(cosine.min())),
    ]


def at(times: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(times, share))


def quality_rows(name: str, whole: Found, rounded: Found) -> list[Row]:
    """Each measure in int8 beside float32, and the difference by query."""
    rows = list[Row]()
    for key, measure in MEASURES.items():
        rows.append(Row(f"{measure}, {name}", value(rounded, key), "", "float32", value(whole, key)))
        rows.append(Row("  by query", str(Difference.of(rounded, whole, key))))
    return rows


def bulk_rows(base: Base, titles: Sequence[str]) -> list[Row]:
    """Titles of a CPU second, and what each precision holds in memory."""
    rates = []
    for precision in PRECISIONS:
        began = process_time()
        base.encode(titles, precision)
        rates.append(len(titles) / (process_time() - began))
    whole, rounded = ({own.data_ptr(): own.nbytes for own in base.at(p).state_dict().values()} for p in PRECISIONS)
    own = sum(size for place, size in rounded.items() if place not in whole)
    return [
        Row("titles encoded, 32 at once", rates[1], "a CPU second", "float32", rates[0]),
        Row("weights in memory beside float32's", own / 1e6, "MB", "float32", sum(whole.values()) / 1e6),
    ]
