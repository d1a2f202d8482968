"""How long the figures of a large window take: a window repeated until it has that many rows, measured once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.table import Row
from flows.drill.process import Judged, Process
from flows.drill.windows import Window
from models.examples import apart, concat
from models.frames import Frame
from monitoring.checks import features as feature_checks
from monitoring.checks import labels as label_checks
from monitoring.checks import window as checks
from monitoring.evaluation import compare, drift
from monitoring.evaluation import evaluate as evidence
from monitoring.reports import report

MILLION = 1e6

FIGURES_WITHIN_S, REPORT_WITHIN_S = 10.0, 30.0


def repeated(window: Window, rows: int) -> Window:
    """A window of at least so many rows: copies of this one, one after the other, with ids of their own."""
    times = -(-rows // len(window))
    length = window.end - window.start
    frame, examples = window.frame, window.frame.examples
    tables = [
        frame.table.with_columns(
            *(pl.format(f"{n}-{{}}", name).alias(name) for name in ("impression_id", "request_id", "user_id")),
            (pl.col("shown_at") + n * length).cast(frame.table.schema["shown_at"]),
        )
        for n in range(times)
    ]
    parts = [replace(examples, time=examples.time + n * length.total_seconds()) for n in range(times)]
    whole = Frame(pl.concat(tables), concat(apart(parts)), 0)
    return Window(window.start, window.start + times * length, whole, window.shown[:0])


def full_data(process: Process, window: Window, rows: int, clock: Callable[[], float]) -> list[Row]:
    """Seconds per million impressions of the data checks, and of the comparison with all its slices.

    Both models' predictions are given: scoring is what serving and learning pay for, and is a row of its own.
    """
    surface, names = process.surface, process.surface.layout.dense
    large = repeated(window, rows)
    examples, table = large.frame.examples, large.frame.table
    per_million = MILLION / len(large)
    began = clock()
    served = process.champion.score(examples)
    scoring = (clock() - began) * per_million
    random = np.random.default_rng(0)
    rival = 1 / (1 + np.exp(-(np.log(served / (1 - served)) + random.normal(0, 0.2, len(served)))))

    began = clock()
    history = tuple(reversed(process.history))
    expected = checks.Expected(
        schema_version=surface.features.schema.version, start=large.start, end=large.end, history=history
    )
    new = evidence.newcomers(examples, process.champion)
    checks.check_window(table, examples.dense, names, expected, surface.limits, new=new)
    profile = feature_checks.Profile.of(examples.dense, names, label=examples.label)
    feature_checks.check_features(
        examples.dense,
        names,
        process.profiles,
        examples.label,
        surface.limits,
        ids=table["impression_id"],
        profile=profile,
    )
    contexts = evidence.contexts_of(table, surface.features.contexts)
    label_checks.check_labels(table, examples.label, served, history, surface.limits, contexts=contexts)
    checking = (clock() - began) * per_million

    began = clock()
    columns, kinds = evidence.slices(table, examples, surface.features.contexts, process.champion)
    compare.compare(
        examples.label, examples.request, challenger=rival, champion=served, slices=columns, kinds=kinds, seed=0
    )
    comparing = (clock() - began) * per_million
    whole = checking + comparing
    unit = "s per 1,000,000 impressions"
    return [
        Row("full-data figures", whole, unit, goal=f"under {FIGURES_WITHIN_S:g} s", met=whole < FIGURES_WITHIN_S),
        Row("  of these, data checks", checking, unit),
        Row("  of these, champion against challenger, slices", comparing, unit),
        Row("scoring by one model", scoring, unit),
    ]


def sample_report(process: Process, judged: Judged, folder: Path, clock: Callable[[], float]) -> Row:
    """Seconds from two frames to the file of the Evidently report, Evidently's import included."""
    names = process.surface.layout.dense
    window, reference = judged.window.frame, process.seen[-1].frame
    began = clock()
    shown = drift.important(window.examples.dense, process.champion.score(window.examples), names)
    sampled = [
        drift.sample(
            part.examples.dense,
            names,
            {"prediction": process.champion.score(part.examples), "label": part.examples.label},
            seed=0,
            features=shown,
        )
        for part in (reference, window)
    ]
    page = report.build(
        surface=process.surface.name,
        update_id=1,
        start=judged.window.start,
        end=judged.window.end,
        verdict=judged.verdict,
        figures=judged.figures,
        drift=drift.measure(*sampled),
        champion_version="1",
        challenger_version="2",
    )
    page.write_html(folder / "report.html")
    seconds = clock() - began
    return Row(
        "the Evidently report of a sample",
        seconds,
        "s",
        goal=f"under {REPORT_WITHIN_S:g} s",
        met=seconds < REPORT_WITHIN_S,
    )
