"""The command line: ``millrace up``, ``status``, ``down``, and the commands of the loop.

What a person can mend is one line on standard error (exit code 1, or 2 for wrong settings and arguments); with
anything else the traceback shows. A command imports what it needs when it runs, so that ``--help`` stays quick.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import (
    backtest_commands,
    canary_commands,
    drill_commands,
    init_commands,
    item_commands,
    key_commands,
    loop_commands,
    review_commands,
    stream_commands,
    surface_commands,
    user_commands,
    wording_commands,
)
from flows.cli.arguments import AsJson, load_settings

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.stack.status import Status, SurfaceStatus

app = typer.Typer(
    name="millrace",
    help="Keeps rankers fresh from live feedback, and lets no bad model through.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as everything is healthy.")] = False,
) -> None:
    """Start the embedded stack, wait until it is healthy, and stay until Ctrl-C."""
    from flows.taken_up import take_up
    from infra.stack.home import prepare_home
    from infra.stack.lifecycle import start_stack
    from infra.stack.services import every_service

    settings = load_settings()
    services = every_service(settings)
    prepare_home(settings)
    for why in take_up(settings).broken.values():
        print(f"{why}\n  It is left out; what was taken up of it before goes on.", flush=True)
    start_stack(settings, services, report=lambda line: print(line, flush=True))
    print()
    for service in services:
        if service.address:
            print(f"  {service.name:<10} {service.address}")
    print()
    if detach:
        print("Everything is up. Stop it with: millrace down", flush=True)
    else:
        print("Everything is up. Stop it with Ctrl-C.", flush=True)
        _stay(settings)


@app.command()
def down() -> None:
    """Stop the embedded stack and every process it started."""
    from infra.stack.lifecycle import stop_stack

    print("Everything is stopped." if stop_stack(load_settings()) else "Nothing was running.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """What is up, and how fresh each surface is."""
    import json
    from datetime import UTC, datetime

    from flows.cli.registry_warnings import with_warnings
    from flows.cli.surface_states import with_declarations
    from infra.stack import environment
    from infra.stack.home import expect_home
    from infra.stack.services import every_service
    from infra.stack.status import read_status

    settings = load_settings()
    expect_home(settings)
    environment.apply(settings)
    found = with_warnings(settings, read_status(settings, every_service(settings), datetime.now(UTC)))
    found = with_declarations(settings, found)
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        _print_status(found)


app.command()(init_commands.init)
app.command("import")(loop_commands.import_command)
app.command()(stream_commands.consume)
app.command()(loop_commands.update)
app.command()(backtest_commands.backtest)
app.command()(backtest_commands.demo)
app.command()(drill_commands.drill)
app.command()(loop_commands.export)
app.command()(review_commands.rollback)
app.command()(review_commands.release)
app.add_typer(review_commands.decide, name="decide")
app.add_typer(canary_commands.app, name="canary")
app.add_typer(user_commands.app, name="user")
app.add_typer(key_commands.app, name="key")
app.add_typer(item_commands.app, name="items")
app.add_typer(surface_commands.app, name="surface")
app.command()(surface_commands.reload)
app.command()(wording_commands.wordings)


def _stay(settings: "Settings") -> None:
    """Return when the stack is stopped: by Ctrl-C or SIGTERM here, or by ``millrace down`` elsewhere."""
    import signal
    import threading

    from infra.errors import StackError
    from infra.stack.lifecycle import is_running, stop_stack
    from infra.stack.supervision import leftovers

    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    while not interrupted.wait(timeout=1.0):
        if not is_running(settings) and not interrupted.wait(timeout=2.0):
            if leftovers(settings.home.resolve()):
                raise StackError("the process supervisor was killed; millrace up starts anew from what is there")
            print("The stack was stopped.")
            return
    print("Stopping.", flush=True)
    stop_stack(settings)


def _print_status(found: "Status") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    services = Table("service", "address", "", box=None, pad_edge=False)
    for service in found.services:
        colour = {"healthy": "green", "starting": "yellow", "waiting": "yellow"}.get(service.state, "red")
        detail = f"  {escape(service.detail)}" if service.detail else ""
        services.add_row(service.name, service.address or "", f"[{colour}]{service.state}[/]{detail}")
    surfaces = Table("surface", "declared", "champion", "watermark", "freshness", box=None, pad_edge=False)
    for surface in found.surfaces:
        surfaces.add_row(
            surface.surface,
            surface.version or "by no file",
            _serving(surface),
            f"{surface.watermark:%Y-%m-%d %H:%M:%S} UTC" if surface.watermark else "",
            "" if surface.freshness_s is None else _length(surface.freshness_s),
        )
    console = Console()
    console.print(services)
    if found.surfaces:
        console.print()
        console.print(surfaces)
    for surface in found.surfaces:
        if surface.champion and surface.uptake.serving < max(1, surface.uptake.following):
            sentence = f"{surface.surface}, version {surface.champion}: {surface.uptake.sentence}"
            console.print(sentence, style="yellow", markup=False, soft_wrap=True)
        for warning in surface.warnings:
            console.print(f"{surface.surface}: {warning}", style="yellow", markup=False, soft_wrap=True)
    for warning in found.warnings:
        console.print(f"\n[yellow]warning:[/] {warning}", soft_wrap=True)


def _serving(surface: "SurfaceStatus") -> str:
    if not surface.champion:
        return "none yet"
    return f"version {surface.champion}" + (f", canary {surface.canary}" if surface.canary else "")


def _length(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def main() -> None:
    """Run the command line; the installed ``millrace`` calls this."""
    run(app)


def run(app: typer.Typer) -> None:
    """Run a command line of ours: what a person can mend is printed in one line."""
    from infra import memory
    from infra.errors import MillraceError

    memory.keep_freed()
    sys.unraisablehook = _unraised
    try:
        app()
    except MillraceError as error:
        print(f"millrace: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        remedy = _remedy(error)
        if remedy is None:
            raise
        print(f"millrace: {remedy}", file=sys.stderr)
        sys.exit(1)


def _unraised(lost: "sys.UnraisableHookArgs") -> None:
    """A Ctrl-C that came within a callback of Python's own, as an import makes many, is lost there: it is sent anew."""
    import os
    import signal
    import threading

    if issubclass(lost.exc_type, KeyboardInterrupt):
        resend = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))  # now it would be lost too
        resend.daemon = True
        resend.start()
    else:
        sys.__unraisablehook__(lost)


def _remedy(error: Exception) -> str | None:
    """What a person does about an error of the world outside; None for one of ours, which flies."""
    import errno

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        where = error.filename or "the disk"
        return f"nothing can be written to {where} ({error.strerror}); free some space, and repeat the command"
    if "psycopg" not in sys.modules:
        return None
    import psycopg

    from infra.postgres.connections import explain

    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        what = " ".join(str(error).split())
        return f"the database is not of this version ({what}); millrace up, or an import, brings it up to date"
    return explain(error) if isinstance(error, psycopg.OperationalError) else None


if __name__ == "__main__":
    main()
