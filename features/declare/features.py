"""The features of a surface: its columns, its labels, and the counters made of them; checked as a whole.

Features(columns=(Id("device"), Id("section", of="item")), labels=(Label("click"),))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from features.declare.columns import Column, Id, Number, Tags, Text
from features.declare.expected import expect_seconds, expect_tuple, is_number
from features.declare.families import ACTIVITY, MINUTE, PAUSE, STAGE, Family, remembered_by
from features.declare.labels import Label
from features.declare.schema import RowSchema
from features.declare.standard import standard

USER_COLUMNS = (
    "user_since_click",
    "user_since_seen",
    "user_session_age",
    "user_session_clicks",
    "user_clicks",
    "user_shown",
    "user_click_rate",
    "hour_sin",
    "hour_cos",
)

MOST_HISTORY = 64
MOST_COLUMNS = 4096


@dataclass(frozen=True)
class Features:
    """The features of an impression of one surface."""

    columns: tuple[Column, ...] = ()
    """What requests, items and users bring."""

    labels: tuple[Label, ...] = (Label("click"),)
    """What the model predicts; the first is what counts as a click of a user."""

    families: tuple[Family, ...] | None = None
    """Counters. None: those of :func:`features.declare.standard.standard` on the columns, at ``base_rate``."""

    history: int = 10
    """How many of the user's last clicks are remembered."""

    base_rate: float = 0.1
    """Click rate of a surface that has seen nothing."""

    tick: float = 2.0
    """Seconds; a counter is read as of the tick before the row's own."""

    session_gap: float = 1800.0
    """Seconds of silence that end a session."""

    pauses: tuple[float, ...] = (10.0, 30.0, MINUTE, 5 * MINUTE, 30 * MINUTE)
    """Seconds since the user's last click at which the id ``pause`` changes, rising."""

    def __post_init__(self) -> None:
        self._expect_fields()
        self._expect_columns()
        self._expect_labels()
        known: dict[str, Family] = {}
        for family in self.counted:
            self._expect_family(family, known)
            known[family.name] = family
        if len(self.schema.dense) > MOST_COLUMNS:
            raise ValueError(f"families make {len(self.schema.dense)} numbers, more than {MOST_COLUMNS}: count less")

    def _expect_fields(self) -> None:
        expect_tuple("Features", "columns", self.columns, (Id, Number, Tags, Text), '(Id("device"),)')
        expect_tuple("Features", "labels", self.labels, Label, '(Label("click"),)')
        if self.families is not None:
            expect_tuple("Features", "families", self.families, Family, "standard(columns)")
        if self.pauses:
            expect_seconds("Features", "pauses", self.pauses, "(10.0, 60.0)")
        for name in ("columns", "labels", "pauses", *(("families",) if self.families is not None else ())):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.history not in range(1, MOST_HISTORY + 1):
            raise ValueError(f"Features: history {self.history!r} must be 1 to {MOST_HISTORY}")
        if not is_number(self.base_rate) or not 0 < self.base_rate < 1:
            raise ValueError(f"Features: base_rate {self.base_rate!r} must be a share of impressions, between 0 and 1")
        for field, value in (("tick", self.tick), ("session_gap", self.session_gap)):
            if not is_number(value) or value <= 0:
                raise ValueError(f"Features: {field} {value!r} must be a number of seconds above 0")

    def _expect_columns(self) -> None:
        names = [column.name for column in self.columns]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"columns declares {twice!r} twice; give the second another name:"
                f' Id("item_{twice}", of="item", column="{twice}")'
            )

    def _expect_labels(self) -> None:
        if not self.labels:
            raise ValueError('labels is empty: name at least one kind of feedback to predict, (Label("click"),)')
        twice = next((kind for kind in self.kinds if self.kinds.count(kind) > 1), None)
        if twice is not None:
            raise ValueError(f"labels has {twice!r} twice: a kind of feedback is one label")
        if not any(label.weight for label in self.labels):
            raise ValueError("labels have no weight at all: at least one must be above 0, or nothing ranks")

    def _expect_family(self, family: Family, known: Mapping[str, Family]) -> None:
        about = f"family {family.name}"
        if family.name in known:
            raise ValueError(f"{about} is declared twice")
        for name in family.key:
            if name not in self.slots and (name not in self.ids or not self._can_be_remembered(name)):
                raise ValueError(f"{about}: key has no id column {name!r}; there are {', '.join(self._keys)}")
        bags = [name for name in family.key if name in self.slots]
        if len(bags) + (family.recent is not None) > 1:
            raise ValueError(f"{about}: the key has several values of {bags} and recent={family.recent}; only one may")
        if bags and (family.ages or family.share_of is not None):
            raise ValueError(f"{about}: ages and share_of need one key for each impression, and {bags[0]!r} has many")
        if family.naive_bayes and not bags and family.recent is None:
            raise ValueError(f"{about}: naive_bayes needs several keys: recent=..., or a bag in the key")
        if family.recent is not None:
            if family.recent.column != "item" and family.recent.column not in self._scalars:
                raise ValueError(f"{about}: recent has no id column {family.recent.column!r}; {self._choose}")
            if family.recent.count > self.history:
                raise ValueError(f"{about}: {family.recent} exceeds history {self.history}")
        if family.kind is not None and family.kind not in self.kinds:
            raise ValueError(
                f"{about}: kind {family.kind!r} is no label; there are {', '.join(self.kinds)}:"
                f' declare Label("{family.kind}", weight=0) to count it without ranking by it'
            )
        for field, other in (("prior", family.prior), ("share_of", family.share_of)):
            if other is None:
                continue
            if other not in known:
                raise ValueError(f"{about}: {field} {other!r} must be declared before it; {', '.join(known)} are")
            if known[other].naive_bayes:
                raise ValueError(f"{about}: {field} {other!r} has no rate of its own: it is naive_bayes")
        if family.share_of is not None and known[family.share_of].half_lives != family.half_lives:
            raise ValueError(f"{about}: share_of {family.share_of!r} must have the same half_lives {family.half_lives}")

    def _can_be_remembered(self, name: str) -> bool:
        """Whether the user's state has the id, or it is none of the state's."""
        if name not in self.of_state:
            return True
        column, nth = self.of_state[name]
        return column in self._scalars and 1 <= nth <= self.history

    @cached_property
    def _scalars(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if isinstance(column, Id))

    @property
    def _choose(self) -> str:
        return f"there are {', '.join(('item', *self._scalars))}"

    @property
    def _keys(self) -> tuple[str, ...]:
        known = (name for name in self.ids if name not in self.of_state)
        return (*known, *self.slots, *(f'last("{name}")' for name in self._scalars))

    @cached_property
    def counted(self) -> tuple[Family, ...]:
        """The counter families, declared or derived."""
        return standard(self.columns, rate=self.base_rate) if self.families is None else self.families

    @cached_property
    def contexts(self) -> tuple[Id, ...]:
        """Ids that the request or the user brings."""
        return tuple(column for column in self.columns if isinstance(column, Id) and column.of != "item")

    @cached_property
    def of_items(self) -> tuple[Id, ...]:
        """Ids that the item brings."""
        return tuple(column for column in self.columns if isinstance(column, Id) and column.of == "item")

    @cached_property
    def bags(self) -> tuple[Tags | Text, ...]:
        return tuple(column for column in self.columns if isinstance(column, Tags | Text))

    @cached_property
    def numbers(self) -> tuple[Number, ...]:
        return tuple(column for column in self.columns if isinstance(column, Number))

    @cached_property
    def remembered(self) -> tuple[str, ...]:
        """Columns whose values the user's state keeps beside the items of the last clicks: those that a family's key
        or ``recent`` names."""
        used = {column for column, _ in self.of_state.values()}
        used |= {family.recent.column for family in self.counted if family.recent is not None}
        return tuple(name for name in self._scalars if name in used)

    @cached_property
    def of_state(self) -> Mapping[str, tuple[str, int]]:
        """Ids that the user's state remembers: each with its column, and of which click."""
        named = {name: remembered_by(name) for family in self.counted for name in family.key}
        found = sorted((remembered, name) for name, remembered in named.items() if remembered is not None)
        return {name: remembered for remembered, name in found}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Names of the K ids of an impression: who, what, the columns, and those of the user's state."""
        return ("user", "item", *self._scalars, STAGE, ACTIVITY, PAUSE, *self.of_state)

    @cached_property
    def slots(self) -> Mapping[str, slice]:
        """Where the values of each bag stand, behind the K ids."""
        found, first = dict[str, slice](), len(self.ids)
        for bag in self.bags:
            found[bag.name] = slice(first, first + bag.most)
            first += bag.most
        return found

    @property
    def width(self) -> int:
        """K ids, and behind them the values of the bags."""
        return len(self.ids) + sum(bag.most for bag in self.bags)

    @property
    def label(self) -> Label:
        """The first: what counts as a click of a user."""
        return self.labels[0]

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of feedback that are labels."""
        return tuple(label.kind for label in self.labels)

    @property
    def attribution(self) -> float:
        """Seconds until the labels of an impression are all known. The watermark trails by it."""
        return max(label.within for label in self.labels).total_seconds()

    @cached_property
    def schema(self) -> RowSchema:
        dense = [column for family in self.counted for column in family.columns]
        return RowSchema(
            definition=repr(self),
            dense=(*dense, *USER_COLUMNS),
            numbers=tuple(column.name for column in self.numbers),
            ids=self.ids,
            bags=self.width - len(self.ids),
            history=self.history,
            meanings=self.meanings,
        )

    @cached_property
    def meanings(self) -> tuple[str, ...]:
        """A checksum for each dense column, each number, each id and the history; equal in two declarations where
        values agree."""
        # What the user's own state, and the ids made of it, depend on.
        shared = (self.label, self.base_rate, self.tick, self.session_gap, self.pauses, self.history)
        of_columns = {column.name: column for column in self.columns}
        of_labels = {label.kind: label for label in self.labels}
        families = {family.name: family for family in self.counted}

        def of_id(name: str) -> object:
            return (name, of_columns.get(self.of_state[name][0] if name in self.of_state else name))

        def meaning(family: Family) -> tuple[object, ...]:
            others = (family.prior, family.share_of)
            recent = None if family.recent is None else of_id(family.recent.column)
            return (
                repr(family),
                of_labels.get(family.kind or self.label.kind),
                *map(of_id, family.key),
                recent,
                *(meaning(families[name]) for name in others if name is not None),
            )

        parts = [
            *((column, meaning(family)) for family in self.counted for column in family.columns),
            *USER_COLUMNS,
            *((number.name, number) for number in self.numbers),
            *map(of_id, self.ids),
            "history",
        ]
        return tuple(sha256(repr((shared, part)).encode()).hexdigest()[:12] for part in parts)
