"""Every family of a surface folded over the same events, and what the wanted ones of them read.

dense = fold_families(FEATURES, counters, rows)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.counters.float16 import side_by_side, to_float16
from features.counters.fold import Adds, Reads, fold
from features.counters.rates import Rates, read_family, read_user
from features.counters.table import Counters
from features.declare.features import Features
from features.identity.key import key_of
from features.identity.keys import Keys, combine_after, combine_columns

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Float16 = NDArray[np.float16]

PART = 65_536
"""Events folded at once, family by family: many enough for a family's counters to be read again while the processor's
cache holds them, few enough for what is made of the events to stay there too."""

EVERYTHING = key_of("all", "")


@dataclass(frozen=True)
class FamilyRows:
    """N events with all that any family is keyed by or reads."""

    ids: Keys  # (N, K + B)
    history: Keys  # (N, L)
    remembered: Keys  # (N, R, L) of the columns beside them
    time: Float  # (N,) not falling
    tick: NDArray[np.int64]  # (N,) not falling
    wanted: Bool  # (N,) to be read
    kind: NDArray[np.int64]  # (N,) which label's feedback it is; -1 for an impression, and for what counts for nothing
    click: Float  # (N,) what it adds to the clicks of its kind
    shown: Float  # (N,) what it adds to impressions
    numbers: Float  # (N, 6) of the user
    hour_at: Float  # (N,) time from which the hour of the day is taken

    @property
    def adds(self) -> Bool:
        """Rows (N,) that add anything."""
        return np.asarray((self.click > 0) | (self.shown > 0))

    def parts(self) -> Iterator["FamilyRows"]:
        """The rows in parts of about ``PART`` rows. No tick is cut in two, unless nothing is added."""
        count = len(self.time)
        if count <= PART:
            yield self
            return
        cuts = np.arange(PART, count, PART)
        if self.adds.any():
            cuts = np.unique(np.searchsorted(self.tick, self.tick[cuts]))
        for first, end in pairwise([0, *cuts.tolist(), count]):
            if end > first:
                yield FamilyRows(*(getattr(self, name)[first:end] for name in FamilyRows.__dataclass_fields__))


def fold_families(
    declared: Features, counters: Mapping[str, Counters], rows: FamilyRows, aside: Mapping[str, Counters] | None = None
) -> Float16:
    """Fold every family over the rows that add; dense values (W, D) of the rows that are wanted, in their order.

    A row's values do not depend on the parts: no tick is cut in two. ``aside``: what is folded into in place of
    ``counters``, of which they get copies as far as rows touch them.
    """
    dense = np.empty((int(np.count_nonzero(rows.wanted)), len(declared.schema.dense)), dtype=np.float16)
    done = 0
    for part in rows.parts():
        count = int(np.count_nonzero(part.wanted))
        _fold_part(declared, counters, part, aside, dense[done : done + count])
        done += count
    return dense


def _fold_part(
    declared: Features,
    counters: Mapping[str, Counters],
    rows: FamilyRows,
    aside: Mapping[str, Counters] | None,
    dense: Float16,
) -> None:
    """Fold every family over the rows that add, and put the values of those wanted into ``dense`` (W, D)."""
    wanted = _chosen(rows.wanted)
    added = {kind: _added(rows, place) for place, kind in enumerate(declared.kinds)}
    at, read_tick = rows.time[wanted], rows.tick[wanted]
    rates: dict[str | None, Rates] = {None: Rates.all_of(declared.base_rate, len(at))}
    wholes: dict[str, Float] = {}
    columns: list[Float16] = []
    for family, own in zip(declared.counted, _keys_of_families(declared, rows), strict=True):
        adds, of_kind = added[family.kind or declared.label.kind]
        table = counters[family.name]
        if aside is not None:
            aside[family.name].bring(table, own)
            table = aside[family.name]
        sums, times = fold(
            table,
            Reads(own[wanted], at, read_tick),
            Adds(own[adds], *of_kind),
            per_key=family.naive_bayes,
        )
        if not len(at):
            continue
        whole = None if family.share_of is None else wholes[family.share_of]
        values, rates[family.name] = read_family(family, sums, times, at, rates[family.prior], whole)
        wholes[family.name] = sums
        columns.append(to_float16(values))
    if len(at):
        user = read_user(rows.numbers[wanted], at, rows.hour_at[wanted], declared.base_rate)
        side_by_side([*columns, to_float16(user)], dense)


def _keys_of_families(declared: Features, rows: FamilyRows) -> Iterator[Keys]:
    """The keys (N, M) that each family counts by, in their order."""
    own: dict[tuple[str, ...], Keys] = {(): np.full((len(rows.ids), 1), EVERYTHING, dtype=np.int64)}
    pairs: dict[tuple[str, tuple[str, ...]], Keys] = {}
    for family in declared.counted:
        if family.key not in own:
            own[family.key] = _combined(declared, family.key, rows.ids)
        if family.recent is None:
            yield own[family.key]
            continue
        column = family.recent.column
        if (column, family.key) not in pairs:
            counts = (
                f.recent.count
                for f in declared.counted
                if f.recent and (f.recent.column, f.key) == (column, family.key)
            )
            values = rows.history if column == "item" else rows.remembered[:, declared.remembered.index(column)]
            pairs[column, family.key] = combine_after(values, own[family.key][:, 0], max(counts))
        yield np.ascontiguousarray(pairs[column, family.key][:, : family.recent.count])


def _combined(declared: Features, key: tuple[str, ...], ids: Keys) -> Keys:
    """The keys (N, M) of these columns together."""
    return np.stack([combine_columns(ids, each) for each in key_columns(declared, key)], axis=1)


def key_columns(declared: Features, key: tuple[str, ...]) -> Keys:
    """The places among the ids (M, len(key)) that make each key: one, or as many as a bag among them has values."""
    slots = next((declared.slots[name] for name in key if name in declared.slots), None)
    values = range(1) if slots is None else range(slots.start, slots.stop)
    return np.array(
        [[value if name in declared.slots else declared.ids.index(name) for name in key] for value in values],
        dtype=np.int64,
    )


def _added(rows: FamilyRows, kind: int) -> tuple[Bool | slice, tuple[Float, NDArray[np.int64], Float, Float]]:
    """Which rows add to the families of a kind; and their time, tick, clicks and impressions."""
    click = np.where(rows.kind == kind, rows.click, 0.0)
    adds = _chosen((click > 0) | (rows.shown > 0))
    return adds, (rows.time[adds], rows.tick[adds], click[adds], rows.shown[adds])


def _chosen(rows: Bool) -> Bool | slice:
    """What to index by: a slice, where every row is chosen, copies nothing."""
    return slice(None) if rows.all() else rows
