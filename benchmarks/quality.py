"""How well it ranks over a stream, and what that costs: ours and Vowpal Wabbit, each tested before it is trained.

    millrace bench quality --log clicks.parquet --items items.parquet --until 2017-10-05

Both learn the warm-up, and then what was shown up to each update; both are scored on all that comes after the warm-up.
AUC is pooled over all impressions. CPU seconds are of training and scoring, one thread; features are beside, for both.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks import vw
from benchmarks.designs import with_fields
from benchmarks.pictures import costs, lines
from benchmarks.prequential import Arm, Run, follow
from benchmarks.stream import EACH, HOUR, Replay, Stream, folded, shuffled
from benchmarks.table import Row, Table, machine
from flows.drill.windows import Log
from models.learning.design import Design

TEN_MINUTES = timedelta(minutes=10)

CADENCES: Mapping[str, timedelta | None] = {
    "every 10 min": TEN_MINUTES,
    "every 1 h": HOUR,
    "every 6 h": 6 * HOUR,
    "never": None,
}

SEEDED = ("every 10 min", "every 1 h")
"""Cadences that are run with every seed; the others with the first."""

SHUFFLED_WITHIN = 0.001
"""AUC and MRR by which a shuffled log may differ. Another seed makes .0003, other readers of the site .0015."""


@dataclass(frozen=True)
class Goals:
    """What ours must reach on a log."""

    auc: float
    mrr: float
    """Both updated every ten minutes."""

    auc_hourly: float


GOALS = {"globo_feed": Goals(auc=0.845, mrr=0.764, auc_hourly=0.842)}
"""By the log's name. They are set for that log until 2017-10-05; on other logs nothing is missed."""


@dataclass(frozen=True)
class Plan(Replay):
    """What to run."""

    seeds: tuple[int, ...] = (0, 1, 2)


Say = Callable[[str], None]


def quick(design: Design) -> list[Arm]:
    """The cheap points of our curve. The features move with every event, so even a model that never learns again is
    worth something; the smallest are given the numbers alone, no ids."""
    plain = with_fields(design, crosses=(), averaging=0.0, replay=None, patience=0, batch_requests=512)
    logistic = with_fields(plain, ranker="logistic", rate=3e-2)
    cross = with_fields(plain, ranker="cross", cross_layers=1, hidden=(), rate=6e-3)
    ids = with_fields(plain, ranker="cross", cross_layers=1, hidden=(32,), embedding=4, rate=5e-3, table_rate=0.1)
    return [
        Arm("logistic on the numbers, never", logistic, None, ids=False),
        Arm("logistic on the numbers, every 1 h", logistic, HOUR, ids=False),
        Arm("small cross net on the numbers, never", cross, None, ids=False),
        Arm("small cross net on the numbers, every 1 h", cross, HOUR, ids=False),
        Arm("small cross net with ids, every 1 h", ids, HOUR, history=False),
    ]


def bench(plan: Plan, *, clock: Callable[[], float], say: Say) -> Table:
    """Run all of it. ``clock`` gives seconds; ``say`` is told each arm as it ends."""
    log = plan.read()
    stream = folded(log, plan.surface, warmup=plan.warmup)
    say(f"{stream.name}: {len(stream.examples):,} impressions folded, {len(stream.scored):,} of them to be scored")
    goals = GOALS.get(stream.name)
    ours = {name: list(cadence(plan, stream, name, clock, say)) for name in CADENCES}
    fewest = plan.surface.fewest
    cheap = [told(follow(arm, stream, fewest=fewest, clock=clock), say) for arm in quick(plan.surface.design)]
    text = vw.Text.of(stream, plan.surface.features)
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        theirs = dict(peers(plan, text, stream, Path(folder), say))
    curve = [*cheap, ours["every 1 h"][0]]
    points = [theirs[peer.name] for peer in (vw.ALONE, vw.CROSSES, vw.TRIPLES)]
    rows = [Row(f"impressions scored, {stream.name}", len(stream.scored), f"of {len(stream.examples):,}")]
    rows += cadence_rows(ours, theirs, goals)
    rows += robustness(plan, log, stream, ours, goals is not None, clock, say)
    rows += curve_rows(curve, points, goals is not None)
    rows.append(
        Row("features beside: our fold", stream.fold_s, "CPU s", peer="Vowpal Wabbit's text", theirs=text.cpu_s)
    )
    if plan.pictures is not None:
        shown = {name: runs[0] for name, runs in ours.items() if name in ("every 10 min", "never")}
        others = [theirs[vw.CROSSES.name], theirs["every 1 h"]]
        lines(plan.pictures / "quality-stream.svg", [*shown.values(), *others], span=span_of(stream))
        costs(plan.pictures / "quality-cpu.svg", {"Millrace": curve, "Vowpal Wabbit": points})
    return Table("quality", machine(), rows)


def span_of(stream: Stream) -> timedelta:
    """What a point of the plot over the stream is the AUC of."""
    scored = timedelta(seconds=float(stream.scored.time[-1]) - stream.begins)
    return 6 * HOUR if scored > timedelta(days=2) else HOUR


def told(run: Run, say: Say) -> Run:
    """Tell how a run ended."""
    say(f"{run.name}: AUC {run.auc:.4f}, MRR {run.mrr:.4f}, {run.cpu_s:.1f} CPU s, {run.updates:,} updates")
    return run


