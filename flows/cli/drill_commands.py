"""``millrace drill``: does the gate catch what it should on this log? Registered by ``flows/cli/main.py``."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import (
    AsJson,
    BadArgument,
    Feedback,
    Items,
    SurfaceName,
    Users,
    argument_errors,
    duration,
    expect_files,
    find_surface,
    load_settings,
    optional_instant,
)

if TYPE_CHECKING:
    from features.ingest.log_files import Files
    from flows.drill.logs import Log
    from flows.surface import Surface

DAYS = 4.0
"""How much of a log is replayed, where nothing else is said and updates run more than once a day."""

ALL = "all"


def drill(
    surface: SurfaceName,
    log: Annotated[
        str | None, typer.Option(help="Impressions or events, as import takes them; else its own log.")
    ] = None,
    items: Items = None,
    users: Users = None,
    feedback: Feedback = None,
    from_: Annotated[str | None, typer.Option("--from", help="Leave out what was shown up to this time, UTC.")] = None,
    days: Annotated[
        str | None,
        typer.Option(help="How much is replayed; all: the whole log. Else 4, or all where updates are daily."),
    ] = None,
    every: Annotated[str | None, typer.Option(help="How long a window is: 1h, 90d; else as long as it takes.")] = None,
    warmup: Annotated[
        str | None, typer.Option(help="What the first model trains on: 6h, 1d; else a day, or a third of years.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what the faults draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Plant faults into windows of a log: which does the surface's policy catch, and how many clean ones does it hold?

    The exit code is 1 where a fault slips through, or clean windows are rejected, or too many held.
    """
    from features.ingest.log_files import Files
    from flows.cli.progress import progress_bar
    from flows.drill import drill as drilling
    from flows.drill import table
    from flows.drill.cadence import cadence_of

    declared = find_surface(surface)
    expect_files(log, items, users, feedback)
    if log is None and any((items, users, feedback)):
        raise BadArgument("--items, --users and --feedback belong to a --log, and none is named")
    length = _length(days, declared)
    window, warm = (
        None if text is None else _positive(name, text) for name, text in (("every", every), ("warmup", warmup))
    )
    with argument_errors():
        declared, read = _read(declared, None if log is None else Files(log, items, users, feedback), length)
    start = optional_instant(from_)
    read = read if start is None else read.after(start)
    if read.shown.is_empty():
        raise BadArgument(f"--from {from_}: {read.name} shows nothing after that")
    if length is not None:
        read = read.until(read.shown["shown_at"][0].replace(minute=0, second=0, microsecond=0) + length)
    with progress_bar("drill", quiet=as_json) as bar:
        done = drilling.drill(
            declared,
            read,
            drilling.Plan(cadence_of(declared, read, every=window, warmup=warm), seed=seed),
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


def _length(days: str | None, surface: "Surface") -> timedelta | None:
    """How much of the log is replayed; None: all of it."""
    if days == ALL or (days is None and surface.every >= timedelta(days=1)):
        return None
    try:
        length = timedelta(days=DAYS if days is None else float(days))
    except (ValueError, OverflowError):
        length = timedelta(0)
    if length <= timedelta(0):
        raise BadArgument(f"--days {days}: give a number of days above 0, or {ALL}")
    return length


def _positive(option: str, text: str) -> timedelta:
    length = duration(text)
    if length < timedelta(minutes=1):
        raise BadArgument(f"--{option} {text}: give a minute or more")
    return length


def _read(surface: "Surface", files: "Files | None", length: timedelta | None) -> tuple["Surface", "Log"]:
    """The log that is named; or what the installation has logged of the surface, which then goes by the limits that
    people chose there."""
    from flows.chosen_limits import with_chosen_limits
    from flows.cli.embedded import running_database
    from flows.drill import logs
    from infra.postgres.connections import connect

    if files is not None:
        return surface, logs.read_surface_log(surface, files, now=datetime.now(UTC))
    settings = load_settings()
    with running_database(settings), connect(settings.database) as connection:
        days = None if length is None else length / timedelta(days=1)
        return with_chosen_limits(connection, surface), logs.logged(connection, surface, days=days)
