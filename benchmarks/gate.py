"""What the gate promises, measured: its speed, planted faults, clean windows, simulations.

    python -m benchmarks gate --log clicks.parquet --items items.parquet

Windows are of the log given and of the seeded one; without a log, of the seeded one alone.
"""

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.logs import LogTooShort
from benchmarks.table import Row, Table, machine
from flows.drill.faults import FAULTS, Fault, Scene
from flows.drill.process import Judged, Process
from flows.drill.windows import Folding, Log, Window, read_log, rows_of, simulated, spans
from flows.surface import Surface
from monitoring.evaluation.evaluate import Judging

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

SCENE_BEFORE_END = timedelta(hours=3)
"""The window in which faults are planted ends so long before the log does."""

STALE = 44
"""Windows by which the champion of the fault of new readers is behind its challenger."""

HELD_AT_MOST = 0.02


@dataclass(frozen=True)
class GateConfig:
    """What to run."""

    log: Path | None = None
    """A click log, as ``millrace import`` takes it; the seeded one is replayed in any case."""

    items: Path | None = None

    from_: datetime | None = None
    """What that log showed up to then is left out."""

    days: float = 4.0
    """How much of each log is replayed; the first day is what the first model learns from."""

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


@dataclass(eq=False)
class Count:
    """Verdicts of clean windows."""

    windows: int = 0
    held: int = 0
    rejected: int = 0

    def add(self, judged: Judged) -> None:
        self.windows += 1
        self.held += judged.verdict.verdict == "hold"
        self.rejected += judged.verdict.verdict == "reject"

    def __add__(self, other: "Count") -> "Count":
        return Count(self.windows + other.windows, self.held + other.held, self.rejected + other.rejected)


@dataclass(eq=False)
class Replayed:
    """What the replay of one log gave."""

    hourly: Count = field(default_factory=Count)
    tens: Count = field(default_factory=Count)
    seconds: list[float] = field(default_factory=list)
    """Of each hourly update."""

    impressions: int = 0
    gains: list[NDArray[np.float64]] = field(default_factory=list)
    """Of the requests of each hourly update, as shares of the champion's log loss."""

    faults: list[Row] = field(default_factory=list)
    last: Judged | None = None
    """The last hourly update."""

    process: Process | None = None
    """As it stood before that."""


