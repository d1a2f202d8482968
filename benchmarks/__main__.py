"""The benches, one command each.

    python -m benchmarks gate --log clicks.parquet --items items.parquet --json

Each ends in one table, for people or as ``--json``: ``{"name", "machine", "rows": [{"what", "ours", "unit", "peer",
"theirs", "ratio", "goal", "met"}]}``. ``--record FOLDER`` writes it into the folder's RESULTS.md too. The exit code is
1 when a goal was missed.
"""

import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.arguments import BadArgument, duration, expect_files, find_surface, instant, load_settings

if TYPE_CHECKING:
    from benchmarks.table import Table
    from flows.surface import Surface as Declaration

bench = typer.Typer(
    name="benchmarks",
    help="Measure on this machine what the program promises, peers beside it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Log = Annotated[Path | None, typer.Option(help="Parquet file of impressions with their clicks; else a seeded log.")]
Items = Annotated[Path | None, typer.Option(help="Parquet file of items: item_id and their columns.")]
Until = Annotated[str | None, typer.Option(help="Leave out what was shown from this time on, UTC.")]
Warmup = Annotated[str, typer.Option(help="What the first model learns, before anything is scored: 1d, 6h.")]
Surface = Annotated[str, typer.Option(help="The surface whose features, learner and gate are measured.")]
Seed = Annotated[int, typer.Option(help="Of whatever is drawn.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes, for a first look: the goals are not meant for it.")]
Record = Annotated[Path | None, typer.Option(help="Folder whose RESULTS.md gets the table, and the plots.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]
WIDE = 140
"""Columns of a table that goes to a file."""

Clock = Callable[[], float]
Say = Callable[[str], None]


@bench.command()
def gate(
    log: Log = None,
    items: Items = None,
    surface: Surface = "feed",
    days: Annotated[float, typer.Option(help="How much of each log is replayed; the first day is warm-up.")] = 4.0,
    from_: Annotated[str | None, typer.Option("--from", help="Leave out what was shown up to this time, UTC.")] = None,
    seed: Annotated[int, typer.Option(help="Of the seeded log, the faults and the simulations.")] = 0,
    judging: Annotated[str | None, typer.Option(help="progressive or tail, instead of the surface's own.")] = None,
    simulate: Annotated[bool, typer.Option(help="Run the simulations too.")] = True,
    why: Annotated[bool, typer.Option(help="Tell on standard error what is done, and the gate's reasons.")] = False,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """The gate: its speed, planted faults, clean windows, simulations. Without --log on a seeded log alone."""
    from typing import get_args

    from benchmarks.gate import Plan
    from benchmarks.gate import bench as measure
    from monitoring.evaluation.evaluate import Judging

    known: tuple[Judging, ...] = get_args(Judging)
    chosen = next((name for name in known if name == judging), None)
    if judging is not None and chosen is None:
        raise BadArgument(f"--judging {judging}: use {' or '.join(known)}")
    declared = _find(surface, log, items)
    plan = Plan(
        log=log,
        items=items,
        from_=None if from_ is None else instant(from_),
        days=days,
        judging=chosen,
        simulate=simulate,
        seed=seed,
    )
    _end(lambda clock, say: measure(declared, plan, clock=clock, say=say), as_json, record, told=why)


@bench.command()
def quality(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    warmup: Warmup = "1d",
    surface: Surface = "feed",
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Quality over the stream at several cadences, and per CPU second, beside Vowpal Wabbit."""
    from benchmarks.quality import Plan
    from benchmarks.quality import bench as measure

    plan = Plan(**_replay(log, items, until, warmup, surface, record))
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def cold(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    surface: Surface = "feed",
    record: Record = None,
    as_json: Json = False,
) -> None:
    """The first impressions of a surface: its learner beside the base rate, logistic regression, LightGBM and VW."""
    from benchmarks.cold import Plan
    from benchmarks.cold import bench as measure

    plan = Plan(**_replay(log, items, until, "1d", surface, None))
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def ablation(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    warmup: Warmup = "1d",
    surface: Surface = "feed",
    record: Record = None,
    as_json: Json = False,
) -> None:
    """What each part of features and learner is worth, one left out or put in at a time."""
    from benchmarks.ablation import Plan
    from benchmarks.ablation import bench as measure

    plan = Plan(**_replay(log, items, until, warmup, surface, record))
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def retrieval(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    warmup: Warmup = "1d",
    surface: Surface = "feed",
    seed: Seed = 0,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Two towers: recall of the next click, beside popularity and co-clicks."""
    from benchmarks.retrieval import Plan
    from benchmarks.retrieval import bench as measure

    _find(surface, log, items)
    plan = Plan(
        log=log,
        items=items,
        until=None if until is None else instant(until),
        warmup=duration(warmup),
        surface=surface,
        seed=seed,
    )
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def update(
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Examples a second that an update learns from, beside torch's own ways, on the same network and losses."""
    from dataclasses import replace

    from benchmarks.update import Plan
    from benchmarks.update import bench as measure

    plan = replace(Plan.quick() if quick else Plan(), device=device, seed=seed)
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def size(quick: Quick = False, seed: Seed = 0, record: Record = None, as_json: Json = False) -> None:
    """What an update costs with a large table, against a small one. Takes 10 GB of memory."""
    from dataclasses import replace

    from benchmarks.size import Plan
    from benchmarks.size import bench as measure

    plan = replace(Plan.quick() if quick else Plan(), seed=seed)
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def delta(
    folder: Annotated[Path | None, typer.Option(help="Folder on the disk to measure; else a temporary one.")] = None,
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Seconds and bytes of what an update changed, written and synced, against the whole model. Takes 6 GB of disk."""
    from dataclasses import replace

    from benchmarks.delta import Plan
    from benchmarks.delta import bench as measure

    plan = replace(Plan.quick() if quick else Plan(), folder=folder, seed=seed)
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def score(quick: Quick = False, seed: Seed = 0, record: Record = None, as_json: Json = False) -> None:
    """Milliseconds to score the candidates of a request, and rows a second in bulk."""
    from dataclasses import replace

    from benchmarks.score import Plan
    from benchmarks.score import bench as measure

    plan = replace(Plan.quick() if quick else Plan(), seed=seed)
    _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def frame(
    scale: Annotated[float, typer.Option(help="Of the sizes of the goal.")] = 1.0,
    seed: Seed = 0,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Seconds of a point-in-time frame of a team's own views, beside plain SQL and Feast's own store."""
    from benchmarks.frame import Plan
    from benchmarks.frame import bench as measure
    from flows.cli.embedded import running_database

    settings = load_settings()
    plan = Plan(url=settings.database, scale=scale, seed=seed)
    with running_database(settings):
        _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


@bench.command()
def fold(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    surface: Surface = "feed",
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Events a second on one core that the fold makes features of; and the same log cut in two ways."""
    from benchmarks.fold import Plan
    from benchmarks.fold import bench as measure
    from flows.cli.embedded import running_database

    declared, settings = _find(surface, log, items), load_settings()
    plan = Plan(
        surface=declared,
        log=log,
        items=items,
        until=None if until is None else instant(until),
        url=settings.database,
    )
    with running_database(settings):
        _end(lambda clock, say: measure(plan, clock=clock, say=say), as_json, record)


def _replay(
    log: Path | None, items: Path | None, until: str | None, warmup: str, surface: str, record: Path | None
) -> dict[str, Any]:
    """What the benches over a stream are told alike."""

    return {
        "surface": _find(surface, log, items),
        "log": log,
        "items": items,
        "until": None if until is None else instant(until),
        "warmup": duration(warmup),
        "pictures": record,
    }


def _find(surface: str, *paths: Path | None) -> "Declaration":
    """The declared surface. Raises BadArgument for one that is not, and for a file that is not there."""
    expect_files(*paths)
    return find_surface(surface)


def _end(measure: Callable[[Clock, Say], "Table"], as_json: bool, record: Path | None, *, told: bool = True) -> None:
    """Run a bench, telling on standard error what is done; show its table, and write it down where asked to."""
    from rich.console import Console

    from benchmarks import results
    from features.ingest.importing import ImportRefused

    beside = Console(stderr=True)
    say = (lambda line: beside.print(line, highlight=False, markup=False)) if told else (lambda line: None)
    try:
        table = measure(time.perf_counter, say)
    except (ImportRefused, ModuleNotFoundError) as error:
        peers = (
            " the peers are in the extra: pip install -e '.[bench]'" if isinstance(error, ModuleNotFoundError) else ""
        )
        raise BadArgument(f"{error}{peers and ';'}{peers}") from error
    if record is not None:
        results.record(
            record, table, command=shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]), at=datetime.now(UTC)
        )
    if as_json:
        typer.echo(table.text())
    else:
        shown = Console()
        if not shown.is_terminal:
            shown.width = WIDE
        shown.print(table.rendered())
    if table.missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    from flows.cli.main import run

    run(bench)
