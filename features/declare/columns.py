"""The columns that a surface declares: what each is, and whether it belongs to the request, the item or the user.

    Id("device")                            # of the request, under this name in the log
    Id("section", of="item")
    Number("price", of="item")
    Tags("genres", of="item", column="categories")
    Text("title", of="item")

A value is looked for where the impression was logged, by that name; then, of an item or a user, in what the log knows
of it (:mod:`features.log.entities`). So a price that changes is best given with each impression.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from features.identity.names import name_fault

Owner = Literal["request", "item", "user"]

TAKEN = ("user", "item", "stage", "activity", "pause")
"""Ids that every surface has: who, what, and three that are made from the user's state."""

STATE = "last_"
"""What begins so is remembered by the user's state (:func:`features.declare.families.last`)."""


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
        if not isinstance(self.name, str):
            raise ValueError(f"{kind}({self.name!r}): the name of a column is a text")
        for what, name in (("name", self.name), ("column", self.column or self.name)):
            fault = name_fault(name)
            if fault is not None:
                raise ValueError(f"{kind}({self.name!r}): the {what} {name!r} {fault}")
        if self.name in TAKEN or self.name.startswith(STATE):
            raise ValueError(
                f"{kind}({self.name!r}): {', '.join(TAKEN)} and names that begin with {STATE} are taken;"
                f' call it otherwise: {kind}("log_{self.name}", column="{self.name}")'
            )
        if self.of not in get_args(Owner):
            raise ValueError(f"{kind}({self.name!r}): of={self.of!r} must be one of {', '.join(get_args(Owner))}")
        if not self.column:
            object.__setattr__(self, "column", self.name)


@dataclass(frozen=True)
class Id(_Column):
    """Any scalar, compared as text (:mod:`features.identity.values`): a country, a section, a price band."""


@dataclass(frozen=True)
class Number(_Column):
    """A number that the model reads as such, as float32; one that is missing is known to be missing."""


@dataclass(frozen=True)
class _Bag(_Column):
    most: int = 8
    """Values that count; what is beyond is passed over."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.most, int) or not 1 <= self.most <= 64:
            raise ValueError(f"{type(self).__name__}({self.name!r}): most={self.most!r} must be 1 to 64")


@dataclass(frozen=True)
class Tags(_Bag):
    """A list of ids without order, such as genres; one that is there twice counts once."""


@dataclass(frozen=True)
class Text(_Bag):
    """A text, of which the first so many different words are ids."""


Column = Id | Number | Tags | Text
