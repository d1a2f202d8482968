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
from features.declare.families import Features
from features.identity.keys import Keys, combine_after, combine_columns, key_of

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

    ids: Keys  # (N, K)
    history: Keys  # (N, L)
    sections: Keys  # (N, L) of the items of the history
    time: Float  # (N,) not falling
    tick: NDArray[np.int64]  # (N,) not falling
    wanted: Bool  # (N,) to be read
    click: Float  # (N,) what is added to clicks
    shown: Float  # (N,) what is added to impressions
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


def fold_families(declared: Features, counters: Mapping[str, Counters], rows: FamilyRows) -> Float16:
    """Fold every family over the rows that add; dense values (W, D) of the rows that are wanted, in their order.

    A row's values do not depend on the parts: no tick is cut in two.
    """
    dense = np.empty((int(np.count_nonzero(rows.wanted)), len(declared.schema.dense)), dtype=np.float16)
    done = 0
    for part in rows.parts():
        count = int(np.count_nonzero(part.wanted))
        _fold_part(declared, counters, part, dense[done : done + count])
        done += count
    return dense


def _fold_part(declared: Features, counters: Mapping[str, Counters], rows: FamilyRows, dense: Float16) -> None:
    """Fold every family over the rows that add, and put the values of those wanted into ``dense`` (W, D)."""
    wanted, adds = _chosen(rows.wanted), _chosen(rows.adds)
    at, read_tick = rows.time[wanted], rows.tick[wanted]
    add_time, add_tick, click, shown = rows.time[adds], rows.tick[adds], rows.click[adds], rows.shown[adds]
    rates: dict[str | None, Rates] = {None: Rates.all_of(declared.base_rate, len(at))}
    wholes: dict[str, Float] = {}
    columns: list[Float16] = []
    for family, own in zip(declared.families, _keys_of_families(declared, rows), strict=True):
        sums, times = fold(
            counters[family.name],
            Reads(own[wanted], at, read_tick),
            Adds(own[adds], add_time, add_tick, click, shown),
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
    own: dict[tuple[str, ...], Keys] = {(): np.full(len(rows.ids), EVERYTHING, dtype=np.int64)}
    pairs: dict[tuple[bool, tuple[str, ...]], Keys] = {}
    for family in declared.families:
        key, count = family.key, family.last_items or family.last_sections
        if key not in own:
            own[key] = combine_columns(rows.ids, np.array([declared.ids.index(name) for name in key]))
        if not count:
            yield own[key][:, None]
            continue
        which = family.last_sections > 0, key
        if which not in pairs:
            alike = (f for f in declared.families if (f.last_sections > 0, f.key) == which)
            most = max(f.last_items or f.last_sections for f in alike)
            pairs[which] = combine_after(rows.sections if family.last_sections else rows.history, own[key], most)
        yield np.ascontiguousarray(pairs[which][:, :count])


def _chosen(rows: Bool) -> Bool | slice:
    """What to index by: a slice, where every row is chosen, copies nothing."""
    return slice(None) if rows.all() else rows
