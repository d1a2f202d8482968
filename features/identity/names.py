"""What a text must be to serve as an id, or to name a surface, a column or a kind of feedback."""

import re
from collections.abc import Sequence

LONGEST_ID = 256
"""Bytes of an id in UTF-8, and of the name of a context column or an attribute."""

KIND_PATTERN = r"[a-z][a-z0-9_]{0,63}"
"""Names of kinds of feedback."""

SURFACE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def surface_name_fault(name: object) -> str | None:
    """What a surface is to be called instead; None where the name will do: it becomes part of those of tables, views
    and pages."""
    if not isinstance(name, str) or not SURFACE.fullmatch(name) or len(name) > 32:
        return "use a lower-case letter, then such letters and digits with single _ between them, 32 at most"
    return None


def name_fault(name: str) -> str | None:
    """Why a context column or an attribute cannot be called so; None where it can. A name is a name: dots, brackets,
    quotes, spaces and letters of any script mean nothing in it."""
    if not name:
        return "must not be empty"
    return text_fault(name, LONGEST_ID)


def text_fault(text: str, longest: int) -> str | None:
    """Why a text cannot be stored; None where it can."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "must be valid Unicode"
    if size > longest:
        return f"must have at most {longest} bytes in UTF-8, has {size}"
    return "must not hold a NUL character" if "\0" in text else None


def expect_names(names: Sequence[str], what: str) -> None:
    """Raises ValueError where one of these cannot name a context column or an attribute."""
    for name in names:
        fault = name_fault(name)
        if fault is not None:
            raise ValueError(f"{what}: the column name {name!r} {fault}")
