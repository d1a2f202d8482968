"""``millrace key …``: which programs may call serving, and what impression ids are signed with. ``flows/cli/main.py``
registers them."""

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, find_surface, load_settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import psycopg

    from models.serving.access.keys import ApiKey

EVERY_SURFACE = "*"

app = typer.Typer(help="Which programs may call serving.", no_args_is_help=True, rich_markup_mode=None)


class ScopeName(StrEnum):
    """What a key may do; admin may all of it, and reads the metrics."""

    rank = "rank"
    feedback = "feedback"
    events = "events"
    items = "items"
    admin = "admin"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and . _ @ -")],
    scope: Annotated[list[ScopeName], typer.Option("--scope", help="What it may do; give it once for each.")],
    surface: Annotated[str, typer.Option(help="The surface it is for; by default every one.")] = EVERY_SURFACE,
    per_second: Annotated[
        float | None, typer.Option(help="Requests a second that each serving process takes; by default all.")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until it opens nothing any more; by default never.")
    ] = None,
) -> None:
    """Make a key and print it: the only time it is shown."""
    from models.serving.access import keys

    if surface != EVERY_SURFACE:
        find_surface(surface)
    now = datetime.now(UTC)
    with _database() as connection:
        made = keys.add(
            connection,
            name,
            scopes=[one.value for one in scope],
            surface=surface,
            requests_per_second=per_second,
            expires_at=None if expires_days is None else now + timedelta(days=expires_days),
            now=now,
        )
    typer.echo(made.text)
    typer.echo(
        f"This is the key {name} ({made.key.key_id}): {_means(made.key)}. It is shown once and kept nowhere;"
        f" programs send it as Authorization: Bearer mr_... To take it back: millrace key revoke {name}",
        err=True,
    )


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key, and what it may do; not the keys themselves, which are kept nowhere."""
    from models.serving.access import keys

    now = datetime.now(UTC)
    with _database() as connection:
        found = keys.every(connection)
    if as_json:
        typer.echo(json.dumps({"keys": [_as_json(key, now) for key in found]}, indent=2))
    elif found:
        _print_table(found, now)
    else:
        typer.echo("There is no key yet: millrace key add NAME --scope rank --scope feedback")


@app.command()
def revoke(name_or_id: Annotated[str, typer.Argument(help="A name or an id, as millrace key list has them.")]) -> None:
    """Take a key back: serving refuses it within seconds."""
    from models.serving.access import keys

    with _database() as connection:
        key = keys.revoke(connection, name_or_id, now=datetime.now(UTC))
    typer.echo(f"The key {key.name} ({key.key_id}) is revoked: serving refuses it within seconds.")


@app.command()
def rotate_signing() -> None:
    """Sign impression ids with another secret. Ids signed before stay good."""
    from models.serving.access import secrets
    from models.serving.access.signing import SETTLES_S

    with _database() as connection:
        secrets.rotate(connection, now=datetime.now(UTC).timestamp())
    typer.echo(
        f"There is another secret: it signs in {SETTLES_S:.0f} seconds, when every serving process knows it. Ids signed"
        " before stay good."
    )


def _database() -> "AbstractContextManager[psycopg.Connection]":
    from flows.cli.embedded import connected

    return connected(load_settings())


def _means(key: "ApiKey") -> str:
    """What a key may do, in words."""
    where = "every surface" if key.surface == EVERY_SURFACE else key.surface
    rate = "" if key.requests_per_second is None else f", {key.requests_per_second:g} requests a second"
    until = "" if key.expires_at is None else f", until {key.expires_at:%Y-%m-%d %H:%M} UTC"
    return f"{', '.join(key.scopes)} on {where}{rate}{until}"


def _as_json(key: "ApiKey", now: datetime) -> dict[str, object]:
    times = {name: at and at.isoformat() for name, at in vars(key).items() if name.endswith("_at")}
    shown = {name: value for name, value in vars(key).items() if name != "secret_sha256"}
    return {**shown, "scopes": list(key.scopes), "state": key.state(now), **times}


def _print_table(found: "list[ApiKey]", now: datetime) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "id", "state", "surface", "scopes", "a second", "expires", box=None, pad_edge=False)
    for key in found:
        state = key.state(now)
        colour = {"active": "green", "expired": "yellow"}.get(state, "red")
        table.add_row(
            *(key.name, key.key_id, f"[{colour}]{state}[/]", key.surface, ", ".join(key.scopes)),
            "" if key.requests_per_second is None else f"{key.requests_per_second:g}",
            "" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d}",
        )
    Console().print(table)
