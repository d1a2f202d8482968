"""What a request for variants must look like: ``POST /v1/{surface}/variants``."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from features.identity.names import text_fault
from features.log.json_values import Context, TextId, json_schema

MOST_WORDINGS = 50
MOST_PROPOSED = 20

MOST_VARIANTS = 100
"""Of one thing."""

LONGEST_WORDING = 1024
"""Bytes in UTF-8."""

RESERVED = ("id", "expires_at", "withdrawn")
"""Fields of an item that are none of its columns."""


def wording_fault(wording: object) -> str | None:
    """Why it is no wording; None where it is one."""
    if not isinstance(wording, str):
        return "must be a text"
    if not wording.strip():
        return "must have a letter, a digit or a sign"
    return text_fault(wording, LONGEST_WORDING)


def _wording(value: object) -> str:
    fault = wording_fault(value)
    if fault is not None:
        raise ValueError(fault)
    return str(value)


def _different(wordings: Sequence[str]) -> Sequence[str]:
    if len(set(wordings)) < len(wordings):
        twice = next(one for one in wordings if wordings.count(one) > 1)
        raise ValueError(f"has {twice!r} twice: give each wording once")
    return wordings


Wording = Annotated[
    str,
    PlainValidator(_wording),
    json_schema({"type": "string", "minLength": 1, "maxLength": LONGEST_WORDING, "pattern": r"^[^\u0000]*$"}),
]


class VariantsBody(BaseModel):
    """``POST /v1/{surface}/variants``."""

    model_config = ConfigDict(extra="forbid")

    of: TextId
    """The thing that these are wordings of."""
    wordings: Annotated[
        list[Wording],
        Field(max_length=MOST_WORDINGS, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_different),
    ] = []
    values: Context = {}
    """Of each, the further columns of items, by the log's names."""
    propose: Annotated[int, Field(strict=True, ge=0, le=MOST_PROPOSED)] = 0
    """How many more the surface's own function is asked for."""
