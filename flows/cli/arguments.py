"""What commands take from a person: settings, options, a surface's name, times, lengths of time, files."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import MillraceError

if TYPE_CHECKING:
    from flows.surface import Surface
    from infra.settings import Settings

SurfaceName = Annotated[str, typer.Option("--surface", help="The surface, declared in a file of the folder surfaces.")]
LOG_HELP = "parquet, CSV, TSV or JSON lines, also as .gz or .zst; a file, a folder, 'a/*.csv', or postgresql://…?table="
Items = Annotated[str | None, typer.Option(help="Items: item_id and their columns. As the log, in any form.")]
Users = Annotated[str | None, typer.Option(help="Users: user_id and their columns.")]
Feedback = Annotated[str | None, typer.Option(help="Feedback: impression_id, kind, value, at.")]
Until = Annotated[str | None, typer.Option(help="Leave out what was shown after this time, UTC.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]

FIRST_YEAR, LAST_YEAR = 1970, 2999
"""Of the times that a person names: a log has none before, and sums of later ones might not fit a clock."""

LONGEST_DURATION = timedelta(days=36_525)
"""Of the lengths of time that a person names."""


class BadArgument(MillraceError):
    """An argument that cannot be used."""

    exit_code = 2


@contextmanager
def argument_errors() -> Iterator[None]:
    """A ValueError or a missing file in this block is the user's, and becomes a BadArgument."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise BadArgument(str(error)) from error


def load_settings() -> "Settings":
    """The settings from the environment; raises SettingsError naming each variable that cannot be used."""
    from pydantic import ValidationError

    from infra.errors import SettingsError
    from infra.settings import Settings
    from infra.stack.environment import clear_session

    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_wrong(wrong["loc"], wrong["input"], wrong["msg"]) for wrong in error.errors())
        ) from None  # the cause quotes the value
    clear_session(settings)
    return settings


def apply_settings() -> "Settings":
    """The settings, with every library pointed to what they name; before anything heavy is imported."""
    from infra.stack import environment

    settings = load_settings()
    environment.apply(settings)
    return settings


def _wrong(place: tuple[int | str, ...], value: object, message: str) -> str:
    """One setting that cannot be used, its password hidden."""
    plain = message.removeprefix("Value error, ")
    if not place:  # of several settings together: the message names them
        return plain
    # What cannot be read may hold a password anywhere.
    shown = "***" if "@" in str(value) else repr(str(value))
    return f"MILLRACE_{'_'.join(map(str, place)).upper()}={shown}: {plain}"


def duration(text: str) -> timedelta:
    """``90s``, ``10m``, ``1h``, ``1d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if match is None:
        raise BadArgument(f"{text!r} is no length of time; write 90s, 10m, 1h or 1d")
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if seconds > LONGEST_DURATION.total_seconds():
        raise BadArgument(f"{text!r} is longer than a hundred years; write 90s, 10m, 1h or 1d")
    return timedelta(seconds=seconds)


def instant(text: str) -> datetime:
    """A date or a time, UTC unless it names a zone."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise BadArgument(f"{text!r} is no time; write 2017-10-03 or 2017-10-03T12:00:00Z") from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise BadArgument(f"{text!r} is no time of an event; name one from {FIRST_YEAR} to {LAST_YEAR}")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def optional_instant(text: str | None) -> datetime | None:
    """The same of an option that may be left out."""
    return None if text is None else instant(text)


def expect_files(*logs: str | None) -> None:
    """Raises BadArgument for a path where nothing is, or nothing that can be read; addresses are not looked at."""
    for log in logs:
        if log is None or "://" in log:
            continue
        path = Path(log)
        if not path.exists() and any(mark in path.name for mark in "*?["):
            continue
        if not path.exists():
            raise BadArgument(f"{path} does not exist; give the path of a file or a folder")
        if not os.access(path, os.R_OK):
            raise BadArgument(f"{path} cannot be read by you; ask its owner, or copy it")


def find_surface(name: str) -> "Surface":
    """The surface of that name, of the team's folder or of the examples. Raises BadSurface."""
    from flows.surface_files import find

    return find(load_settings().surfaces, name).surface
