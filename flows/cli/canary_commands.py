"""``millrace canary …``: how a canary stands, and a person's word on it. ``flows/cli/main.py`` registers them."""

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flows.cli.arguments import AsJson, apply_settings, find_surface
from flows.cli.review_commands import As, Why, person_of

if TYPE_CHECKING:
    from flows.review.decisions import Decisions
    from models.versions.canaries import CanaryRecord, Look

app = typer.Typer(help="Challengers on live traffic.", no_args_is_help=True, rich_markup_mode=None)

HERE: Final = "command line"

Surface = Annotated[str, typer.Argument(help="The surface, declared in a file of the folder surfaces.")]


@app.command()
def show(surface: Surface, as_json: AsJson = False) -> None:
    """The canary that runs on a surface, or the last that ran, with the newest look at it."""
    from infra.postgres.connections import connect
    from models.versions import canaries

    find_surface(surface)
    with connect(apply_settings().database, autocommit=True) as connection:
        newest = canaries.history(connection, surface, limit=1)
        looks = canaries.looks(connection, newest[0].canary_id) if newest else []
    if as_json:
        print(json.dumps({"canary": _as_json(newest[0], looks) if newest else None}))
    elif not newest:
        typer.echo(f"{surface} had no canary yet.")
    else:
        _print(newest[0], looks)


@app.command()
def promote(surface: Surface, why: Why, as_: As = None) -> None:
    """Take the canary into service now, unless it has shown to be bad."""
    typer.echo(_decisions(surface).promote_canary(surface, person=person_of(as_), reason=why, through=HERE).sentence)


@app.command()
def stop(surface: Surface, why: Why, as_: As = None) -> None:
    """End the canary; the champion stays, and updates go on."""
    typer.echo(_decisions(surface).stop_canary(surface, person=person_of(as_), reason=why, through=HERE).sentence)


def _decisions(surface: str) -> "Decisions":
    from flows.review.decisions import Decisions
    from flows.taken_up import running

    find_surface(surface)
    settings = apply_settings()
    return Decisions(settings, partial(running, settings))


def _print(canary: "CanaryRecord", looks: "list[Look]") -> None:
    ended = "" if canary.outcome is None else f", and was {canary.outcome} at {canary.ended_at:%Y-%m-%d %H:%M} UTC"
    typer.echo(f"{canary.sentence}{ended}.")
    if canary.reason:
        typer.echo(canary.reason)
    if looks:
        typer.echo(f"{len(looks):,} looks; the last at {looks[-1].looked_at:%Y-%m-%d %H:%M:%S} UTC: {looks[-1].word}")
        for name, value in looks[-1].point.items():
            typer.echo(f"  {name:<18} {'–' if value is None else value}")


def _as_json(canary: "CanaryRecord", looks: "list[Look]") -> dict[str, object]:
    return {
        "version": canary.version,
        "champion": canary.champion_version,
        "update": canary.update_id,
        "began": canary.began_at.isoformat(),
        "settings": canary.settings,
        "outcome": canary.outcome,
        "reason": canary.reason,
        "ended": canary.ended_at.isoformat() if canary.ended_at else None,
        "looks": [{"at": look.looked_at.isoformat(), "word": look.word, **look.point} for look in looks],
    }
