"""How long the figures of a large window take: a window repeated until it has that many rows, measured once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.table import Row
from flows.drill.in_memory import JudgedWindow
from models.examples import apart, concat
from models.frames import Frame
from monitoring.evaluation.evaluate import evaluate
from monitoring.evaluation.history import History
from monitoring.evaluation.window import Champion, Window, check
from monitoring.reports import report

MILLION = 1e6

FIGURES_WITHIN_S, REPORT_WITHIN_S = 10.0, 30.0


def repeated(window: Window, rows: int) -> Window:
    """A window of at least so many rows: copies of this one, one after the other, with ids of their own."""
    frame, examples = window.frame, window.frame.examples
    times = -(-rows // len(frame))
    length = window.end - window.start
    tables = [
        frame.table.with_columns(
            *(pl.format(f"{n}-{{}}", name).alias(name) for name in ("impression_id", "request_id", "user_id")),
            (pl.col("shown_at") + n * length).cast(frame.table.schema["shown_at"]),
        )
        for n in range(times)
    ]
    parts = [replace(examples, time=examples.time + n * length.total_seconds()) for n in range(times)]
    whole = Frame(pl.concat(tables), concat(apart(parts)), 0)
    end = window.start + times * length
    propensity = None if window.propensity is None else np.tile(window.propensity, times)
    return replace(window, split=end, end=end, frame=whole, propensity=propensity)


def evaluated(judged: JudgedWindow, rows: int, clock: Callable[[], float]) -> list[Row]:
    """Seconds per million impressions of the data checks, and of champion against challenger with all slices.

    Scoring is what serving and training pay for, and is a row of its own.
    """
    assert judged.trained is not None
    champion = Champion(judged.evidence.champion or "", judged.trained.model)
    large = repeated(judged.checks.window, rows)
    per_million = MILLION / len(large.frame)
    began = clock()
    served = champion.model.score(large.frame.examples)
    scoring = (clock() - began) * per_million

    began = clock()
    checks = check(large, champion, History())
    checking = (clock() - began) * per_million - scoring

    random = np.random.default_rng(0)
    rival = 1 / (1 + np.exp(-(np.log(served / (1 - served)) + random.normal(0, 0.2, len(served)))))
    learned = replace(judged.trained.learned, predicted=rival, reached=len(served))
    began = clock()
    evaluate(checks, champion, replace(judged.trained, learned=learned), History())
    comparing = (clock() - began) * per_million - scoring
    whole = checking + comparing
    unit = "s per 1,000,000 impressions"
    return [
        Row("full-data figures", whole, unit, goal=f"under {FIGURES_WITHIN_S:g} s", met=whole < FIGURES_WITHIN_S),
        Row("  of these, data checks", checking, unit),
        Row("  of these, champion against challenger, slices", comparing, unit),
        Row("scoring by one model", scoring, unit),
    ]


def sample_report(surface: str, judged: JudgedWindow, folder: Path, clock: Callable[[], float]) -> Row:
    """Seconds from the evidence to the file of the Evidently report, Evidently's import included."""
    window = judged.checks.window
    about = report.About(surface, window.update_id, window.start, window.end, "1", "2")
    began = clock()
    page = report.build(about, judged.verdict, judged.evidence, judged.checks.drift)
    page.write_html(folder / "report.html")
    seconds = clock() - began
    return Row(
        "the Evidently report of a sample",
        seconds,
        "s",
        goal=f"under {REPORT_WITHIN_S:g} s",
        met=seconds < REPORT_WITHIN_S,
    )
