"""What the gate promises, measured: the drill of unlike logs, its speed, simulations.

    python -m benchmarks gate --folder logs
    python -m benchmarks gate --log clicks.parquet --items items.parquet

Without a log or a folder, seeded logs alone. What went wrong is named; what is as it should be is counted.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock, Progress
from benchmarks.gate_logs import Logs, gate_logs
from benchmarks.table import Row, Table, machine
from flows.drill import drill
from flows.drill.clean import Clean, is_thin
from flows.drill.drill import HELD_AT_MOST, Drilled, NotPlanted, Planted
from flows.drill.faults import FAULTS, Fault, Story
from flows.drill.in_memory import JudgedWindow
from flows.surface import Surface
from models import metrics
from monitoring.checks.ids import codes_of
from monitoring.evaluation.evaluate import JudgedPart, both_expected
from monitoring.evaluation.terms import Judging

RATE_WITHIN = 0.01
"""How far the label rate of what is trained on may be from the true one, and the one expected, but for chance."""


@dataclass(frozen=True)
class GateConfig:
    """What to run."""

    logs: Logs = field(default_factory=Logs)

    own_pace: timedelta = timedelta(hours=24)
    """How much of each log, its last part, is also replayed at its surface's own pace."""

    judging: Judging | None = None
    """The surfaces' own when None."""

    simulate: bool = True
    speed_rows: int = 1_000_000
    faults: tuple[Fault | Story, ...] = FAULTS


