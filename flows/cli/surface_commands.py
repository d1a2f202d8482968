"""Commands on the team's surface files, ``millrace surface`` and ``reload``; registered by ``flows/cli/main.py``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import limit_commands
from flows.cli.arguments import AsJson, BadArgument, Feedback, Items, Users, load_settings
from infra.errors import MillraceError

if TYPE_CHECKING:
    from features.declare.families import Family
    from flows.surface import Surface
    from flows.surface_files import SurfaceFile
    from infra.settings import Settings

app = typer.Typer(help="The surfaces that the team's files declare.", no_args_is_help=True, rich_markup_mode=None)

TAKES_S = 120.0
"""How long the processes of the stack may take to run by what was taken up."""


class WrongFiles(MillraceError):
    """Some surface files declare nothing."""

    exit_code = 2


class NotTakenUp(MillraceError):
    """A process does not run by the surfaces that were taken up."""


Name = Annotated[str, typer.Argument(help="The surface's name.")]


@app.command("list")
def list_surfaces(as_json: AsJson = False) -> None:
    """Which surfaces there are, and what each learns of which columns."""
    import json

    from rich.console import Console
    from rich.table import Table

    from flows.surface_files import EXAMPLES, TAKE_AN_EXAMPLE, read_folder
    from flows.taken_up import Running

    settings = load_settings()
    files, running = read_folder(settings.surfaces), Running(settings).files().surfaces
    rows = [_row(one, running.get(name)) for name, one in files.surfaces.items()]
    if as_json:
        broken = {str(path): why for path, why in files.broken.items()}
        print(json.dumps({"surfaces": rows, "broken": broken}, indent=2))
        return
    console = Console()
    if rows:
        table = Table(*("" if heading == "state" else heading for heading in rows[0]), box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(str, row.values()))
        console.print(table)
    else:
        console.print(f"{settings.surfaces} declares no surface yet; {TAKE_AN_EXAMPLE}", markup=False)
    for why in files.broken.values():
        console.print(why, style="red", markup=False, soft_wrap=True)
    others = [name for name in read_folder(EXAMPLES).surfaces if name not in files.surfaces]
    if others:
        console.print(f"\nExamples: {', '.join(others)}. Take one as your own: millrace surface add {others[0]}")


def _row(one: "SurfaceFile", running: "SurfaceFile | None") -> dict[str, object]:
    features = one.surface.features
    state = "not taken up" if running is None else "" if running.version == one.version else "edited, not taken up"
    return {
        "name": one.surface.name,
        "file": str(one.path),
        "version": one.version,
        "labels": ", ".join(features.kinds),
        "columns": ", ".join(column.name for column in features.columns),
        "numbers": len(one.surface.layout.dense),
        "state": state,
    }


@app.command()
def show(name: Name) -> None:
    """What a surface is: its columns, labels, counters and schedule."""
    from flows.surface_files import find

    one = find(load_settings().surfaces, name)
    for line in described(one.surface, one.path):
        print(line)


def described(surface: "Surface", path: Path) -> list[str]:
    """A surface in lines."""
    from features.declare.families import short_span

    features = surface.features
    lines = [f"{surface.name}  ({path})", "", "Columns"]
    for column in features.columns:
        called = f", called {column.column} in the log" if column.column != column.name else ""
        lines.append(f"  {column.name:<20} {type(column).__name__:<7} of the {column.of}{called}")
    lines += ["", "Labels"]
    for label in features.labels:
        value = f", of {label.at_least:g} and more" if label.at_least is not None else ""
        value += f", as a share of {label.most:g}" if label.of == "value" else ""
        lines.append(
            f"  {label.kind:<20} within {short_span(label.within.total_seconds())}{value}, weight {label.weight:g}"
        )
    lines += ["", f"Counters ({len(features.counted)} families, {len(features.schema.dense)} numbers)"]
    lines += [f"  {family.name:<28} {_counted(family)}" for family in features.counted]
    explored = "nothing of an order is left to chance" if surface.explore is None else surface.explore.words
    lines += ["", f"Exploration: {explored}"]
    if surface.variants is not None:
        lines += ["", f"Variants: {surface.variants.words}"]
    lines += [
        "",
        f"An update every {short_span(surface.every.total_seconds())}, of {surface.fewest:,} impressions or more that"
        f" are {short_span(features.attribution)} old.",
    ]
    return lines


def _counted(family: "Family") -> str:
    """By what a family counts, with which half-lives."""
    from features.declare.families import short_span

    key = " x ".join(family.key) or "everything"
    if family.recent is not None:
        key = f"each of the last {family.recent.count} {family.recent.column} x {key}"
    kind = f", {family.kind}" if family.kind else ""
    return f"{key}: {', '.join(map(short_span, family.half_lives))}{kind}"


@app.command()
def check(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files; all of the team's folder when left out. With a log: the surface's name, or its file."
        ),
    ] = None,
    log: Annotated[str | None, typer.Option(help="Impressions or events, as import takes them.")] = None,
    logged: Annotated[bool, typer.Option("--logged", help="The installation's own log.")] = False,
    items: Items = None,
    users: Users = None,
    feedback: Feedback = None,
    days: Annotated[
        float | None, typer.Option(help="How much of the log's end is replayed; else four days, or 30 updates.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Whether surface files declare what they mean to; each message says what to do.

    With a log: how often an update comes, of how much; and of each check and guardrail how often it stops windows that
    are sound, and how large a fault must be before it does.
    """
    if log is not None or logged:
        if len(files or []) != 1 or (log is not None and logged):
            raise BadArgument("name one surface, and its log with --log FILE or --logged")
        limit_commands.check_log(
            (files or [])[0], limit_commands.LogNamed(log, items, users, feedback, days), as_json=as_json
        )
        return
    _check_files([Path(path) for path in files or []])


