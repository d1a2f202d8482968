"""Running one bench for a person: its progress on standard error, where its table goes, its exit code."""

import importlib.util
import shlex
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from benchmarks.bench import Bench
from flows.cli.arguments import BadArgument

WIDE = 140
"""Columns of a table that goes to a file."""


@dataclass(frozen=True)
class Output:
    """Where a bench's table goes."""

    record: Path | None
    """Folder whose RESULTS.md gets it."""

    as_json: bool
    """In place of a table for people."""


def run_bench(bench: Bench, output: Output, *, verbose: bool = True) -> None:
    """Run a bench, with its progress on standard error if ``verbose``; exits with 1 where a goal was missed."""
    from rich.console import Console

    from benchmarks import results
    from features.ingest.sources import ImportRefused

    stderr = Console(stderr=True)

    def progress(line: str) -> None:
        if verbose:
            stderr.print(line, highlight=False, markup=False)

    try:
        table = bench(clock=time.perf_counter, progress=progress)
    except ImportRefused as error:
        raise BadArgument(str(error)) from error
    if output.record is not None:
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        results.record(output.record, table, command=command, at=datetime.now(UTC))
    if output.as_json:
        typer.echo(table.text())
    else:
        console = Console()
        if not console.is_terminal:
            console.width = WIDE
        console.print(table.rendered())
    if table.missed:
        raise typer.Exit(1)


def expect_extra(*modules: str) -> None:
    """Raises BadArgument for a peer that is not installed: before an hour of measuring, and not after it."""
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if absent:
        raise BadArgument(f"{' and '.join(absent)} must be installed for this bench: pip install -e '.[bench]'")