def bench(surface: Surface, config: GateConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it. ``progress`` gets a line for each thing done, and why a clean window was not promoted.

    Speed and the noise of the simulations are those of the first log.
    """
    rows, found = list[Row](), list[Drilled]()
    noise: NDArray[np.float64] | None = None
    for case in gate_logs(surface, config.logs, progress):
        log = replace(case.read(), name=case.name)
        cadence = case.cadence(log)
        tested = case.surface if config.judging is None else replace(case.surface, judging=config.judging)
        plan = drill.Plan(cadence, config.own_pace, config.faults, config.logs.seed)
        progress(f"{case.name}: {len(log.shown):,} impressions, windows of {cadence.every}")
        done = drill.drill(tested, log, plan, clock=clock, progress=progress)
        rows += [*log_rows(done), *rate_rows(done)]
        if noise is None:
            progress("speed")
            noise = np.concatenate([gains(judged) for judged in done.updates])
            rows.append(Row(f"spread of a request's gain, {log.name}", float(noise.std()), "of the log loss"))
            rows = [*speed_rows(tested, done, config, clock), *rows]
        done.updates.clear()  # a model each
        found.append(done)
    if noise is None:
        raise ValueError(f"none of the logs is called {', '.join(config.logs.only)}")
    rows += totals(found)
    if config.simulate:
        progress("simulations, with the noise of the first log")
        from benchmarks.gate_simulations import simulations

        policy = surface.policy
        rows += simulations(noise, margin=policy.margin, risk=policy.risk, seed=config.logs.seed)
    return Table("gate", machine(), rows)


def gains(judged: JudgedWindow) -> NDArray[np.float64]:
    """Gain of each judged request in log loss, as a share of the champion's."""
    if judged.trained is None:
        return np.zeros(0)
    part = JudgedPart.of(judged.checks, judged.trained)
    champion, examples = part.champion_scores, part.examples
    assert champion is not None, "clean updates have a champion"
    before, now = both_expected(champion, part.scores)
    by_request = metrics.gains(before, now, examples.label, examples.request)
    return by_request / metrics.log_loss(before, examples.label)


def log_rows(done: Drilled) -> Iterator[Row]:
    """What the drill of a log gave: counts, and by name what was missed and what could not be planted."""
    for what, sound in (("planted faults caught and named", False), ("sound scenes promoted", True)):
        planted = [found for found in done.planted if found.sound == sound]
        good = sum(met(found) for found in planted)
        yield Row(f"{what}, {done.log}", good, f"of {len(planted)}", goal="all", met=good == len(planted))
    yield from (missed_row(found, done.log) for found in done.planted if not met(found))
    yield from (lacking_row(lacking, done.log) for lacking in done.not_planted)
    for clean in done.clean:
        yield from clean_rows(clean, done.log)


def rate_rows(done: Drilled) -> Iterator[Row]:
    """The label rate of what was trained on, over that of all windows: it would differ if windows were passed over by
    their labels. And the one that the champions expected of it."""
    trained, all_of, expected, variance = np.zeros(2), np.zeros(2), 0.0, 0.0
    for judged in done.updates:
        examples, scores = judged.window.frame.examples, judged.checks.scores
        if scores is None or (judged.verdict.verdict == "hold" and not is_thin(judged.verdict)):
            continue  # it comes once more with the next
        counts = np.array([float(examples.label.sum()), len(examples)])
        all_of += counts
        if judged.verdict.verdict != "reject":
            trained, expected = trained + counts, expected + float(scores.sum())
            users = codes_of(judged.window.frame.table["user_id"])
            variance += float((np.bincount(users, examples.label - scores) ** 2).sum())
    if not trained[0]:
        return
    ratio = float(trained[0] / trained[1] / (all_of[0] / all_of[1]))
    yield Row(
        f"label rate of what was trained on, over that of all windows, {done.log}",
        100 * ratio,
        "%",
        goal="within 1 %",
        met=abs(ratio - 1) <= RATE_WITHIN,
    )
    ratio, chance = expected / float(trained[0]), 2 * math.sqrt(variance) / float(trained[0])
    yield Row(
        f"label rate that the champions expected, over that found, {done.log}",
        100 * ratio,
        f"%; by chance {100 * chance:.2g} % off",
        goal="within 1 %",
        met=abs(ratio - 1) <= max(RATE_WITHIN, chance),
    )


def met(found: Planted) -> bool:
    """The verdict is right, and says why."""
    return found.caught and found.named


def missed_row(found: Planted, log: str) -> Row:
    """A fault that was missed or not named, or a sound scene that was stopped."""
    ours = f"{found.verdict}, not named" if found.caught else found.verdict
    goal = " or ".join(sorted(found.expected)) + ("" if found.sound else ", named")
    return Row(f"{found.fault}, {found.strength} ({log})", ours, goal=goal, met=False)


def lacking_row(lacking: NotPlanted, log: str) -> Row:
    """A fault that the log has not what it takes for, and what that is."""
    strength = "" if lacking.strength is None else f", {lacking.strength}"
    return Row(f"{lacking.fault}{strength} ({log})", f"not planted: {lacking.reason}")


def clean_rows(clean: Clean, log: str) -> Iterator[Row]:
    """What became of a log's clean windows of one cadence."""
    where = f"{log}, every {clean.every}"
    of = f"of {clean.windows}"
    yield Row(f"clean windows held, {where}", clean.held - clean.thin, of)
    yield Row(f"clean windows held for thinness, {where}", clean.thin, of)
    yield Row(f"clean windows rejected, {where}", clean.rejected, of)
    for name, part in clean.parts.items():
        yield Row(f"clean windows of a {name} held, {where}", part.held, f"of {part.windows}")


def totals(found: list[Drilled]) -> Iterator[Row]:
    """The promise, over all logs."""
    clean = [clean for done in found for clean in done.clean]
    windows = sum(one.windows for one in clean)
    held, rejected = sum(one.held - one.thin for one in clean), sum(one.rejected for one in clean)
    for what, sound in (("planted faults caught and named", False), ("sound scenes promoted", True)):
        planted = [one for done in found for one in done.planted if one.sound == sound]
        good = sum(map(met, planted))
        yield Row(what, good, f"of {len(planted)}", goal="all", met=good == len(planted))
    share = held / windows if windows else 0.0
    most = f"at most {100 * HELD_AT_MOST:g} %"
    yield Row("clean windows", windows, "windows", goal="at least 300", met=windows >= 300)
    yield Row(
        "clean windows held for other reasons than thinness", 100 * share, "%", goal=most, met=share <= HELD_AT_MOST
    )
    yield Row("clean windows rejected", rejected, "windows", goal="none", met=not rejected)


def speed_rows(surface: Surface, done: Drilled, config: GateConfig, clock: Clock) -> list[Row]:
    """How long checks and evaluation of a large window take, and the report of a sample."""
    from benchmarks.speed import evaluated, sample_report

    judged = done.updates[-1]
    figures = evaluated(judged, config.speed_rows, clock)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        report = sample_report(surface, judged, Path(folder), clock)
    return [*figures, report]
