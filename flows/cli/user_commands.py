"""``millrace user …``: who may look, decide and roll back. ``flows/cli/main.py`` registers them.

A password is prompted for, or read from standard input with ``--password-stdin``; it is never an argument, which others
can read.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, BadArgument, find_surface, load_settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import psycopg

    from monitoring.desk.accounts import Person

CODE_MINUTES = 15

app = typer.Typer(help="Who may look, decide and roll back.", no_args_is_help=True, rich_markup_mode=None)


class Role(StrEnum):
    """Each may do what those before it may."""

    viewer = "viewer"
    analyst = "analyst"
    operator = "operator"


Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and . _ @ -")]
AsRole = Annotated[Role, typer.Option("--role", help="A viewer reads, an analyst decides, an operator rolls back.")]
OnSurface = Annotated[str, typer.Option("--surface", help="A surface, or '*' for every one.")]
FromInput = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(name: Name, role: AsRole, surface: OnSurface, password_stdin: FromInput = False) -> None:
    """Make a user who holds a role on a surface."""
    from monitoring.desk import accounts
    from monitoring.desk.accounts import EVERY

    if surface != EVERY:
        find_surface(surface)
    with _database() as connection:
        if accounts.find(connection, name) is not None:
            raise BadArgument(f"there is already a user {name}; to grant more: millrace user grant {name} --role …")
        person = accounts.add_user(connection, name, _password(password_stdin), role=role.value, surface=surface)
        typer.echo(f"{_line(person)} They sign in at {load_settings().desk}")


@app.command()
def grant(name: Name, role: AsRole, surface: OnSurface) -> None:
    """Give a user a role on a surface, in place of the one they held there."""
    from monitoring.desk import accounts
    from monitoring.desk.accounts import EVERY

    if surface != EVERY:
        find_surface(surface)
    with _database() as connection:
        typer.echo(_line(accounts.grant(connection, name, role=role.value, surface=surface)))


@app.command()
def revoke(name: Name, surface: OnSurface) -> None:
    """Take away what a user held on a surface."""
    from monitoring.desk import accounts

    with _database() as connection:
        typer.echo(_line(accounts.revoke(connection, name, surface=surface)))


@app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Every user, and what they may do."""
    from monitoring.desk import accounts

    with _database() as connection:
        people = accounts.people(connection)
    if as_json:
        users = [{"name": p.name, "grants": dict(p.grants), "disabled": p.disabled_at is not None} for p in people]
        typer.echo(json.dumps({"users": users}, indent=2))
    elif people:
        for person in people:
            typer.echo(_line(person))
    else:
        typer.echo("There is nobody yet: millrace user add NAME --role analyst --surface SURFACE")


@app.command()
def password(name: Name, password_stdin: FromInput = False) -> None:
    """Set another password. Whoever is signed in by that name is signed out."""
    from monitoring.desk import accounts

    with _database() as connection:
        if accounts.find(connection, name) is None:
            raise BadArgument(f"there is no user {name!r}; millrace user list names them")
        accounts.set_password(connection, name, _password(password_stdin))
        typer.echo(f"{name} has another password, and is signed out everywhere.")


@app.command()
def disable(name: Name) -> None:
    """Let a user do nothing any more, at once. The records keep the name."""
    from monitoring.desk import accounts

    with _database() as connection:
        accounts.disable(connection, name, now=datetime.now(UTC))
        typer.echo(f"{name} is disabled. To undo that: millrace user enable {name}")


@app.command()
def enable(name: Name) -> None:
    """Undo disable."""
    from monitoring.desk import accounts

    with _database() as connection:
        accounts.enable(connection, name)
        typer.echo(f"{name} may sign in again.")


@app.command()
def code(
    name: Name,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long it is good.")] = CODE_MINUTES,
) -> None:
    """A review code, good once: it proves in Prefect's form, which knows no users, that the name is yours."""
    from monitoring.desk import accounts

    with _database() as connection:
        made = accounts.make_code(connection, name, datetime.now(UTC), timedelta(minutes=minutes))
        typer.echo(f"{made}  good once, for {minutes} minutes")


def _database() -> "AbstractContextManager[psycopg.Connection]":
    from flows.cli.embedded import connected

    return connected(load_settings())


def _password(from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise BadArgument(
            "there is no terminal to read a password from; give it on standard input, with --password-stdin"
        )
    given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return given


def _line(person: "Person") -> str:
    """A person and what they may do."""
    held = ", ".join(f"{role} on {surface}" for surface, role in sorted(person.grants.items())) or "no role"
    return f"{person.name}: {held}{' (disabled)' if person.disabled_at else ''}."
