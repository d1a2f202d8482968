"""What a surface's limits do on a log, ``millrace surface check --log``, and ``millrace surface limit`` to set one;
``flows/cli/surface_commands.py`` registers them."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import BadArgument, apply_settings, argument_errors, expect_files, find_surface, load_settings
from flows.cli.review_commands import As, Why, person_of

if TYPE_CHECKING:
    from flows.drill.logs import Log
    from flows.drill.sensitivity import Sensitivity
    from flows.surface import Surface
    from monitoring.gate.adjustable import Chosen

SHORTEST_DAYS, WINDOWS_REPLAYED = 4.0, 30
"""What is replayed of a log unless said otherwise: days, or so many updates where that is more."""

STAGE = 40
"""Characters of a line of the drill that stand before the bar."""


@dataclass(frozen=True)
class LogNamed:
    """The log that a person named; without a file, the installation's own."""

    log: str | None
    items: str | None
    users: str | None
    feedback: str | None
    days: float | None


def check_log(name: str, named: LogNamed, *, as_json: bool) -> None:
    """Replay a log, plant faults, and print what each limit does."""
    from flows.chosen_limits import with_limits
    from flows.cli.progress import progress_bar
    from flows.drill import limits_table, sensitivity
    from monitoring.gate import adjustable
    from monitoring.gate.adjustable import LimitsInForce
    from monitoring.gate.sensitivity import own_limits, tradeoffs

    declared = _surface(name)
    expect_files(named.log, named.items, named.users, named.feedback)
    with _opened(declared, named) as (log, chosen):
        with progress_bar("replay", quiet=as_json) as bar:
            measured = sensitivity.measure(
                with_limits(declared, chosen),
                log,
                sensitivity.Plan(),
                clock=time.perf_counter,
                progress=lambda line: bar.show(line[:STAGE], 0.0, None),
            )
        stored = _store(declared.name, measured)
    windows = measured.trial.windows[::-1]
    in_force = LimitsInForce(declared.policy, declared.limits, chosen, own_limits(windows, declared.limits))
    found = tradeoffs(adjustable.ADJUSTABLE, in_force, windows, measured.trial)
    if as_json:
        print(json.dumps(limits_table.as_json(measured, found), indent=1))
        return
    from rich.console import Console

    console = Console()
    console.print(limits_table.rendered(measured, found))
    if stored:
        console.print(f"\nThe desk draws it: {stored}", markup=False, soft_wrap=True)


def limit(
    name: Annotated[str, typer.Argument(help="The surface's name.")],
    code: Annotated[str, typer.Argument(help="Of the check or guardrail, as surface check names it: volume, slices.")],
    value: Annotated[str, typer.Argument(help="The limit; 'file' goes back to what the surface's file declares.")],
    why: Why,
    as_: As = None,
) -> None:
    """Set a limit, as on the desk: from the next update on, and on record with who, when and why."""
    from functools import partial

    from flows.review.decisions import Decisions
    from flows.taken_up import running
    from monitoring.gate import adjustable

    find_surface(name)
    found = adjustable.find(code)
    if found is None:
        names = ", ".join(one.name for one in adjustable.ADJUSTABLE)
        raise BadArgument(f"{code!r} has no limit to set; there are {names}")
    try:
        at_most = None if value == "file" else float(value)
    except ValueError:
        raise BadArgument(f"{value!r} is no limit; give a number, or 'file'") from None
    settings = apply_settings()
    decisions = Decisions(settings, partial(running, settings))
    done = decisions.choose_limit(
        name, found.code, at_most=at_most, person=person_of(as_), reason=why, through="command line"
    )
    typer.echo(done.sentence)


def _surface(name: str) -> "Surface":
    """A surface by its name, or by its file."""
    from flows.surface_files import read_file

    return read_file(Path(name)).surface if name.endswith(".py") else find_surface(name)


@contextmanager
def _opened(surface: "Surface", named: LogNamed) -> Iterator[tuple["Log", Mapping[str, "Chosen"]]]:
    """The log, and the limits that were chosen in the installation, where it is its own."""
    from features.ingest.log_files import Files
    from flows.cli.embedded import running_database
    from flows.drill import logs
    from infra.postgres.connections import connect
    from monitoring.records import limit_choices

    days = named.days or max(SHORTEST_DAYS, WINDOWS_REPLAYED * surface.every / timedelta(days=1))
    if named.log is not None:
        files = Files(named.log, named.items, named.users, named.feedback)
        with argument_errors():
            log = logs.read_surface_log(surface, files, now=datetime.now(UTC))
        last = log.shown["shown_at"][-1]
        yield log.after(last - timedelta(days=days)), {}
        return
    settings = load_settings()
    with running_database(settings):
        with connect(settings.database) as connection:
            log, chosen = logs.logged(connection, surface, days=days), limit_choices.in_force(connection, surface.name)
        yield log, chosen


def _store(name: str, measured: "Sensitivity") -> str | None:
    """Keep it for the desk, where an installation's database answers: the page's address."""
    import psycopg

    from infra.postgres.connections import connect
    from monitoring.records import sensitivity

    settings = load_settings()
    try:
        with connect(settings.database, timeout_s=2.0) as connection:
            sensitivity.write(connection, name, measured.trial)
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return None  # no installation is here, or one that has never been up
    return f"{settings.desk}/{name}/limits"
