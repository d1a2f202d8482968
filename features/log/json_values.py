"""What a value of an event must be in JSON to be stored: types for pydantic's models. Whatever passes here the log can
take; all else is refused with the field's name."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, PlainValidator, WithJsonSchema

from features.identity.canonical import EXACT, canonical
from features.identity.names import KIND_PATTERN, LONGEST_ID, name_fault, text_fault
from features.log.event_checks import (
    EARLIEST,
    KIND_MUST,
    KIND_MUST_NOT,
    LARGEST_CONTEXT,
    LARGEST_INTEGER,
    LONGEST_CONTEXT,
    MOST_NAMES,
    SMALLEST_INTEGER,
    size_fault,
)

LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""What is stamped later is taken for it: some time zones are beyond the last year there."""


def storable_text(value: str, longest: int = LONGEST_ID) -> str:
    """The text itself. Raises ValueError where it cannot be stored."""
    fault = text_fault(value, longest)
    if fault is not None:
        raise ValueError(fault)
    return value


def storable_id(value: object) -> str | int:
    """An id as sent. Raises ValueError where it is none."""
    if isinstance(value, float) and value == value // 1 and abs(value) <= EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a text or a whole number")
    if isinstance(value, int):
        return _integer(value)
    if not value:
        raise ValueError("must not be empty")
    return storable_text(value)


def context_key(value: object) -> str:
    """The name of a value of a context. Raises ValueError where it cannot be one."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    fault = name_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return value


def context_value(value: object) -> str | None:
    """The canonical text of a value of a context. Raises ValueError where it cannot be one."""
    if isinstance(value, list):
        return storable_text(canonical([_scalar(each) for each in value]) or "", LONGEST_CONTEXT)
    return _scalar(value)


def small_context(values: dict[str, str | None]) -> dict[str, str | None]:
    """The context itself. Raises ValueError where it is too large as a whole."""
    fault = size_fault(values, LARGEST_CONTEXT)
    if fault is not None:
        raise ValueError(fault)
    return values


def _scalar(value: object) -> str | None:
    if isinstance(value, bool) or value is None:
        return canonical(value)
    if isinstance(value, int):
        return canonical(_integer(value))
    if isinstance(value, float):
        return canonical(_finite(value))
    if isinstance(value, str):
        return storable_text(value, LONGEST_CONTEXT)
    raise ValueError("must be a text, a number, true, false or null, or a list of them")


def _integer(value: int) -> int:
    if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise ValueError("must fit in 64 bits; send a longer number as text")
    return value


def _finite(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError("must be a finite number")


def _text_id(value: object) -> str:
    return str(storable_id(value))


def _kind(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(KIND_PATTERN, value):
        raise ValueError(KIND_MUST)
    if value == "impression":
        raise ValueError(KIND_MUST_NOT)
    return value


def _since_1970(at: datetime) -> datetime:
    if at < EARLIEST:
        raise ValueError("is before 1970")
    return at.astimezone(UTC) if at < LATEST else LATEST


Form = Mapping[str, object]
"""A JSON schema."""


def json_schema(*forms: Form) -> WithJsonSchema:
    """What an API's description says of a value that a function of ours checks: one of these."""
    return WithJsonSchema({"anyOf": [*forms]})


def _text_form(longest: int, **more: object) -> Form:
    # The bound is one of bytes, which JSON Schema cannot say: so many letters are never too few.
    return {"type": "string", "maxLength": longest, "pattern": r"^[^\u0000]*$", **more}


ID_FORMS: tuple[Form, ...] = (
    _text_form(LONGEST_ID, minLength=1),
    {"type": "integer", "minimum": SMALLEST_INTEGER, "maximum": LARGEST_INTEGER},
)
NAME_FORM: Form = _text_form(LONGEST_ID, minLength=1)
_SCALAR_FORMS: tuple[Form, ...] = (
    _text_form(LONGEST_CONTEXT),
    *({"type": name} for name in ("number", "boolean", "null")),
)
CONTEXT_FORMS: tuple[Form, ...] = (*_SCALAR_FORMS, {"type": "array", "items": {"anyOf": [*_SCALAR_FORMS]}})

Id = Annotated[str | int, PlainValidator(storable_id), json_schema(*ID_FORMS)]
"""An id as sent; its canonical form is text, so 7 and "7" are the same one."""

TextId = Annotated[str, PlainValidator(_text_id), json_schema(*ID_FORMS)]
ContextKey = Annotated[str, PlainValidator(context_key), json_schema(NAME_FORM)]
ContextValue = Annotated[str | None, PlainValidator(context_value), json_schema(*CONTEXT_FORMS)]
"""As its canonical text."""

Context = Annotated[
    dict[ContextKey, ContextValue],
    Field(max_length=MOST_NAMES, json_schema_extra={"propertyNames": NAME_FORM}),
    AfterValidator(small_context),
]
Number = Annotated[float, PlainValidator(_finite), json_schema({"type": "number"})]
Kind = Annotated[
    str,
    PlainValidator(_kind),
    json_schema({"type": "string", "pattern": f"^{KIND_PATTERN}$", "not": {"const": "impression"}}),
]
Instant = Annotated[AwareDatetime, AfterValidator(_since_1970)]
"""A time with its zone, as UTC."""
