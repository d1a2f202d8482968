"""The world as monitoring sees it: a window, and evidence with every part measured on one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

from monitoring.checks.window import Expected, check_window
from monitoring.evaluation import compare, drift, retrieval
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evidence import Evidence, Forgetting, InSample, ReferenceGain, Training, WindowFacts
from monitoring.evaluation.lost_queries import LostQuery, Result
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.query_drift import FarQuery, QueryDrift
from monitoring.evaluation.rated import RatedComparison, by_query
from monitoring.evaluation.reranking import ranking_value
from monitoring.evaluation.skew import Skew, SkewedFeature
from monitoring.evaluation.text_evidence import TextEvidence
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Word
from tests.worlds.impressions import OTHER, Floats, Ints, impressions

END = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = END - timedelta(hours=1)
NAMES = tuple(f"feature_{column}" for column in range(12))


@dataclass(frozen=True)
class Window:
    frame: pl.DataFrame
    dense: np.ndarray
    truth: np.ndarray
    """The probability with which each impression's label was drawn."""

    label: np.ndarray
    request: np.ndarray

    def blurred(self, noise: float, seed: int) -> np.ndarray:
        """Predictions whose log-odds are off by a normal error of this size."""
        odds = np.log(self.truth / (1 - self.truth))
        odds = odds + noise * np.random.default_rng(seed).normal(size=len(odds))
        return 1 / (1 + np.exp(-odds))


WEIGHTS = np.array([0.8, 0.1, -0.5, 0.4, 0.3, -0.2])
"""Of the first features; the others say nothing."""


def window(seed: int = 0, requests: int = 480, candidates: int = 5, shift: float = 0.0) -> Window:
    """A clean hour: `requests` requests of `candidates` impressions, the second feature a count of 0 to 3."""

    def dense_of(numbers: Floats, ids: Ints) -> np.ndarray:
        dense = numbers.astype(np.float16)
        dense[:, 0] += np.float16(shift)
        dense[:, 1] = ids[:, OTHER] % 4
        return dense

    drawn = impressions(
        requests,
        lambda numbers, ids: -1.6 + dense_of(numbers, ids)[:, : len(WEIGHTS)].astype(np.float64) @ WEIGHTS,
        seed=seed,
        candidates=candidates,
        numbers=len(NAMES),
        ids=OTHER + 1,
    )
    request, label, rows = drawn.request, drawn.label, requests * candidates
    shown = [START + timedelta(seconds=1 + int(code) % 3500) for code in request]
    frame = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(rows)],
            "request_id": [f"r{code}" for code in request],
            "user_id": [f"u{code % 97}" for code in request],
            "item_id": [f"a{row % 31}" for row in range(rows)],
            "shown_at": pl.Series(shown, dtype=pl.Datetime("us", "UTC")),
            "label": label,
            "schema_version": ["v1"] * rows,
        }
    )
    return Window(frame, dense_of(drawn.numbers, drawn.ids), drawn.truth, label, request)


