"""Commands of the loop, ``millrace import``, ``update``, ``backtest`` and ``demo``; registered by
``flows/cli/main.py``."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.arguments import BadArgument, duration, expect_files, find_surface, instant, load_settings
from infra.errors import MillraceError

if TYPE_CHECKING:
    from rich.progress import Progress

Surface = Annotated[str, typer.Option("--surface", help="The surface, a file of flows/surfaces.")]
Items = Annotated[Path | None, typer.Option(help="Parquet file of items: item_id and their columns.")]
Feedback = Annotated[Path | None, typer.Option(help="Parquet file of late feedback: impression_id, kind, value, at.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]


class UpdateFailed(MillraceError):
    """An update ended without a verdict."""


def import_log(
    log: Annotated[Path, typer.Argument(help="Parquet file of impressions with their clicks.")],
    surface: Surface,
    items: Items = None,
    feedback: Feedback = None,
    as_json: AsJson = False,
) -> None:
    """Take a click log into the event log. Rows that cannot be used go to dead letters; the rest is imported once."""
    from features.ingest import importing
    from flows.cli.embedded import running_database

    settings = load_settings()
    with _told():
        find_surface(surface)
        expect_files(log, items, feedback)
    with _told(), running_database(settings), _progress(as_json) as progress:
        bar = progress.add_task("import", total=None)
        appended = importing.import_log(
            settings.database,
            surface,
            log,
            items=items,
            feedback=feedback,
            now=datetime.now(UTC),
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    counts = {
        "imported": appended.imported,
        "already_there": appended.already_there,
        "dead_letters": appended.dead_letters,
    }
    if as_json:
        print(json.dumps(counts))
        return
    print(
        f"{appended.imported:,} events imported, {appended.already_there:,} were already there,"
        f" {appended.dead_letters:,} dead letters."
    )
    if appended.dead_letters:
        print("What they are and why: table dead_letters, columns source, line, reason and event.")


def update(
    surface: Surface,
    as_of: Annotated[str | None, typer.Option(help="Update as of this time, UTC; now when left out.")] = None,
) -> None:
    """Run one update now: claim, check, join, test, fine-tune, judge, decide, publish."""
    from flows.cli.embedded import running_database
    from flows.ledger import expect_time
    from infra.postgres.connections import connect
    from infra.stack import environment
    from infra.stack.home import prepare_home

    settings = load_settings()
    with _told():
        find_surface(surface)
        moment = None if as_of is None else instant(as_of)
        prepare_home(settings)
        with running_database(settings):
            if moment is not None:  # before Prefect starts, which would show a traceback of it
                with connect(settings.database) as connection:
                    expect_time(connection, surface, moment, datetime.now(UTC))
            environment.apply(settings)
            from prefect.exceptions import FailedRun

            from flows.cli.prefect_api import prefect_api
            from flows.update import update as flow
            from models.versions.registry import prepare

            with prefect_api(settings):
                prepare(settings.mlflow_tracking, settings.database)
                try:
                    print(flow(surface, moment))
                except FailedRun as failed:
                    raise UpdateFailed(str(failed)) from failed


def backtest(
    log: Annotated[Path, typer.Option(help="Parquet file of impressions with their clicks.")],
    surface: Surface,
    items: Items = None,
    feedback: Feedback = None,
    warmup: Annotated[str, typer.Option(help="How much of the log the first model learns from: 1d, 12h.")] = "1d",
    every: Annotated[str, typer.Option(help="How often an update runs: 1h, 10m.")] = "1h",
    from_: Annotated[str | None, typer.Option("--from", help="Leave out what was shown up to this time, UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Leave out what was shown after this time, UTC.")] = None,
    tick: Annotated[str, typer.Option(help="How old counters may be: 2s as live, or coarser.")] = "2s",
    report: Annotated[Path | None, typer.Option(help="Folder for an HTML page with the curves.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a log with itself as the clock, and see what fresh features and fresh models are worth."""
    from infra.stack import environment
    from infra.stack.home import prepare_home

    settings = load_settings()
    with _told():
        declared = find_surface(surface)
        expect_files(log, items, feedback)
        warm, step, fresh = duration(warmup), duration(every), duration(tick).total_seconds()
        start = None if from_ is None else instant(from_)
        end = None if until is None else instant(until)
        prepare_home(settings)
        environment.apply(settings)
        _quieten_prefect()
        from flows.backtest import run as backtesting
        from flows.cli.embedded import running_database
        from flows.cli.prefect_api import prefect_api

        plan = backtesting.Plan(
            log=log, items=items, feedback=feedback, warmup=warm, every=step, from_=start, until=end, tick=fresh
        )
        with running_database(settings), prefect_api(settings), _progress(as_json) as progress:
            bar = progress.add_task("start", total=None)
            found = backtesting.backtest(
                settings,
                declared,
                plan,
                now=datetime.now(UTC),
                watch=lambda stage: progress.update(
                    bar, description=stage.name, completed=stage.done, total=stage.total
                ),
            )
    from flows.backtest.findings import without_nan
    from flows.backtest.page import write_page

    summary = found.summary()
    if report is not None:
        print(f"Report: {write_page(summary, found.surface, report)}", file=None if not as_json else _stderr())
    if as_json:
        print(json.dumps(without_nan(summary), allow_nan=False))
    else:
        show(summary)


