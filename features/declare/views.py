"""A team's own feature views: tables that somebody else fills, joined to impressions point in time.

    LOYALTY = TeamView(
        name="loyalty",
        table="crm.loyalty",
        keys={"customer": "user_id", "country": "region"},
        values=("points", "is_member"),
        created="loaded_at",
        ttl=timedelta(days=30),
    )

Of the rows with an impression's keys, the one with the latest ``timestamp`` at or before the impression's time counts;
among equal times the one created last. A row is known from its ``timestamp`` on or, where the view has a ``created``
column, from the later of the two on. A row whose time, creation or one of whose keys is null counts for nothing.

The time of a row must be that from which its values could have been known. A row that sums up an impression's own
click, stamped with the impression's time, would hand the label to the learner.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infra.errors import MillraceError

if TYPE_CHECKING:
    import pyarrow as pa

IMPRESSION_KEYS = ("user_id", "item_id")
"""Columns of an impression that a view's key may be; any other name is a key of its context."""

RESERVED_VIEWS = ("served", "training", "user")
"""Names that the surface's own views and service have."""

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TABLE = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*)?")
_QUERY = re.compile(r"\s*\(*\s*(select|with|values|table)\b", re.IGNORECASE)


class ViewRefused(MillraceError):
    """A team's view that cannot be joined: the message names it, says what is wrong and what to do."""

    exit_code = 2


@dataclass(frozen=True)
class TeamView:
    """One table of values by key and time. Raises ValueError where the declaration contradicts itself."""

    name: str
    """Lower-case; its columns are called ``<name>__<value>``."""

    table: str
    """``table``, ``schema.table`` (names exactly as they are stored) or a SELECT."""

    keys: Mapping[str, str]
    """Each key column of the table, and what it is in an impression: ``user_id``, ``item_id`` or a key of the context.
    Integers, texts, and what is compared as its text: numeric, uuid, boolean, char, an enum. A text that is not the
    plain form of an integer matches no integer key."""

    values: tuple[str, ...]
    """Columns to join: truth values and numbers, dates and times as days since 1970, spans of time as seconds
    (:mod:`features.team_views.casts`)."""

    timestamp: str = "event_timestamp"
    """Column with the time from which a row counts; without a time zone it is taken for UTC."""

    created: str | None = None
    """Column with the time at which the row was written, if there is one: a row written late is not known before."""

    ttl: timedelta | None = None
    """A row older than this, at the time of the impression, no longer counts; just as old still does."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))
        object.__setattr__(self, "values", tuple(self.values))
        if not _NAME.fullmatch(self.name) or self.name in RESERVED_VIEWS or "__" in self.name:
            raise ValueError(
                f"view {self.name!r}: use a lower-case letter, then letters, digits or single underscores, 32 at most,"
                f" and none of {', '.join(RESERVED_VIEWS)}"
            )
        if not (_TABLE.fullmatch(self.table) or _QUERY.match(self.table)):
            raise ValueError(f"view {self.name}: table {self.table!r} is neither a table's name nor a SELECT")
        if not self.keys:
            raise ValueError(f"view {self.name}: keys is empty; name the table's key columns and what they are")
        if not self.values:
            raise ValueError(f"view {self.name}: values is empty; name the columns to join")
        columns = [*self.keys, *self.values, self.timestamp, *([self.created] if self.created else [])]
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice is not None:
            raise ValueError(
                f"view {self.name}: column {twice!r} is named twice among keys, values, timestamp, created"
            )
        long = next((column for column in columns if len(f"{self.name}__{column}".encode()) > 63), None)
        if long is not None:
            raise ValueError(f"view {self.name}: {self.name}__{long} is longer than the 63 bytes of a PostgreSQL name")
        if self.ttl is not None and self.ttl <= timedelta(0):
            raise ValueError(f"view {self.name}: ttl {self.ttl} must be longer than nothing; None for no limit")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the view's columns in a frame: ``<name>__<value>``."""
        return tuple(f"{self.name}__{value}" for value in self.values)

    @property
    def relation(self) -> str:
        """The table as SQL for FROM; an alias must follow."""
        if _TABLE.fullmatch(self.table):
            return ".".join(f'"{part}"' for part in self.table.split("."))
        return f"({self.table.strip().rstrip(';')})"

    @property
    def index(self) -> str:
        """The statement that makes the index which the joins want."""
        return self.index_on([*self.keys])

    def index_on(self, keys: Sequence[str]) -> str:
        """The same, with these columns or expressions for the keys."""
        table = self.table if _TABLE.fullmatch(self.table) else "<the table behind the query>"
        return create_index(table, keys, self.timestamp)


def create_index(table: str, keys: Sequence[str], timestamp: str) -> str:
    """The statement that makes the index for looking up the latest row of a key."""
    return f"CREATE INDEX ON {table} ({', '.join([*keys, timestamp])})"


def expect_apart(views: Sequence[TeamView]) -> None:
    """Raises ValueError where two views have one name."""
    names = [view.name for view in views]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"view {twice!r} is declared twice; give the second another name")


def view_columns(views: Sequence[TeamView]) -> tuple[str, ...]:
    """Names of the V columns of all views, in order, as frames carry them."""
    return tuple(column for view in views for column in view.columns)


def dense(frame: "pa.Table", views: Sequence[TeamView]) -> NDArray[np.float32]:
    """The views' columns of a frame of N rows as numbers (N, V); NaN where nothing is known.

    Raises ViewRefused where a column holds neither truth values nor numbers.
    """
    read = np.empty((frame.num_rows, len(view_columns(views))), dtype=np.float32)
    for place, name in enumerate(view_columns(views)):
        read[:, place] = _numbers(name, frame[name])
    return read


def _numbers(name: str, column: "pa.ChunkedArray") -> NDArray[np.float32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ViewRefused(f"column {name} is {kind}: a view's values must be truth values, integers or floats")
    filled: NDArray[np.float64] = pc.fill_null(column.cast(pa.float64(), safe=False), np.nan).to_numpy()
    return narrowed(filled)


def narrowed(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values of a view as the ranker reads them, offline as in serving. What is finite stays so: beyond float32 it is
    the largest number there, since infinity would be taken for a fault."""
    return np.where(np.isinf(values), values, np.clip(values, -LARGEST_FLOAT32, LARGEST_FLOAT32)).astype(np.float32)
