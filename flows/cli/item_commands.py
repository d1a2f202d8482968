"""``millrace items …``: what is shown no more, put back, or looked at. ``flows/cli/main.py`` registers them."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, BadArgument, find_surface, load_settings

if TYPE_CHECKING:
    from features.log.items import ItemLife

app = typer.Typer(help="Items: taken out, put back, looked at.", no_args_is_help=True, rich_markup_mode=None)

Surface = Annotated[str, typer.Argument(help="The surface, declared in a file of the folder surfaces.")]
Ids = Annotated[list[str], typer.Argument(help="Items, as the log calls them.", metavar="ITEM...")]


@app.command()
def withdraw(surface: Surface, items: Ids) -> None:
    """Take items out: serving shows them no more within two seconds."""
    changed = _say(surface, items, withdrawn=True)
    typer.echo(f"{_counted(len(items))} withdrawn from {surface}, {changed} that were not so before.")


@app.command("put-back")
def put_back(surface: Surface, items: Ids) -> None:
    """Put withdrawn items back: serving may show them again within two seconds."""
    changed = _say(surface, items, withdrawn=False)
    typer.echo(f"{_counted(len(items))} not withdrawn from {surface}, {changed} that were so before.")


@app.command()
def show(surface: Surface, items: Ids, as_json: AsJson = False) -> None:
    """What the log has of items."""
    from features.log.items import lives
    from flows.cli.embedded import connected

    find_surface(surface)
    with connected(load_settings()) as connection:
        found = lives(connection, surface, items)
    now = datetime.now(UTC)
    if as_json:
        typer.echo(json.dumps({"items": [_as_json(item, now) for item in found]}, indent=2))
    else:
        for item in found:
            typer.echo(f"{item.item_id}: {_state(item, now)}, arrived {item.arrived_at:%Y-%m-%d %H:%M} UTC")
            for name, value in sorted(item.attributes.items()):
                typer.echo(f"  {name}: {value}")
    unknown = sorted(set(items) - {item.item_id for item in found})
    if unknown:
        raise BadArgument(f"the log has no items of {surface} called {', '.join(unknown)}")


def _say(surface: str, items: list[str], *, withdrawn: bool) -> int:
    """How many items changed."""
    from features.identity.names import LONGEST_ID, text_fault
    from features.log.items import ItemChange, staged, store
    from flows.cli.embedded import connected

    find_surface(surface)
    for item in items:
        fault = text_fault(item, LONGEST_ID) if item else "must not be empty"
        if fault is not None:
            raise BadArgument(f"the item {item!r} {fault}")
    changes = [ItemChange(item, withdrawn=withdrawn) for item in items]
    with connected(load_settings()) as connection, connection.transaction():
        return store(connection, surface, staged(changes), datetime.now(UTC))


def _counted(count: int) -> str:
    return "1 item is" if count == 1 else f"{count} items are"


def _state(item: "ItemLife", now: datetime) -> str:
    if item.withdrawn_at is not None:
        return f"withdrawn since {item.withdrawn_at:%Y-%m-%d %H:%M} UTC"
    if item.expires_at is None:
        return "alive"
    ends = f"{item.expires_at:%Y-%m-%d %H:%M} UTC"
    return f"expired at {ends}" if item.expires_at <= now else f"alive until {ends}"


def _as_json(item: "ItemLife", now: datetime) -> dict[str, object]:
    times = {name: at and at.isoformat() for name, at in vars(item).items() if name.endswith("_at")}
    alive = item.withdrawn_at is None and (item.expires_at is None or item.expires_at > now)
    return {"item_id": item.item_id, "alive": alive, "attributes": item.attributes, **times}
