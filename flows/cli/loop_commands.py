"""Commands of the loop, ``millrace import``, ``update`` and ``export``; registered by ``flows/cli/main.py``."""

import json
from collections.abc import Sequence
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
    Users,
    apply_settings,
    argument_errors,
    expect_files,
    find_surface,
    load_settings,
    optional_instant,
)
from infra.errors import MillraceError

if TYPE_CHECKING:
    from features.log.append_result import AppendResult


MOST_REASONS = 3


class NothingUsable(MillraceError):
    """A log of which no row could be taken."""


class UpdateFailed(MillraceError):
    """An update ended without a verdict."""


def import_command(
    log: Annotated[str, typer.Argument(help=f"Impressions or events: {LOG_HELP}")],
    surface: SurfaceName,
    items: Items = None,
    users: Users = None,
    feedback: Feedback = None,
    as_json: AsJson = False,
) -> None:
    """Take a click log into the event log. Rows that cannot be used go to dead letters; the rest is imported once."""
    from features.ingest.checking import FileTimes
    from features.ingest.importing import import_log
    from features.ingest.log_files import Files
    from flows.cli.embedded import running_database
    from flows.cli.progress import progress_bar

    settings = load_settings()
    declared = find_surface(surface)
    expect_files(log, items, users, feedback)
    files = Files(log, items, users, feedback)
    with argument_errors(), running_database(settings), progress_bar("import", quiet=as_json) as bar:
        result = import_log(
            settings.database,
            surface,
            files,
            times=FileTimes(datetime.now(UTC)),
            label=declared.features.label.kind,
            mapping=declared.log,
            declared=declared.features.columns,
            progress=bar.show,
        )
    kinds = declared.features.kinds
    notes = [*result.notes, *result.tally.sentences(surface, kinds, ())]
    if as_json:
        counts = {name: getattr(result, name) for name in ("imported", "already_there", "dead_letters", "reasons")}
        print(json.dumps({**counts, "kinds": result.tally.by_kind(kinds), "notes": notes}))
    else:
        _show_import(result, kinds, notes)
    if result.dead_letters and not result.imported + result.already_there:
        raise NothingUsable(f"{files.name}: no row could be used; {_commonest(result)}")


def _show_import(result: "AppendResult", kinds: Sequence[str], notes: Sequence[str]) -> None:
    print(
        f"{result.imported:,} events imported, {result.already_there:,} were already there,"
        f" {result.dead_letters:,} dead letters."
    )
    if result.tally.feedback:
        notes = [result.tally.summary(kinds), *notes]
    for note in notes:
        print(f"{note[:1].upper()}{note[1:]}.")
    if result.dead_letters:
        print(f"Why: {_commonest(result)}.")
        print("Which: table dead_letters, columns source, line, reason and event.")


def _commonest(result: "AppendResult") -> str:
    """The commonest reasons against rows, and what helps against one of them."""
    most = sorted(result.reasons.items(), key=lambda one: (-one[1], one[0]))
    said = "; ".join(f"{count:,} times {reason}" for reason, count in most[:MOST_REASONS])
    more = "" if len(most) <= MOST_REASONS else f"; and {len(most) - MOST_REASONS} other reasons"
    naive = any("is naive" in reason for reason in result.reasons)
    return (
        said
        + more
        + ('; say which zone times are in: log=Log(time_zone="UTC") in the surface\'s file' if naive else "")
    )


def update(
    surface: SurfaceName,
    as_of: Annotated[str | None, typer.Option(help="Update as of this time, UTC; now when left out.")] = None,
) -> None:
    """Run one update now: claim, check, join, test, fine-tune, judge, decide, publish."""
    from flows.cli.embedded import running_database
    from flows.ledger import expect_time
    from infra.postgres.connections import connect
    from infra.stack import environment
    from infra.stack.home import prepare_home

    settings = load_settings()
    with argument_errors():
        find_surface(surface)
        moment = optional_instant(as_of)
        prepare_home(settings)
        with running_database(settings):
            if moment is not None:  # before Prefect starts, which would show a traceback of it
                with connect(settings.database) as connection:
                    expect_time(connection, surface, moment, datetime.now(UTC))
            environment.apply(settings)
            from prefect.exceptions import FailedRun

            from flows.cli.prefect_api import prefect_api
            from flows.update import update as flow
            from models.versions.mlflow_client import prepare

            with prefect_api(settings):
                prepare(settings.mlflow_tracking, settings.database)
                try:
                    print(flow(surface, moment))
                except FailedRun as failed:
                    raise UpdateFailed(str(failed)) from failed


def export(
    version: Annotated[str, typer.Argument(help="Number of the version in MLflow.")],
    to: Annotated[Path, typer.Option(help="Folder to be made.")],
    surface: Annotated[str, typer.Option(help="The surface whose version it is.")] = "feed",
) -> None:
    """Write a version in full, to a folder that stands alone: `mlflow models serve -m FOLDER` serves it."""
    from flows.cli.embedded import running_database
    from infra.postgres.connections import connect
    from models.versions import promotions
    from models.versions.files import materialise
    from models.versions.folder import DamagedModel
    from models.versions.registry import Registry

    find_surface(surface)
    settings = apply_settings()
    registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    with running_database(settings), connect(settings.database) as connection, registry.answering():
        promotion = promotions.promoted(connection, surface, version)  # which is right, whatever became of MLflow's
        files = promotion.artifact_uri if promotion else registry.version(surface, version).artifact_uri
        try:
            materialise(files, to, registry.tracking_uri)
        except (FileExistsError, FileNotFoundError, DamagedModel) as error:
            raise BadArgument(f"version {version} of {surface}: {error}") from error
    typer.echo(f"Version {version} of {surface} is in {to}, in full.")