def cadence(plan: Plan, stream: Stream, name: str, clock: Callable[[], float], say: Say) -> Iterator[Run]:
    """Ours at one cadence, a run for each seed."""
    for seed in plan.seeds if name in SEEDED else plan.seeds[:1]:
        arm = Arm(f"Millrace, {name}", plan.surface.design, CADENCES[name], seed=seed)
        yield told(follow(arm, stream, fewest=plan.surface.fewest, clock=clock), say)


def peers(plan: Plan, text: vw.Text, stream: Stream, folder: Path, say: Say) -> Iterator[tuple[str, Run]]:
    """Vowpal Wabbit with crosses at each cadence, by the cadence; after every event, with fewer and more crosses too,
    by its name."""
    fewest = plan.surface.fewest
    for name, every in CADENCES.items():
        title = f"Vowpal Wabbit, {name}"
        run = vw.follow(vw.IN_WINDOWS, text, stream, every=every, fewest=fewest, folder=folder, name=title)
        yield name, told(run, say)
    for peer in (vw.ALONE, vw.CROSSES, vw.TRIPLES):
        title = f"{peer.name}, every event"
        run = vw.follow(peer, text, stream, every=EACH, fewest=1, folder=folder, name=title)
        yield peer.name, told(run, say)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def cadence_rows(ours: Mapping[str, list[Run]], theirs: Mapping[str, Run], goals: Goals | None) -> list[Row]:
    """Quality by cadence against the peer's at the same one, and against the peer that learns from every event."""
    held: dict[tuple[str, str], float] = {}
    if goals is not None:
        held = {("auc", "every 10 min"): goals.auc, ("mrr", "every 10 min"): goals.mrr}
        held |= {("auc", "every 1 h"): goals.auc_hourly}
    rows = []
    for name, runs in ours.items():
        seeds = f", mean of {len(runs)} seeds" if len(runs) > 1 else ""
        for measure, title in (("auc", "AUC"), ("mrr", "MRR")):
            values = [run.measures[measure] for run in runs]
            least = held.get((measure, name))
            rows.append(
                Row(
                    f"{title}, updated {name}{seeds}",
                    mean(values),
                    peer=theirs[name].name.partition(",")[0],
                    theirs=theirs[name].measures[measure],
                    goal=None if least is None else f"at least {least:g}",
                    met=None if least is None else mean(values) >= least,
                )
            )
            if len(runs) > 1:
                rows.append(Row(f"{title}, updated {name}: largest less smallest seed", max(values) - min(values)))
    runs, each = ours["every 10 min"], theirs[vw.CROSSES.name]
    for measure, title in MEASURES.items():
        rows.append(
            Row(
                f"{title}, updated every 10 min",
                mean([run.measures[measure] for run in runs]),
                peer=each.name,
                theirs=each.measures[measure],
            )
        )
    return rows


MEASURES = {
    "auc": "AUC",
    "mrr": "MRR",
    "grouped_auc": "AUC within a request",
    "hit_at_1": "hit@1",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
}
"""Told beside the peer's that learns from every event."""


def robustness(
    plan: Plan,
    log: Log,
    stream: Stream,
    ours: Mapping[str, list[Run]],
    held: bool,
    clock: Callable[[], float],
    say: Say,
) -> list[Row]:
    """The same with the log's order and positions shuffled, and with labels as late as the loop has them."""
    base = ours["every 10 min"]
    fewest, design = plan.surface.fewest, plan.surface.design
    late = Arm("Millrace, every 10 min, labels late", design, TEN_MINUTES, plan.seeds[0], late=plan.surface.attribution)
    behind = told(follow(late, stream, fewest=fewest, clock=clock), say)
    mixed = folded(shuffled(log, plan.seeds[0]), plan.surface, warmup=plan.warmup)
    again = Arm("Millrace, every 10 min, log shuffled", design, TEN_MINUTES, plan.seeds[0])
    other = told(follow(again, mixed, fewest=fewest, clock=clock), say)
    rows = []
    for measure, title in (("auc", "AUC"), ("mrr", "MRR")):
        before, now = mean([run.measures[measure] for run in base]), other.measures[measure]
        rows.append(
            Row(
                f"{title}, every 10 min, positions and order within requests and instants shuffled",
                now,
                peer="as logged",
                theirs=before,
                goal=f"within {SHUFFLED_WITHIN:g}" if held else None,
                met=abs(now - before) <= SHUFFLED_WITHIN if held else None,
            )
        )
        minutes = plan.surface.attribution / timedelta(minutes=1)
        rows.append(
            Row(
                f"{title}, every 10 min, labels known {minutes:g} min later",
                behind.measures[measure],
                peer="at once",
                theirs=before,
            )
        )
    return rows


def curve_rows(ours: Sequence[Run], theirs: Sequence[Run], held: bool) -> list[Row]:
    """The points of both curves; and for each of the peer's, our best that takes no more CPU seconds."""
    rows = [Row(f"CPU s of {run.name}: AUC {run.auc:.4f}", run.cpu_s, "s") for run in (*ours, *theirs)]
    for point in theirs:
        best = max((run for run in ours if run.cpu_s <= point.cpu_s), key=lambda run: run.auc, default=None)
        ran = "nothing as quick" if best is None else f"{best.name}, {best.cpu_s:.1f} s"
        rows.append(
            Row(
                f"AUC within the {point.cpu_s:.1f} CPU s of {point.name} ({ran})",
                None if best is None else best.auc,
                peer="Vowpal Wabbit",
                theirs=point.auc,
                goal="better" if held else None,
                met=(best is not None and best.auc > point.auc) if held else None,
            )
        )
    return rows