def bench(surface: Surface, config: GateConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. ``progress`` gets what is done, and why a clean window was not promoted."""
    if config.judging is not None:
        surface = replace(surface, judging=config.judging)
    rows: list[Row] = []
    everything, last, gains = Count(), None, None
    for log in logs(config, progress):
        replayed = replay(surface, log, config, clock=clock, progress=progress)
        rows += replayed.faults
        rows += clean_rows(log.name, replayed)
        everything += replayed.hourly + replayed.tens
        if gains is None:
            gains = np.concatenate(replayed.gains)
            rows.append(Row(f"spread of a request's gain, {log.name}", float(gains.std()), "of the log loss"))
        last = replayed
    assert last is not None
    assert last.last is not None
    assert last.process is not None
    rows += totals(everything)
    progress("speed")
    rows = [*speed_rows(last.process, last.last, config, clock), *rows]
    if config.simulate:
        progress("simulations, with the noise of the first log")
        from benchmarks.gate_simulations import simulations

        rows += simulations(gains, margin=surface.policy.margin, risk=surface.policy.risk, seed=config.seed)
    return Table("gate", machine(), rows)


def logs(config: GateConfig, progress: Progress) -> Iterator[Log]:
    """The logs to replay, each cut to the config's days."""
    if config.log is None:
        progress("no --log: the seeded log alone is replayed")
    else:
        log = read_log(config.log.stem, config.log, config.items)
        log = log if config.from_ is None else log.after(config.from_)
        yield log.until(log.shown["shown_at"][0].replace(minute=0, second=0, microsecond=0) + config.days * DAY)
    yield simulated(seed=config.seed, days=config.days, requests_per_day=config.requests_per_day)


def replay(surface: Surface, log: Log, config: GateConfig, *, clock: Clock, progress: Progress) -> Replayed:
    """Updates over a log: hourly, near its end in windows of ten minutes too; and each fault in one of its windows."""
    done = Replayed()
    every = spans(log, HOUR)
    begins = every[0][0] + DAY
    if every[-1][1] - SCENE_BEFORE_END <= begins + HOUR:
        raise LogTooShort(f"{log.name} spans {len(every)} hours; a bench of the gate wants 36 or more, and --days 1.5")
    tens_from, scene_at = every[-1][1] - config.tens, every[-1][1] - SCENE_BEFORE_END
    folding, process = Folding(surface.features, surface.attribution), Process(surface, clock)
    tens: Process | None = None
    warm: list[Window] = []
    for start, end in every:
        shown = rows_of(log, start, end)
        if not len(shown):
            continue
        planting = end == scene_at
        before = copy.deepcopy(folding) if planting else None
        window = Window(start, end, folding.fold(shown, end), shown)
        if end <= begins:
            warm.append(window)
            continue
        if warm:
            process.begin(warm)
            warm = []
        if start >= tens_from:
            tens = tens or process.fork()
            for piece in window.cut(timedelta(minutes=10)):
                if (judged := update(tens, piece, f"{log.name}, ten minutes", progress)) is not None:
                    done.tens.add(judged)
        if before is not None:
            done.faults = planted(process, window, before, log, config, clock=clock, progress=progress)
        done.process = process.fork()
        judged = update(process, window, f"{log.name}, hourly", progress)
        if judged is not None:
            done.hourly.add(judged)
            done.seconds.append(judged.seconds)
            done.impressions += len(judged.window)
            done.gains.append(judged.gains)
            done.last = judged
    return done


def update(process: Process, window: Window, name: str, progress: Progress) -> Judged | None:
    """One update that is followed; None where the window waits for more."""
    if process.waits(window):
        return None
    judged = process.judge(window)
    process.follow(judged)
    if judged.verdict.verdict != "promote":
        progress(f"{name}, {window.end:%m-%d %H:%M}: {judged.verdict.verdict}: {' '.join(judged.verdict.reasons)}")
    return judged


def planted(
    process: Process, window: Window, before: Folding, log: Log, config: GateConfig, *, clock: Clock, progress: Progress
) -> list[Row]:
    """Every fault at each strength, planted in the window."""
    earlier = process.seen[-STALE:]
    stale = process.served_at(earlier[0].start)
    scene = Scene(
        window=window,
        before=before,
        champion=process.champion,
        earlier=earlier,
        stale=stale,
        names=process.surface.layout.dense,
        contexts=log.contexts,
        clock=clock,
    )
    rows = []
    for fault in config.faults:
        for strength, value in fault.strengths.items():
            met = fault.plant(scene, value, np.random.default_rng(config.seed))
            judged = process.judge(window, met)
            row = fault_row(fault, strength, log.name, judged, met.words)
            rows.append(row)
            progress(f"{row.what}: {row.ours}: {' '.join(judged.verdict.reasons)}")
    return rows


def fault_row(fault: Fault, strength: str, log: str, judged: Judged, words: tuple[str, ...]) -> Row:
    """Was it caught, with the right verdict and a reason that names it?"""
    word, said = judged.verdict.verdict, " ".join(judged.verdict.reasons).lower()
    named = any(name.lower() in said for name in words)
    caught = word in fault.expected
    ours = f"{word}, named" if caught and named else f"{word}, not named" if caught else word
    goal = f"{' or '.join(sorted(fault.expected))}, named"
    return Row(f"{fault.name}, {strength} ({log})", ours, goal=goal, met=caught and named)


def clean_rows(log: str, replayed: Replayed) -> list[Row]:
    """What became of a log's clean windows, and what an update of them took."""
    rows = [
        Row(f"clean windows held, {log}, {every}", count.held, f"of {count.windows}")
        for every, count in (("hourly", replayed.hourly), ("every ten minutes", replayed.tens))
        if count.windows
    ]
    if replayed.impressions:
        seconds = sum(replayed.seconds) / replayed.impressions * 1e5
        rows.append(Row(f"an update's learning and judging, {log}", seconds, "s per 100,000 impressions"))
    return rows


def totals(count: Count) -> list[Row]:
    """The promise on clean windows."""
    share = count.held / count.windows if count.windows else 0.0
    enough = count.windows >= 200
    return [
        Row("clean windows", count.windows, "windows", goal="at least 200", met=enough),
        Row(
            "clean windows held",
            100 * share,
            "%",
            goal=f"at most {100 * HELD_AT_MOST:g} %",
            met=share <= HELD_AT_MOST,
        ),
        Row("clean windows rejected", count.rejected, "windows", goal="none", met=not count.rejected),
    ]


def speed_rows(process: Process, judged: Judged, config: GateConfig, clock: Clock) -> list[Row]:
    """How long the full-data figures of a large window take, and the report of a sample."""
    from benchmarks.speed import full_data, sample_report

    figures = full_data(process, judged.window, config.speed_rows, clock)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        report = sample_report(process, judged, Path(folder), clock)
    return [*figures, report]
