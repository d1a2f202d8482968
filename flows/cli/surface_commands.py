"""Commands on the team's surface files, ``millrace surface`` and ``reload``; registered by ``flows/cli/main.py``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, load_settings
from infra.errors import MillraceError

if TYPE_CHECKING:
    from features.declare.features import Features
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

    from flows.surface_files import EXAMPLES, read_folder
    from flows.taken_up import Running

    settings = load_settings()
    files, running = read_folder(settings.surfaces), Running(settings).files().surfaces
    if as_json:
        rows = [_row(one, running.get(name)) for name, one in files.surfaces.items()]
        print(
            json.dumps({"surfaces": rows, "broken": {str(path): why for path, why in files.broken.items()}}, indent=2)
        )
        return
    console = Console()
    if files.surfaces:
        table = Table("surface", "file", "version", "labels", "columns", "numbers", "", box=None, pad_edge=False)
        for name, one in files.surfaces.items():
            row = _row(one, running.get(name))
            table.add_row(
                *(str(row[key]) for key in ("name", "file", "version", "labels", "columns", "numbers", "state"))
            )
        console.print(table)
    else:
        console.print(f"{settings.surfaces} declares no surface yet. Make one of a log: millrace init --log LOG")
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
            f"  {label.kind:<20} within {_length(label.within.total_seconds())}{value}, weight {label.weight:g}"
        )
    lines += ["", f"Counters ({len(features.counted)} families, {len(features.schema.dense)} numbers)"]
    lines += [f"  {family.name:<28} {_key(features, family.name)}" for family in features.counted]
    lines += [
        "",
        f"An update every {_length(surface.every.total_seconds())}, of {surface.fewest:,} impressions or more that are"
        f" {_length(features.attribution)} old.",
    ]
    return lines


def _key(features: "Features", name: str) -> str:
    family = next(one for one in features.counted if one.name == name)
    key = " x ".join(family.key) or "everything"
    if family.recent is not None:
        key = f"each of the last {family.recent.count} {family.recent.column} x {key}"
    kind = f", {family.kind}" if family.kind else ""
    return f"{key}: {', '.join(map(_length, family.half_lives))}{kind}"


def _length(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"


@app.command()
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Files; all of the team's folder when left out.")] = None,
) -> None:
    """Whether surface files declare what they mean to; each message says what to do."""
    from flows.surface_files import BadSurface, read_file, read_folder

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
            raise WrongFiles(f"{settings.surfaces} holds no surface file; make one of a log: millrace init --log LOG")
    for one in found:
        print(
            f"{one.path}: {one.surface.name} is sound, {len(one.surface.layout.dense)} numbers, version {one.version}"
        )
    if wrong:
        raise WrongFiles("\n".join(wrong))


@app.command()
def add(name: Name) -> None:
    """Copy an example into the team's folder, to change."""
    from flows.surface_files import add as add_example

    one, added = add_example(load_settings().surfaces, name)
    print(f"{one.path} {'is there now; have it served: millrace reload' if added else 'is there already'}")


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

    from infra.stack import pulse
    from infra.stack.lifecycle import is_running

    if not is_running(settings):
        print("The stack is not up: the next millrace up begins with them.")
        return
    home, left = settings.home.resolve(), {"fold", "serving", "flows"}
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
