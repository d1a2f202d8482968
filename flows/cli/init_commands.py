"""``millrace init``: from a log that nobody has described to a surface's file; registered by ``flows/cli/main.py``."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import LOG_HELP, BadArgument, Items, argument_errors, expect_files, load_settings

if TYPE_CHECKING:
    from features.ingest.inferred.inference import Inferred
    from features.ingest.inferred.pace import Pace
    from flows.surface import Surface

UPDATES = 25
"""Of a first backtest, at most about: its page is there in minutes, also where updates run more often later."""


def init(
    log: Annotated[str, typer.Option(help=f"Your log: {LOG_HELP}")],
    items: Items = None,
    name: Annotated[str | None, typer.Option(help="What to call the surface; as the log's file when left out.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write the file anew where it is there already.")] = False,
) -> None:
    """Look at a log, say what each column is taken for, and write a surface's file of it."""
    from features.declare.families import short_span
    from features.ingest.inferred.inference import infer
    from features.ingest.sample import read_sample
    from features.ingest.sources import shown_as
    from flows.surface_text import surface_text

    folder = load_settings().surfaces
    with argument_errors():
        expect_files(log, items)
        called = surface_name(log) if name is None else name
        path = _free_path(folder, called, force=force)
        try:
            inferred = infer(read_sample(log), None if items is None else read_sample(items), called)
        except ValueError as error:
            about = "" if shown_as(log) in str(error) else f"{shown_as(log)}: "
            raise BadArgument(f"{about}{error}") from error
    surface = _write(path, surface_text(called, inferred))
    show(inferred)
    print(f"\nWrote {path}, which declares a sound surface. Read it, change what is wrong, then:\n")
    print(f"  {next_command(surface, inferred, log, items)}")
    own, first = inferred.pace.every, first_every(inferred.pace)
    if first > own:
        print(
            f"\nThat replays the log with an update every {short_span(first)}, so that its page is there in minutes;"
            f" once it runs, the surface is updated every {short_span(own)}."
        )


def surface_name(log: str) -> str:
    """A surface's name made of that of a file, a folder or a table."""
    last = re.split(r"table=", log)[-1] if "://" in log else Path(log).name
    stem = last.split(".")[0].lower()
    words = re.findall(r"[a-z0-9]+", stem)
    fit = re.sub(r"^[0-9_]+", "", "_".join(words))[:32].rstrip("_")
    return fit or "surface"


def _free_path(folder: Path, name: str, *, force: bool) -> Path:
    """Where the file goes. Raises BadArgument for a name that cannot be, or that is there."""
    from features.identity.names import surface_name_fault
    from flows.surface_files import read_folder

    fault = surface_name_fault(name)
    if fault is not None:
        raise BadArgument(f"--name {name!r}: {fault}")
    path = folder / f"{name}.py"
    declared = read_folder(folder).surfaces.get(name)
    there = declared.path if declared is not None else path if path.exists() else None
    if there is not None and not (force and there == path):
        remedy = "or --force to write it anew" if there == path else "for a file that is not there yet"
        raise BadArgument(f"{there} declares {name!r} already; give another --name, {remedy}")
    return path


def _write(path: Path, text: str) -> "Surface":
    """Write the file once it is known to be sound; the surface that it declares."""
    import tempfile

    from flows.surface_files import read_file

    with tempfile.TemporaryDirectory(prefix="millrace-init-") as folder:
        draft = Path(folder) / path.name
        draft.write_text(text, encoding="utf-8")
        read_file(draft)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return read_file(path).surface


def show(inferred: "Inferred") -> None:
    """What each column is taken for, what is made up, and how fast the log moves."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from features.declare.families import short_span
    from features.declare.half_lives import rounded

    table = Table("column", "taken for", "because", box=None, pad_edge=False)
    for one in inferred.taken:
        column = one.column if one.of == "log" else f"{one.column} (items)"
        table.add_row(
            *(Text(cell, style="dim" * (one.taken_for == "left out")) for cell in (column, one.taken_for, one.because))
        )
    console = Console()
    console.print(table)
    pace = inferred.pace
    kinds = ", ".join(label.kind for label in inferred.labels)
    shortest, longest = (short_span(rounded(life)) for life in (pace.lives.short, pace.lives.long))
    lines = [
        *(["Not in the log, and what is made up for it:"] if inferred.made_up else []),
        *(f"  {sentence}" for sentence in inferred.made_up),
        *([""] if inferred.made_up else []),
        f"It learns {kinds}: {pace.lives.rate:.2%} of about {pace.impressions:,} impressions in {_long(pace.span)}.",
        f"Counters halve within {shortest} to {longest}; an update every {short_span(pace.every)}, the first after"
        f" {short_span(pace.warmup)}.",
    ]
    console.print()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _long(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"


def first_every(pace: "Pace") -> float:
    """Seconds between the updates of a first backtest."""
    from features.ingest.inferred.nice import nice_up

    return max(pace.every, nice_up((pace.span - pace.warmup) / UPDATES))


def next_command(surface: "Surface", inferred: "Inferred", log: str, items: str | None) -> str:
    """What to run next, as it can be pasted."""
    from features.declare.families import short_span

    words = ["millrace", "backtest", "--surface", surface.name, "--log", log]
    words += ["--items", items] if items is not None else []
    words += ["--warmup", short_span(inferred.pace.warmup), "--every", short_span(first_every(inferred.pace))]
    return shlex.join([*words, "--report", f"{surface.name}_report"])