def demo(
    log: Annotated[Path | None, typer.Option(help="A click log of yours; a simulated one when left out.")] = None,
    items: Items = None,
    feedback: Feedback = None,
    until: Annotated[str | None, typer.Option(help="Leave out what was shown after this time, UTC.")] = None,
) -> None:
    """The whole loop from nothing, on this machine; leaves the stack running."""
    from infra.stack import environment

    settings = load_settings()
    with _told():
        expect_files(log, items, feedback)
        end = None if until is None else instant(until)
        environment.apply(settings)
        _quieten_prefect()
        from flows.backtest.run import Plan
        from flows.cli import demo as demonstration

        plan = None
        if log is not None:
            plan = Plan(log, items, feedback, until=end)
        elif items or feedback or until:
            raise BadArgument("--items, --feedback and --until go with a --log")
        with _progress(False) as progress:
            bar = progress.add_task("", total=None, visible=False)
            found, served = demonstration.run(
                settings,
                plan,
                now=datetime.now(UTC),
                say=progress.console.print,
                watch=lambda stage: progress.update(
                    bar, description=stage.name, completed=stage.done, total=stage.total, visible=True
                ),
            )
    print()
    show(found.summary())
    print(f"\nVersion {served.version} ranks for reader {served.user}, who then clicks item {served.clicked}:")
    for name, ranked in (("before", served.before), ("after", served.after)):
        print(f"  {name:<7}" + "  ".join(f"{item['item_id']} {item['score']:.3f}" for item in ranked))
    print("\nLook around:")
    for what, address in (
        ("updates, their story and schedule", f"{settings.prefect_pages}/runs"),
        ("runs, evidence and versions", f"{settings.mlflow_pages}/#/models"),
        ("quality and drift over time", settings.evidently),
        ("review desk: what waits, what was done", settings.desk),
        ("the ranking API", f"{settings.serving}/openapi.json"),
    ):
        print(f"  {what:<40} {address}")
    print("\nThe desk asks who you are: millrace user add NAME --role operator --surface '*'")
    print("Stop it with: make down")


def export(
    version: Annotated[str, typer.Argument(help="Number of the version in MLflow.")],
    to: Annotated[Path, typer.Option(help="Folder to be made.")],
    surface: Annotated[str, typer.Option(help="The surface whose version it is.")] = "feed",
) -> None:
    """Write a version in full, to a folder that stands alone: `mlflow models serve -m FOLDER` serves it."""
    from flows.cli.embedded import running_database
    from infra.postgres.connections import connect
    from infra.stack import environment
    from models.versions import promotions
    from models.versions.artifact import DamagedModel
    from models.versions.files import materialise
    from models.versions.registry import Registry

    find_surface(surface)
    settings = load_settings()
    environment.apply(settings)
    registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    with running_database(settings), connect(settings.database) as connection, registry.answering():
        promotion = promotions.promoted(connection, surface, version)  # which is right, whatever became of MLflow's
        files = promotion.artifact_uri if promotion else registry.version(surface, version).artifact_uri
        try:
            materialise(files, to, registry.tracking_uri)
        except (FileExistsError, FileNotFoundError, DamagedModel) as error:
            raise BadArgument(f"version {version} of {surface}: {error}") from error
    typer.echo(f"Version {version} of {surface} is in {to}, in full.")


def show(summary: dict[str, Any]) -> None:
    """A backtest's findings for people: a sentence, a table, and what the gate said."""
    from rich.console import Console

    from flows.backtest.findings import headline
    from flows.backtest.table import render_table

    console = Console()
    console.print(headline(summary))
    console.print()
    console.print(render_table(summary))
    verdicts = [update["verdict"] for update in summary["updates"]]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("promote", "hold", "reject") if v in verdicts)
    console.print(f"{len(verdicts)} updates: {counts}. {summary['seconds']:.0f} seconds in all.")


def _quieten_prefect() -> None:
    """Warnings only, on the terminal: a command that runs a hundred updates shows a progress bar. Call it before
    Prefect's import."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")


@contextmanager
def _told() -> Iterator[None]:
    """A ValueError or a missing file is the user's; say it in one line."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise BadArgument(str(error)) from error


@contextmanager
def _progress(quiet: bool) -> Iterator["Progress"]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield progress


def _stderr() -> Any:
    import sys

    return sys.stderr
