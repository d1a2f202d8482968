"""The benches, ``millrace bench …``; ``flows/cli.py`` registers them.

Each ends in one table, for people or as ``--json``: ``{"name", "machine", "rows": [{"what", "ours", "unit", "peer",
"theirs", "ratio", "goal", "met"}]}``. The exit code is 1 when a goal was missed.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(
    name="bench",
    help="Measure on this machine what the program promises.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@bench.callback()
def _group() -> None:
    """Keep ``gate`` a command of its own while there is one alone."""


@bench.command()
def gate(
    log: Annotated[Path | None, typer.Option(help="Parquet file of impressions with their clicks.")] = None,
    items: Annotated[Path | None, typer.Option(help="Parquet file of items: item_id and their columns.")] = None,
    surface: Annotated[str, typer.Option(help="The surface whose features, learner and gate are measured.")] = "feed",
    days: Annotated[float, typer.Option(help="How much of each log is replayed; the first day is warm-up.")] = 4.0,
    from_: Annotated[str | None, typer.Option("--from", help="Leave out what was shown up to this time, UTC.")] = None,
    seed: Annotated[int, typer.Option(help="Of the seeded log, the faults and the simulations.")] = 0,
    judging: Annotated[str | None, typer.Option(help="progressive or tail, instead of the surface's own.")] = None,
    simulate: Annotated[bool, typer.Option(help="Run the simulations too.")] = True,
    why: Annotated[bool, typer.Option(help="Tell on standard error what is done, and the gate's reasons.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """The gate: its speed, planted faults, clean windows, simulations. Without --log on a seeded log alone."""
    from typing import get_args

    from rich.console import Console

    from features.importing import ImportRefused
    from flows.benches.gate import Plan
    from flows.benches.gate import bench as measure
    from flows.loop_commands import BadArgument, instant
    from flows.surfaces import find
    from monitoring.evidence import Judging

    told = Console(stderr=True)
    for path in (log, items):
        if path is not None and not path.is_file():
            raise BadArgument(f"{path} does not exist; give the path of a parquet file")
    known: tuple[Judging, ...] = get_args(Judging)
    chosen = next((name for name in known if name == judging), None)
    if judging is not None and chosen is None:
        raise BadArgument(f"--judging {judging}: use {' or '.join(known)}")
    try:
        declared = find(surface)
    except ValueError as error:
        raise BadArgument(str(error)) from error
    plan = Plan(
        log=log,
        items=items,
        from_=None if from_ is None else instant(from_),
        days=days,
        judging=chosen,
        simulate=simulate,
        seed=seed,
    )
    say = (lambda line: told.print(line, highlight=False, markup=False)) if why else (lambda line: None)
    try:
        table = measure(declared, plan, clock=time.perf_counter, say=say)
    except ImportRefused as error:
        raise BadArgument(str(error)) from error
    if as_json:
        typer.echo(table.text())
    else:
        Console().print(table.rendered())
    if table.missed:
        raise typer.Exit(1)
