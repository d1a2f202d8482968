"""``millrace drill``: does the gate catch what it should on this log? Registered by ``flows/cli/main.py``."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import (
    AsJson,
    BadArgument,
    Items,
    SurfaceName,
    argument_errors,
    expect_files,
    find_surface,
    load_settings,
    optional_instant,
)

if TYPE_CHECKING:
    from flows.drill.logs import Log
    from flows.surface import Surface


def drill(
    surface: SurfaceName,
    log: Annotated[
        str | None, typer.Option(help="Impressions or events, as import takes them; else its own log.")
    ] = None,
    items: Items = None,
    from_: Annotated[str | None, typer.Option("--from", help="Leave out what was shown up to this time, UTC.")] = None,
    days: Annotated[float, typer.Option(help="How much is replayed; the first day is to begin with.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Of what the faults draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Plant faults into windows of a log: which does the surface's policy catch, and how many clean ones does it hold?

    The exit code is 1 where a fault slips through, or clean windows are rejected, or too many held.
    """
    from flows.cli.progress import progress_bar
    from flows.drill import drill as drilling
    from flows.drill import table

    declared = find_surface(surface)
    expect_files(log, items)
    with argument_errors():
        declared, read = _read(declared, log, items, days)
    start = optional_instant(from_)
    read = read if start is None else read.after(start)
    if read.shown.is_empty():
        raise BadArgument(f"--from {from_}: {read.name} shows nothing after that")
    begin = read.shown["shown_at"][0].replace(minute=0, second=0, microsecond=0)
    with progress_bar("drill", quiet=as_json) as bar:
        done = drilling.drill(
            declared,
            read.until(begin + timedelta(days=days)),
            drilling.Plan(seed=seed),
            clock=time.perf_counter,
            progress=bar.print,
        )
    if as_json:
        print(json.dumps(table.as_json(done), indent=1))
    else:
        from rich.console import Console

        Console().print(table.rendered(done))
    if not done.passed:
        raise typer.Exit(1)


def _read(surface: "Surface", log: str | None, items: str | None, days: float) -> tuple["Surface", "Log"]:
    """The log that is named; or what the installation has logged of the surface, which then goes by the limits that
    people chose there."""
    from features.ingest.log_files import Files
    from flows.chosen_limits import with_chosen_limits
    from flows.cli.embedded import running_database
    from flows.drill import logs
    from infra.postgres.connections import connect

    if log is not None:
        files = Files(log, items)
        return surface, logs.read_log(
            Path(files.name).stem,
            files,
            now=datetime.now(UTC),
            mapping=surface.log,
            label=surface.features.label.kind,
            declared=surface.features.columns,
        )
    settings = load_settings()
    with running_database(settings), connect(settings.database) as connection:
        return with_chosen_limits(connection, surface), logs.logged(connection, surface, days=days)
