"""Decisions from the command line, ``millrace rollback``, ``release`` and ``decide``; ``flows/cli/main.py`` registers
them.

Whoever has a shell here has the database too, so these ask for no password: the record carries the name of the
operating system's user, or the one given with ``--as``, and that it was the command line.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import MillraceError

if TYPE_CHECKING:
    from flows.surface import Surface as Declaration
    from infra.settings import Settings
    from monitoring.records.review import Decided

Surface = Annotated[str, typer.Option("--surface", help="The surface, a file of flows/surfaces.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for whoever reads the record later.")]
As = Annotated[str | None, typer.Option("--as", help="Who decides; the operating system's user when left out.")]
Update = Annotated[int, typer.Argument(help="Number of the update whose challenger waits.")]


class UnknownSurface(MillraceError):
    """A surface that is not declared."""

    exit_code = 2


class NoName(MillraceError):
    """Nobody knows who decides."""

    exit_code = 2


decide = typer.Typer(help="Approve or reject a challenger that waits for a person.", no_args_is_help=True)


def rollback(
    surface: Surface,
    why: Why,
    to: Annotated[str | None, typer.Option(help="Version to go back to; the one before when left out.")] = None,
    as_: As = None,
) -> None:
    """Serve an older version again, at once; updates learn on from it."""
    from flows.review.rollback import rollback as roll_back
    from infra.postgres.connections import connect
    from models.versions.registry import Registry
    from monitoring.records.review import expect_person

    _find()(surface)
    person = expect_person(_who(as_))
    with _running() as settings, connect(settings.database, autocommit=True) as connection:
        registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
        _say(roll_back(connection, registry, surface, to=to, person=person, reason=why, through="command line"))


def release(surface: Surface, why: Why, as_: As = None) -> None:
    """Let a surface that is held for a person go on with its updates."""
    from flows.review.decisions import Decisions

    _find()(surface)
    with _running() as settings:
        decisions = Decisions(settings, _find())
        _say(decisions.release(surface, person=_who(as_), reason=why, through="command line"))


@decide.command()
def approve(update: Update, why: Why, as_: As = None) -> None:
    """Take the challenger of an update into service, if it still holds up: it is measured again first."""
    _decide("approve", update, why, as_)


@decide.command()
def reject(update: Update, why: Why, as_: As = None) -> None:
    """Turn the challenger of an update down; the champion stays."""
    _decide("reject", update, why, as_)


def _decide(word: str, update: int, why: str, as_: str | None) -> None:
    """On the newest evidence: who decides here has seen the candidate elsewhere, or trusts what is measured now."""
    from datetime import UTC, datetime

    from flows.review.decisions import Decisions
    from infra.postgres.connections import connect
    from monitoring.records import review

    with _running() as settings:
        with connect(settings.database, autocommit=True) as connection:
            candidate = review.candidate(connection, update)
            if candidate is None or candidate.latest is None:
                waits = review.waiting(connection, review.surfaces(connection), datetime.now(UTC))
                numbers = ", ".join(str(one.update_id) for one in waits) or "none"
                raise review.Refused(f"update {update} has no challenger to decide on; waiting: {numbers}")
        decisions = Decisions(settings, _find())
        take = decisions.approve if word == "approve" else decisions.reject
        checksum = candidate.latest.checksum
        _say(take(candidate.surface, update, person=_who(as_), reason=why, checksum=checksum, through="command line"))


@contextmanager
def _running() -> "Iterator[Settings]":
    """The settings, with every library pointed to what they name."""
    from flows.cli.arguments import load_settings
    from infra.stack import environment

    settings = load_settings()
    environment.apply(settings)
    yield settings


def _find() -> "Callable[[str], Declaration]":
    """Of a surface's name; one that is not declared is the user's mistake."""
    from flows.surfaces import find

    def declared(name: str) -> "Declaration":
        try:
            return find(name)
        except ValueError as error:
            raise UnknownSurface(str(error)) from error

    return declared


def _who(name: str | None) -> str:
    """Who decides: as told, or the operating system's user."""
    import getpass

    try:
        return name or getpass.getuser()
    except (KeyError, OSError) as error:  # a number that the system has no name for, as in some containers
        raise NoName("the system has no name for you; say who decides with --as NAME") from error


def _say(decided: "Decided") -> None:
    typer.echo(decided.sentence)