@cache
def evidence() -> Evidence:
    """Of a challenger that is better overall and worse for the readers of one region; every part of it is measured."""
    part, before = window(seed=2, shift=1.0), window(seed=1)
    region = np.array(["north", "south", "west", "east"])[part.request % 4]
    challenger = np.where(region == "west", part.blurred(1.6, 3), part.truth)
    champion, final = part.blurred(0.5, 1), part.blurred(0.3, 7)
    gain = compare.paired(part.label, part.request, champion, challenger)
    older = compare.paired(before.label, before.request, before.blurred(0.4, 5), before.blurred(0.6, 6))
    references = {
        version: compare.paired(part.label, part.request, part.blurred(noise, 4), challenger)
        for version, noise in (("3", 0.7), ("2", 0.6))
    }
    assert gain.moments is not None
    process = ProcessRecord().add(gain.moments, loss=0.01, judged_to=START)
    return Evidence(
        window=WindowFacts(START, END, 2400, float(part.label.mean()), without_row=3, freshness_s=312.0),
        judged="progressive",
        hypothesis="not_worse",
        champion="4",
        checks=tuple(check_window(part.frame, part.dense, NAMES, Expected("v1", START, END))),
        prequential=compare.measure(part.label, part.request, champion),
        comparison=compare.compare(
            part.label,
            part.request,
            challenger=challenger,
            champion=champion,
            slices={"region": region, "reader": np.where(part.request % 3 == 0, "new", "known")},
            kinds={"region": "context", "reader": "user"},
            attributes={"region": region},
            progressive=True,
        ),
        training=Training(2400, 2400, 30, "done", 0.44, {"user": 97, "item": 31}, {"user": 12, "item": 2}),
        cost=Cost(4.2, 24_100.0, 3_400_000, 3_300_000, 50, 1.8),
        references=(
            ReferenceGain("a day ago", "3", references["3"]),
            ReferenceGain("proven baseline", "2", references["2"]),
        ),
        in_sample=InSample(
            compare.paired(part.label, part.request, champion, final),
            0.41,
            0.43,
            compare.prediction_shift(champion, final),
        ),
        forgetting=Forgetting(START - timedelta(days=1), END - timedelta(days=1), 2400, 0.42, 0.43, older),
        drift=_drift(window(seed=1), part, region, "what the champion was trained on"),
        season_drift=_drift(window(seed=3), part, region, "the same hours of earlier days", usual=(0.02, 0.0, 0.05)),
        skew=Skew(3, 180, 1, 2, 2160, 0.004, (SkewedFeature("feature_3", 0.05, 1.5, 1.25, "i7"),)),
        ranking_value=ranking_value(
            part.label,
            part.request,
            np.arange(2400) % 5,
            np.full(2400, np.nan),
            challenger=challenger,
            champion=champion,
        ),
        towers=retrieval.TowersEvidence(_clicks_found(8), _clicks_found(9), not_finite=0),
        text=_text(),
        query_drift=QueryDrift(
            212,
            198,
            0.61,
            0.0021,
            0.0034,
            0.0094,
            (FarQuery("rain shower head", "deck over", 0.21), FarQuery("angle bracket", "rain jacket", 0.27)),
            "what the champion was trained on",
        ),
        process=process,
        process_after=process.add(
            gain.moments,
            loss=0.01,
            judged_to=END,
            against={version: found.moments for version, found in references.items() if found.moments is not None},
        ),
        baseline="2",
    )


def _drift(before: Window, now: Window, region: np.ndarray, against: str, usual: tuple[float, ...] = ()) -> drift.Drift:
    """PSI of two histograms; Evidently's own takes many seconds to import."""
    samples = [
        drift.sample(before.dense, NAMES, {"label": before.label, "region": ["north", "west"] * 1200}, seed=1),
        drift.sample(now.dense, NAMES, {"label": now.label, "region": region}, seed=2),
    ]
    drawn = {column: drift.histogram(samples[0][column], samples[1][column]) for column in samples[0].columns}
    psi = {column: _stability(histogram) for column, histogram in drawn.items()}
    columns = [
        drift.ColumnDrift(
            column,
            psi[column],
            drift.THRESHOLD,
            drawn[column] if place < drift.DRAWN else None,
            drifted=psi[column] > drift.THRESHOLD,
            usual=usual,
        )
        for place, column in enumerate(sorted(psi, key=lambda column: -psi[column]))
    ]
    return drift.Drift(len(samples[0]), len(samples[1]), drift.THRESHOLD, tuple(columns), against)


def _stability(drawn: drift.Histogram) -> float:
    before, now = (np.maximum(np.array(side) / 100, 1e-4) for side in (drawn.reference, drawn.current))
    return float(((now - before) * np.log(now / before)).sum())


def _clicks_found(seed: int) -> retrieval.RetrievalComparison:
    random = np.random.default_rng(seed)
    user = np.arange(200, dtype=np.int64) % 97
    champion, challenger, popularity = (random.integers(0, reach, 200) for reach in (150, 140, 300))
    return retrieval.compare(user, champion=champion, challenger=challenger, popularity=popularity, alive=500)


def _text() -> TextEvidence:
    """Of an encoder that moved its rated queries a little, and one search of the window much."""
    random = np.random.default_rng(11)
    champion, challenger, as_it_comes = (0.92 + 0.02 * random.normal(size=120) for _ in range(3))
    rated = RatedComparison(
        "5f2b" * 16,
        120,
        960,
        float(challenger.mean()),
        float(as_it_comes.mean()),
        float(champion.mean()),
        by_query(challenger - as_it_comes),
        by_query(challenger - champion),
    )
    coat, lamp = Result("waterproof coat for hiking", 0.61, 1.0), Result("reading light for the desk", 0.12, 0.0)
    before, now = (coat, lamp), (replace(lamp, score=0.44), replace(coat, score=0.31))
    return TextEvidence(rated, 0, (LostQuery("small rain jacket", 12, 0.54, before, now),))


def finding(word: Word = "hold", *, name: str = "region = west", code: str = "slices") -> Finding:
    """One of the gate's, about something of that name."""
    facts: Mapping[str, str] = {"slices": name, "allowed": "5 %"}
    return Finding(code, word, facts)
