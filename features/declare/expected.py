"""What the fields of a declaration must be. A file that a team has written may hold anything in them."""

import math
import re
from collections.abc import Sequence
from datetime import timedelta

from features.identity.names import KIND_PATTERN


def is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_span(value: object, most: timedelta) -> bool:
    """Whether it is a timedelta of nothing to ``most``."""
    return isinstance(value, timedelta) and timedelta(0) <= value <= most


def is_kind(value: object) -> bool:
    """Whether it can name a kind of feedback."""
    return isinstance(value, str) and bool(re.fullmatch(KIND_PATTERN, value)) and value != "impression"


def expect_tuple(about: str, field: str, value: object, kind: type | tuple[type, ...], example: str) -> None:
    """Raises ValueError where it is no tuple (or list) of such values: ``("device")`` is a text."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{about}: {field} is {value!r}: write {example}; one alone wants a comma, (one,)")
    odd = next((each for each in value if not isinstance(each, kind)), None)
    if odd is not None:
        raise ValueError(f"{about}: {field} holds {odd!r}: write {example}")


def expect_seconds(about: str, field: str, value: object, example: str) -> None:
    """Raises ValueError where it is no tuple of rising numbers of seconds above 0."""
    expect_tuple(about, field, value, (int, float), example)
    assert isinstance(value, Sequence)
    odd = next((each for each in value if not (is_number(each) and each > 0)), None)
    if odd is not None:
        raise ValueError(f"{about}: {field} holds {odd!r}, which must be a number of seconds above 0: {example}")
    if list(value) != sorted(set(value)):
        raise ValueError(f"{about}: {field} {tuple(value)} must rise, each once: {example}")


def expect_text(about: str, field: str, value: object) -> None:
    """Raises ValueError where it is none."""
    if not isinstance(value, str):
        raise ValueError(f'{about}: {field} is {value!r}: write a text, "..."')
