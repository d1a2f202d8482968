"""What the gate promises, measured: the drill of a log and of the seeded one, its speed, simulations.

    python -m benchmarks gate --log clicks.parquet --items items.parquet

Without a log, the seeded one alone.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from features.ingest.log_files import Files
from flows.drill import drill
from flows.drill.drill import DAY, HELD_AT_MOST, Clean, Drilled, Planted
from flows.drill.faults import FAULTS, Fault
from flows.drill.in_memory import JudgedWindow
from flows.drill.logs import Log, read_log, simulated
from flows.surface import Surface
from models import metrics
from monitoring.evaluation.evaluate import JudgedPart
from monitoring.evaluation.window import Judging


@dataclass(frozen=True)
class GateConfig:
    """What to run."""

    log: str | Path | None = None
    """A click log, as ``millrace import`` takes it; the seeded one is drilled in any case."""

    items: str | Path | None = None

    from_: datetime | None = None
    """What that log showed up to then is left out."""

    days: float = 4.0
    """How much of each log is replayed; the first day is what the first model is trained on."""

    tens: timedelta = timedelta(hours=24)
    """How much of each log, its last part, is also replayed in windows of ten minutes."""

    requests_per_day: int = 48_000
    """Of the seeded log."""

    seed: int = 0
    judging: Judging | None = None
    """The surface's own when None."""

    simulate: bool = True
    speed_rows: int = 1_000_000
    faults: tuple[Fault, ...] = FAULTS


def bench(surface: Surface, config: GateConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. ``progress`` gets a line for each thing done, and why a clean window was not promoted."""
    if config.judging is not None:
        surface = replace(surface, judging=config.judging)
    rows: list[Row] = []
    clean: list[Clean] = []
    last: Drilled | None = None
    noise: NDArray[np.float64] | None = None
    for log in logs(config, progress):
        last = drill.drill(
            surface, log, drill.Plan(config.tens, config.faults, config.seed), clock=clock, progress=progress
        )
        rows += [*map(fault_row, last.planted, [log.name] * len(last.planted)), *clean_rows(last)]
        clean += last.clean
        if noise is None:
            noise = np.concatenate([gains(judged) for judged in last.updates])
            rows.append(Row(f"spread of a request's gain, {log.name}", float(noise.std()), "of the log loss"))
    assert last is not None
    assert noise is not None
    rows += totals(clean)
    progress("speed")
    rows = [*speed_rows(surface, last, config, clock), *rows]
    if config.simulate:
        progress("simulations, with the noise of the first log")
        from benchmarks.gate_simulations import simulations

        rows += simulations(noise, margin=surface.policy.margin, risk=surface.policy.risk, seed=config.seed)
    return Table("gate", machine(), rows)


def logs(config: GateConfig, progress: Progress) -> Iterator[Log]:
    """The logs to drill, each cut to the plan's days."""
    if config.log is None:
        progress("no --log: the seeded log alone is replayed")
    else:
        log = read_log(Path(config.log).stem, Files(config.log, config.items), now=datetime.now(UTC))
        log = log if config.from_ is None else log.after(config.from_)
        yield log.until(log.shown["shown_at"][0].replace(minute=0, second=0, microsecond=0) + config.days * DAY)
    yield simulated(seed=config.seed, days=config.days, requests_per_day=config.requests_per_day)


def gains(judged: JudgedWindow) -> NDArray[np.float64]:
    """Gain of each judged request in log loss, as a share of the champion's."""
    if judged.trained is None:
        return np.zeros(0)
    part = JudgedPart.of(judged.checks, judged.trained)
    champion, examples = part.champion_scores, part.examples
    assert champion is not None, "clean updates have a champion"
    by_request = metrics.gains(champion, part.scores, examples.label, examples.request)
    return by_request / metrics.log_loss(champion, examples.label)


def fault_row(found: Planted, log: str) -> Row:
    """Was it caught, with the right verdict and a reason that names it?"""
    ours = f"{found.verdict}, {'named' if found.named else 'not named'}" if found.caught else found.verdict
    goal = f"{' or '.join(sorted(found.expected))}, named"
    return Row(f"{found.fault}, {found.strength} ({log})", ours, goal=goal, met=found.caught and found.named)


def clean_rows(done: Drilled) -> list[Row]:
    """What became of a log's clean windows."""
    return [
        Row(f"clean windows held, {done.log}, every {clean.every}", clean.held, f"of {clean.windows}")
        for clean in done.clean
    ]


def totals(clean: list[Clean]) -> list[Row]:
    """The promise on clean windows."""
    windows, held, rejected = (
        sum(counts) for counts in zip(*((one.windows, one.held, one.rejected) for one in clean), strict=True)
    )
    share = held / windows if windows else 0.0
    return [
        Row("clean windows", windows, "windows", goal="at least 300", met=windows >= 300),
        Row(
            "clean windows held",
            100 * share,
            "%",
            goal=f"at most {100 * HELD_AT_MOST:g} %",
            met=share <= HELD_AT_MOST,
        ),
        Row("clean windows rejected", rejected, "windows", goal="none", met=not rejected),
    ]


def speed_rows(surface: Surface, done: Drilled, config: GateConfig, clock: Clock) -> list[Row]:
    """How long checks and evaluation of a large window take, and the report of a sample."""
    from benchmarks.speed import evaluated, sample_report

    judged = done.updates[-1]
    figures = evaluated(judged, config.speed_rows, clock)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        report = sample_report(surface, judged, Path(folder), clock)
    return [*figures, report]
