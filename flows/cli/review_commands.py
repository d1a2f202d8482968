"""Decisions from the command line, ``millrace rollback``, ``release`` and ``decide``; ``flows/cli/main.py`` registers
them.

Whoever has a shell here has the database too, so these want no password: the record carries the name of the
operating system's user, or the one given with ``--as``, and that it was the command line.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.arguments import BadArgument, SurfaceName, apply_settings, find_surface

if TYPE_CHECKING:
    from monitoring.records.review import Decided

Why = Annotated[str, typer.Option("--why", help="The reason, for whoever reads the record later.")]
As = Annotated[str | None, typer.Option("--as", help="Who decides; the operating system's user when left out.")]
Update = Annotated[int, typer.Argument(help="Number of the update whose challenger waits.")]

decide = typer.Typer(help="Approve or reject a challenger that waits for a person.", no_args_is_help=True)


def rollback(
    surface: SurfaceName,
    why: Why,
    to: Annotated[str | None, typer.Option(help="Version to go back to; the one before when left out.")] = None,
    as_: As = None,
) -> None:
    """Serve an older version again, at once; updates go on from it."""
    from flows.review.rollback import rollback as roll_back
    from infra.postgres.connections import connect
    from models.versions.registry import Registry
    from monitoring.records.review import expect_person

    find_surface(surface)
    person = expect_person(person_of(as_))
    settings = apply_settings()
    with connect(settings.database, autocommit=True) as connection:
        registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
        _print(roll_back(connection, registry, surface, to=to, person=person, reason=why, through="command line"))


def release(surface: SurfaceName, why: Why, as_: As = None) -> None:
    """Let a surface that is held for a person go on with its updates."""
    from flows.review.decisions import Decisions
    from flows.taken_up import running

    find_surface(surface)
    settings = apply_settings()
    decisions = Decisions(settings, partial(running, settings))
    _print(decisions.release(surface, person=person_of(as_), reason=why, through="command line"))


@decide.command()
def approve(update: Update, why: Why, as_: As = None) -> None:
    """Take the challenger of an update into service, if it still holds up: it is measured again first."""
    _decide("approve", update, why, as_)


@decide.command()
def reject(update: Update, why: Why, as_: As = None) -> None:
    """Turn the challenger of an update down; the champion stays."""
    _decide("reject", update, why, as_)


def _decide(act: Literal["approve", "reject"], update: int, why: str, as_: str | None) -> None:
    """On the newest evidence: who decides here has seen the candidate elsewhere, or trusts what is measured now."""
    from datetime import UTC, datetime

    from flows.review.decisions import Decisions
    from flows.taken_up import running
    from infra.postgres.connections import connect
    from monitoring.records import review

    settings = apply_settings()
    with connect(settings.database, autocommit=True) as connection:
        candidate = review.candidate(connection, update)
        if candidate is None or candidate.latest is None:
            waiting = review.waiting(connection, review.surfaces(connection), datetime.now(UTC))
            numbers = ", ".join(str(one.update_id) for one in waiting) or "none"
            raise review.Refused(f"update {update} has no challenger to decide on; waiting: {numbers}")
    decisions = Decisions(settings, partial(running, settings))
    take = decisions.approve if act == "approve" else decisions.reject
    checksum = candidate.latest.checksum
    _print(
        take(candidate.surface, update, person=person_of(as_), reason=why, checksum=checksum, through="command line")
    )


def person_of(name: str | None) -> str:
    """Who decides: the name given, or the operating system's user."""
    import getpass

    try:
        return name or getpass.getuser()
    except (KeyError, OSError) as error:  # a number that the system has no name for, as in some containers
        raise BadArgument("the system has no name for you; give one with --as NAME") from error


def _print(decided: "Decided") -> None:
    typer.echo(decided.sentence)