def _check_files(files: list[Path]) -> None:
    from flows.surface_files import TAKE_AN_EXAMPLE, BadSurface, read_file, read_folder

    settings = load_settings()
    found, wrong = list["SurfaceFile"](), list[str]()
    if files:
        for path in files:
            try:
                found.append(read_file(path))
            except BadSurface as error:
                wrong.append(str(error))
    else:
        read = read_folder(settings.surfaces)
        found, wrong = list(read.surfaces.values()), list(read.broken.values())
        if not found and not wrong:
            raise WrongFiles(f"{settings.surfaces} holds no surface file; {TAKE_AN_EXAMPLE}")
    for one in found:
        explored = "" if one.surface.explore is None else f", {one.surface.explore.words}"
        print(
            f"{one.path}: {one.surface.name} is sound, {len(one.surface.layout.dense)} numbers{explored},"
            f" version {one.version}"
        )
    if wrong:
        raise WrongFiles("\n".join(wrong))


@app.command()
def add(name: Name) -> None:
    """Copy an example into the team's folder, to change."""
    from flows.surface_files import add as add_example

    one, added = add_example(load_settings().surfaces, name)
    print(f"{one.path} {'is there now; have it served: millrace reload' if added else 'is there already'}")


app.command()(limit_commands.limit)


def reload() -> None:
    """Take up the surface files as they are now. Nothing is stopped: each process goes over when it is ready."""
    from flows.taken_up import Running, take_up

    settings = load_settings()
    taken = take_up(settings)
    for what, names in (("new", taken.new), ("changed", taken.changed), ("gone", taken.gone)):
        if names:
            print(f"{what}: {', '.join(names)}")
    if not (taken.new or taken.changed or taken.gone):
        print("Nothing has changed.")
    wanted = {name: one.version for name, one in Running(settings).files().surfaces.items()}
    _wait(settings, wanted)
    if taken.broken:
        raise WrongFiles("\n".join((*taken.broken.values(), "What was taken up of these before goes on.")))


def _wait(settings: "Settings", wanted: dict[str, str]) -> None:
    """Until every process of the stack that is up runs by these versions; prints each as it does."""
    import time

    from flows.cli.surface_states import PROCESSES
    from infra.stack import pulse
    from infra.stack.lifecycle import is_running

    if not is_running(settings):
        print("The stack is not up: the next millrace up begins with them.")
        return
    home, left = settings.home.resolve(), set(PROCESSES)
    until = time.monotonic() + TAKES_S
    while left and time.monotonic() < until:
        for service in sorted(left):
            parts = pulse.read(home, service)
            if {name: part.version for name, part in parts.items() if part.version is not None} == wanted:
                versions = ", ".join(f"{name} {version}" for name, version in wanted.items()) or "no surface"
                print(f"{service:<8} runs by {versions}")
                left.remove(service)
        time.sleep(0.2)
    if left:
        raise NotTakenUp(
            f"{', '.join(sorted(left))} did not go over within {TAKES_S:.0f} s; see millrace status and the logs in"
            f" {home / 'logs'}"
        )
