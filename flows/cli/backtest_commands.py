"""Commands that replay a log, ``millrace backtest`` and ``demo``; registered by ``flows/cli/main.py``."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import (
    LOG_HELP,
    AsJson,
    BadArgument,
    Feedback,
    Items,
    SurfaceName,
    Until,
    Users,
    apply_settings,
    argument_errors,
    duration,
    expect_files,
    find_surface,
    load_settings,
    optional_instant,
)

if TYPE_CHECKING:
    from flows.backtest.summary import Summary


def backtest(
    log: Annotated[str, typer.Option(help=f"Impressions or events: {LOG_HELP}")],
    surface: SurfaceName,
    items: Items = None,
    users: Users = None,
    feedback: Feedback = None,
    warmup: Annotated[str, typer.Option(help="How much of the log the first model trains on: 1d, 12h.")] = "1d",
    every: Annotated[str, typer.Option(help="How often an update runs: 1h, 10m.")] = "1h",
    from_: Annotated[str | None, typer.Option("--from", help="Leave out what was shown up to this time, UTC.")] = None,
    until: Until = None,
    tick: Annotated[
        str | None, typer.Option(help="How old counters may be; as the surface says when left out.")
    ] = None,
    approve_held: Annotated[
        bool, typer.Option("--approve-held", help="Play an analyst who approves at once whatever the gate holds.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for an HTML page with the curves.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a log with itself as the clock, and see what fresh features and fresh models are worth."""
    from flows.cli.progress import progress_bar
    from infra.stack import environment
    from infra.stack.home import prepare_home

    settings = load_settings()
    with argument_errors():
        declared = find_surface(surface)
        expect_files(log, items, users, feedback)
        step, first = duration(every), duration(warmup)
        ageing = None if tick is None else duration(tick).total_seconds()
        start, end = optional_instant(from_), optional_instant(until)
        prepare_home(settings)
        environment.apply(settings)
        _quieten_prefect()
        from features.ingest.log_files import Files
        from flows.backtest import run
        from flows.cli.embedded import running_database
        from flows.cli.prefect_api import prefect_api

        config = run.BacktestConfig(
            files=Files(log, items, users, feedback),
            warmup=first,
            every=step,
            from_=start,
            until=end,
            tick=ageing,
            approve_held=approve_held,
        )
        with running_database(settings), prefect_api(settings), progress_bar("start", quiet=as_json) as bar:
            found = run.backtest(
                settings,
                declared,
                config,
                now=datetime.now(UTC),
                progress=lambda stage: bar.show(stage.name, stage.done, stage.total),
            )
    from flows.backtest.page import write_page

    summary = found.summary()
    if report is not None:
        print(f"Report: {write_page(summary, found.surface, report)}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(summary.as_json(), allow_nan=False))
    else:
        show(summary)


def demo(
    surface: Annotated[
        str, typer.Option("--surface", help="Of the examples: feed, headlines, movies, search, shop; or yours.")
    ] = "feed",
    log: Annotated[str | None, typer.Option(help="A click log of yours; a simulated one when left out.")] = None,
    items: Items = None,
    users: Users = None,
    feedback: Feedback = None,
    until: Until = None,
) -> None:
    """The whole loop from nothing, on this machine; leaves the stack running."""
    from flows.cli.progress import progress_bar

    settings = apply_settings()
    with argument_errors():
        expect_files(log, items, users, feedback)
        end = optional_instant(until)
        _quieten_prefect()
        from features.ingest.log_files import Files
        from flows.backtest.run import BacktestConfig
        from flows.cli import demo as demonstration

        config = None
        if log is not None:
            config = BacktestConfig(Files(log, items, users, feedback), until=end)
        elif items or users or feedback or until:
            raise BadArgument("--items, --users, --feedback and --until go with a --log")
        with progress_bar() as bar:
            done = demonstration.run(
                settings,
                surface,
                config,
                now=datetime.now(UTC),
                report=bar.print,
                progress=lambda stage: bar.show(stage.name, stage.done, stage.total),
            )
    ranked = done.ranked
    print()
    show(done.report.summary())
    asked = "" if ranked.query is None else f" and the query “{ranked.query}”"
    print(f"\nVersion {ranked.version} ranks for user {ranked.user}{asked}, who then clicks item {ranked.clicked}:")
    before = {item.item_id: f"{place} {item.score:.3f}" for place, item in enumerate(ranked.before, 1)}
    print(f"  {'before':<8} {'after':<8} item")
    for place, item in enumerate(ranked.after, 1):
        name = ranked.texts.get(item.item_id)
        named = item.item_id if name is None else f"{item.item_id}  {name}"
        print(f"  {before.get(item.item_id, ''):<8} {f'{place} {item.score:.3f}':<8} {named}")
    print("\nLook around:")
    for page in done.pages:
        print(f"  {page.what:<42} {page.address}")
    print(f"\nSign in to the desk as {done.guest.name}, with the password {done.guest.password}")
    print("Stop it with: make down")


def show(summary: "Summary") -> None:
    """A backtest's findings for people: a sentence, a table, and what became of the updates."""
    from rich.console import Console

    from flows.backtest.findings import headline
    from flows.backtest.summary import OUTCOMES
    from flows.backtest.table import render_table

    console = Console()
    console.print(headline(summary))
    console.print()
    console.print(render_table(summary))
    counts = ", ".join(f"{count} {outcome}" for outcome in OUTCOMES if (count := summary.count(outcome)))
    console.print(f"{len(summary.updates)} updates: {counts}. {summary.seconds:.0f} seconds in all.")


def _quieten_prefect() -> None:
    """Warnings only, on the terminal: a command that runs a hundred updates shows a progress bar. Call it before
    Prefect's import."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
