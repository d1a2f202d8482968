"""How long the figures of a large window take: a window repeated until it has that many rows, measured once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl

from benchmarks.table import Row
from flows.drill.in_memory import JudgedWindow
from flows.surface import Surface
from models.examples import Examples, apart, concat
from models.frames import Frame
from models.learning.model import Model
from monitoring.evaluation.evaluate import evaluate
from monitoring.evaluation.history import History
from monitoring.evaluation.window import Champion, Window, check
from monitoring.gate.gate_tests import gate_tests
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


@dataclass
class Stopwatch:
    """Seconds since it was begun, those that went into scoring apart."""

    clock: Callable[[], float]
    scoring: float = 0.0
    others: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Every model's scoring is timed meanwhile."""
        score, inside = Model.score, self.scoring

        def timed(model: Model, examples: Examples) -> np.ndarray:
            began = self.clock()
            try:
                return score(model, examples)
            finally:
                self.scoring += self.clock() - began

        began = self.clock()
        with patch.object(Model, "score", timed):
            yield
        self.others += self.clock() - began - (self.scoring - inside)


def evaluated(judged: JudgedWindow, rows: int, clock: Callable[[], float]) -> list[Row]:
    """Seconds per million impressions of the data checks, and of champion against challenger with all slices.

    Scoring is what serving and training pay for, and is a row of its own.
    """
    assert judged.trained is not None
    champion = Champion(judged.evidence.champion or "", judged.trained.model)
    large = repeated(judged.checks.window, rows)
    per_million = MILLION / len(large.frame)
    checking, comparing = Stopwatch(clock), Stopwatch(clock)
    with checking.running():
        checks = check(large, champion, History())
    assert checks.scores is not None
    random = np.random.default_rng(0)
    log_odds = np.log(checks.scores / (1 - checks.scores))
    rival = 1 / (1 + np.exp(-(log_odds + random.normal(0, 0.2, len(log_odds)))))
    learned = replace(judged.trained.learned, predicted=rival, reached=len(rival))
    with comparing.running():
        evaluate(checks, champion, replace(judged.trained, learned=learned), History())
    whole = (checking.others + comparing.others) * per_million
    unit = "s per 1,000,000 impressions"
    return [
        Row("full-data figures", whole, unit, goal=f"under {FIGURES_WITHIN_S:g} s", met=whole < FIGURES_WITHIN_S),
        Row("  of these, data checks", checking.others * per_million, unit),
        Row("  of these, champion against challenger, slices", comparing.others * per_million, unit),
        Row("scoring by one model", checking.scoring * per_million, unit),
    ]


def sample_report(surface: Surface, judged: JudgedWindow, folder: Path, clock: Callable[[], float]) -> Row:
    """Seconds from the evidence to the file of the Evidently report, Evidently's import included."""
    window = judged.checks.window
    about = report.About(surface.name, window.update_id, window.start, window.end, "1", "2")
    began = clock()
    tests = gate_tests(surface.policy, judged.evidence, judged.checks.limits)
    page = report.build(about, judged.verdict, judged.evidence, judged.checks.drifts, tests)
    page.write_html(folder / "report.html")
    seconds = clock() - began
    return Row(
        "the Evidently report of a sample",
        seconds,
        "s",
        goal=f"under {REPORT_WITHIN_S:g} s",
        met=seconds < REPORT_WITHIN_S,
    )
