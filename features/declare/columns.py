"""The columns that a surface declares: what each is, and whether it belongs to the request, the item or the user.

    Id("device")                            # of the request, under this name in the log
    Id("section", of="item")
    Number("price", of="item")
    Tags("genres", of="item", column="categories")
    Text("title", of="item")

A value is looked for where the impression was logged, by that name; then, of an item or a user, in what the log knows
of it (:mod:`features.log.entities`). So a price that changes is best given with each impression.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from features.declare.expected import expect_text
from features.identity.names import name_fault

Owner = Literal["request", "item", "user"]

TAKEN = ("user", "item", "stage", "activity", "pause")
"""Ids that every surface has: who, what, and three that are made from the user's state."""

REMEMBERED = re.compile(r"last(\d*)_(.+)", re.DOTALL)
"""Names of what the user's state remembers (:func:`features.declare.families.last`)."""


@dataclass(frozen=True)
class _Column:
    name: str
    """What families, views and pages call it."""

    of: Owner = "request"
    """Whose it is. Of the request: it is the same for all candidates."""

    column: str = ""
    """Its name in logs and in requests, where that is another."""

    def __post_init__(self) -> None:
        kind = type(self).__name__
        expect_text(f"{kind}({self.name!r})", "name", self.name)
        expect_text(f"{kind}({self.name!r})", "column", self.column)
        for what, name in (("name", self.name), ("column", self.column or self.name)):
            fault = name_fault(name)
            if fault is not None:
                raise ValueError(f"{kind}({self.name!r}): the {what} {name!r} {fault}")
        if self.name in TAKEN or REMEMBERED.fullmatch(self.name):
            raise ValueError(
                f"{kind}({self.name!r}): {', '.join(TAKEN)} and names that begin with last_ are taken;"
                f' call it otherwise: {kind}("log_{self.name}", column="{self.name}")'
            )
        if self.of not in get_args(Owner):
            raise ValueError(f"{kind}({self.name!r}): of={self.of!r} must be one of {', '.join(get_args(Owner))}")
        if not self.column:
            object.__setattr__(self, "column", self.name)


@dataclass(frozen=True)
class Id(_Column):
    """Any scalar, compared as text (:mod:`features.identity.canonical`): a country, a section, a price band."""


@dataclass(frozen=True)
class Number(_Column):
    """A number that the model reads as such, as float32; one that is missing is known to be missing."""


@dataclass(frozen=True)
class _Bag(_Column):
    most: int = 8
    """Values that count; what is beyond is passed over."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most not in range(1, 65):
            raise ValueError(f"{type(self).__name__}({self.name!r}): most={self.most!r} must be 1 to 64")


@dataclass(frozen=True)
class Tags(_Bag):
    """A list of ids without order, such as genres; one that is there twice counts once."""

    separator: str | None = None
    """In a text that is no list: what stands between them, as in ``Drama|Comedy``. None: the text is one id."""


@dataclass(frozen=True)
class Text(_Bag):
    """A text, of which the first so many different words are ids."""


Column = Id | Number | Tags | Text
