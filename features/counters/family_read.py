"""Every family of a surface read for the candidates of one request, in one compiled call.

    reader = FamilyReader(FEATURES)
    dense = reader.read(counters, ids, user, at)

Each value is made by the functions that the fold makes it by (:mod:`features.counters.family_fold`), so it has the same
bits.
"""

from collections.abc import Mapping
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from features.compiled import numba
from features.counters.family_fold import EVERYTHING, key_columns
from features.counters.float16 import place_columns, round_to_float16
from features.counters.fold import read_all
from features.counters.rates import Rates, family_values, nearest_lives, user_values
from features.counters.table import COUNTER_TIMES, Counters
from features.counters.users import UserReads
from features.declare.families import Family
from features.declare.features import USER_COLUMNS, Features
from features.identity.keys import Keys, key_alone, key_of_pair, key_together

Float16 = NDArray[np.float16]

NONE = -1
"""Place of a family, or of a list of the user's state, that there is not."""

USER_WIDTH = len(USER_COLUMNS)

ITEM = 1
"""Place of the item among the ids."""

PLAN = np.dtype(
    [
        *((name, np.int64) for name in ("first_id", "key_ids", "keys", "recent", "first_life", "lives")),
        *((name, np.int64) for name in ("first_sum", "sums", "first_column", "columns", "prior", "share_of")),
        *((name, np.int64) for name in ("naive_bayes", "trend", "sizes", "ages", "of_item")),
        ("pseudo_counts", np.float64),
    ]
)
"""How a family is read, and where in arrays of all families its part begins.

A row has ``keys`` keys, each of ``key_ids`` ids; with ``recent`` only one, and after each value of that list of the
user's state. ``prior`` and ``share_of`` are places of families. One that is not ``of_item`` is the same of all items
that differ in nothing but their id, as those of one section may.
"""

SLOTS, RECORDS = numba.types.uint64[::1], numba.types.float64[:, ::1]


class FamilyReader:
    """Reads the counters of one surface. What it holds is made of the declaration, once."""

    def __init__(self, declared: Features) -> None:
        self._declared = declared
        self._plan, ids = _plan(declared)
        self._ids = np.array(ids, dtype=np.int64)
        self._half_lives = np.array([life for family in declared.counted for life in family.half_lives])
        known: dict[str | None, Family] = {family.name: family for family in declared.counted}
        base = Rates.all_of(declared.base_rate, 1)
        nearest = (
            nearest_lives(f.half_lives, base.half_lives if f.prior is None else known[f.prior].half_lives)
            for f in declared.counted
        )
        self._nearest = np.fromiter(chain.from_iterable(nearest), dtype=np.int64)
        self._base = np.array([base.values[0, 0], base.log_odds[0, 0]])
        self._slots, self._records = _no_tables()
        self._listed: list[NDArray[np.float64]] = []
        """What is in ``_records``: a family that has grown has other arrays, and all are listed anew."""

    def __reduce__(self) -> tuple[type["FamilyReader"], tuple[Features]]:
        """A copy lists the tables of its own engine."""
        return FamilyReader, (self._declared,)

    def read(self, counters: Mapping[str, Counters], ids: Keys, user: UserReads, at: float) -> Float16:
        """Dense values (N, D) of ids (N, K + B) for one user, as of all that is folded, at ``at``."""
        self._list([counters[family.name] for family in self._declared.counted])
        dense = np.empty((len(ids), len(self._declared.schema.dense)), dtype=np.float16)
        _read(
            self._plan,
            self._ids,
            self._half_lives,
            self._nearest,
            self._base,
            self._slots,
            self._records,
            ids,
            np.concatenate([user.items, user.remembered[0]]),
            user.numbers,
            at,
            dense.view(np.uint16),
        )
        return dense

    def _list(self, counters: list[Counters]) -> None:
        if len(self._listed) == len(counters) and all(
            table.records is listed for table, listed in zip(counters, self._listed, strict=True)
        ):
            return
        self._slots, self._records = _no_tables()
        for table in counters:
            _add_table(self._slots, self._records, table.slots, table.records)
        self._listed = [table.records for table in counters]


def _plan(declared: Features) -> tuple[NDArray[np.void], list[int]]:
    """How each family is read, and the places of the ids of all their keys."""
    plan, ids = np.zeros(len(declared.counted), dtype=PLAN), list[int]()
    places = {family.name: place for place, family in enumerate(declared.counted)}
    lists = {"item": 0} | {name: 1 + place for place, name in enumerate(declared.remembered)}
    first_life = first_sum = first_column = 0
    for row, family in zip(plan, declared.counted, strict=True):
        own, lives = key_columns(declared, family.key), len(family.half_lives)
        keys = len(own) if family.recent is None else family.recent.count
        sums = 2 * lives * (keys if family.naive_bayes else 1)
        row["first_id"], row["key_ids"], row["keys"] = len(ids), len(family.key), keys
        row["first_life"], row["lives"] = first_life, lives
        row["first_sum"], row["sums"] = first_sum, sums
        row["first_column"], row["columns"] = first_column, len(family.columns)
        row["recent"] = NONE if family.recent is None else lists[family.recent.column]
        row["prior"] = NONE if family.prior is None else places[family.prior]
        row["share_of"] = NONE if family.share_of is None else places[family.share_of]
        for name in ("naive_bayes", "trend", "sizes", "ages", "pseudo_counts"):
            row[name] = getattr(family, name)
        others = [places[name] for name in (family.prior, family.share_of) if name is not None]
        row["of_item"] = "item" in family.key or plan["of_item"][others].any()
        ids += own.ravel().tolist()
        first_life, first_sum, first_column = first_life + lives, first_sum + sums, first_column + len(family.columns)
    return plan, ids


@numba.njit(cache=True)
def _no_tables():  # type: ignore[no-untyped-def]
    """Two lists that compiled code reads: the slots and the records of each family."""
    return numba.typed.List.empty_list(SLOTS), numba.typed.List.empty_list(RECORDS)


@numba.njit(cache=True)
def _add_table(all_slots, all_records, slots, records):  # type: ignore[no-untyped-def]
    all_slots.append(slots)
    all_records.append(records)


@numba.njit(cache=True)
def _read(  # type: ignore[no-untyped-def]
    plan, key_ids, half_lives, nearest, base, slots, records, ids, recent, numbers, at, dense
):
    alike, firsts = _alike(ids)
    ids_of_firsts, recent_keys = ids[firsts], _keys_of_values(recent)
    all_sums = np.empty(len(ids) * (plan[-1].first_sum + plan[-1].sums if len(plan) else 0))
    all_rates, all_log_odds = np.empty(len(ids) * len(half_lives)), np.empty(len(ids) * len(half_lives))
    for place in range(len(plan)):
        family = plan[place]
        first, end = family.first_life, family.first_life + family.lives
        rows = ids if family.of_item else ids_of_firsts
        count = len(rows)
        now, times = np.full(count, at), np.empty((count, COUNTER_TIMES))
        keys = np.empty((count, family.keys), dtype=np.int64)
        _fill_keys(family, key_ids, rows, recent_keys, keys)
        sums = _of(all_sums, family.first_sum, family.sums, len(ids), count)
        read_all(slots[place], records[place], half_lives[first:end], keys, now, sums, times)
        whole = sums
        if family.share_of != NONE:
            other = plan[family.share_of]
            whole = _seen(all_sums, other.first_sum, other.sums, other, family, alike, len(firsts))
        if family.prior != NONE:
            prior = plan[family.prior]
            prior_rates = _seen(all_rates, prior.first_life, prior.lives, prior, family, alike, len(firsts))
            prior_log_odds = _seen(all_log_odds, prior.first_life, prior.lives, prior, family, alike, len(firsts))
        else:
            prior_rates, prior_log_odds = np.full((count, 1), base[0]), np.full((count, 1), base[1])
        values = np.empty((count, family.columns))
        family_values(
            family.pseudo_counts,
            nearest[first:end],
            (family.naive_bayes, family.trend, family.sizes, family.share_of != NONE, family.ages),
            sums,
            whole,
            times,
            now,
            prior_rates,
            prior_log_odds,
            _of(all_rates, first, family.lives, len(ids), count),
            _of(all_log_odds, first, family.lives, len(ids), count),
            values,
        )
        rounded = np.empty((count, family.columns), dtype=np.uint16)
        round_to_float16(values.reshape(-1), rounded.reshape(-1))
        place_columns(rounded if family.of_item else rounded[alike], dense, family.first_column)
    user, rounded = np.empty((1, USER_WIDTH)), np.empty((1, USER_WIDTH), dtype=np.uint16)
    now = np.full(1, at)
    user_values(numbers, now, now, base[0], user)
    round_to_float16(user.reshape(-1), rounded.reshape(-1))
    place_columns(rounded[np.zeros(len(ids), dtype=np.int64)], dense, dense.shape[1] - USER_WIDTH)


@numba.njit(cache=True)
def _alike(ids):  # type: ignore[no-untyped-def]
    """Of rows (N,) the place of each one's values but the item's id among those that differ (G,), and the first row of
    each of these."""
    alike, firsts = np.empty(len(ids), dtype=np.int64), np.empty(len(ids), dtype=np.int64)
    size = 64
    while size < 2 * len(ids):
        size *= 2
    table, found = np.full(size, -1), 0
    for i in range(len(ids)):
        hashed = np.uint64(0)
        for column in range(ids.shape[1]):
            if column != ITEM:
                hashed = (hashed ^ np.uint64(ids[i, column])) * np.uint64(0x9E3779B97F4A7C15)
        slot = np.int64(hashed >> np.uint64(32)) & (size - 1)
        while table[slot] >= 0 and not _same_but_item(ids, i, firsts[table[slot]]):
            slot = (slot + 1) & (size - 1)
        if table[slot] < 0:
            table[slot] = found
            firsts[found] = i
            found += 1
        alike[i] = table[slot]
    return alike, firsts[:found]


@numba.njit(cache=True)
def _same_but_item(ids, i, j):  # type: ignore[no-untyped-def]
    same = True
    for column in range(ids.shape[1]):
        same = same and (column == ITEM or ids[i, column] == ids[j, column])
    return same


@numba.njit(cache=True)
def _of(families, first, width, most, count):  # type: ignore[no-untyped-def]
    """The values (count, width) of one family in the memory of all, which has room for ``most`` rows."""
    return families[first * most : first * most + width * count].reshape(count, width)


@numba.njit(cache=True)
def _seen(families, first, width, other, family, alike, differing):  # type: ignore[no-untyped-def]
    """The values of another family for each of this one's rows."""
    found = _of(families, first, width, len(alike), len(alike) if other.of_item else differing)
    return found[alike] if family.of_item and not other.of_item else found


@numba.njit(cache=True)
def _keys_of_values(values):  # type: ignore[no-untyped-def]
    keys = np.empty(values.shape, dtype=np.int64)
    for row in range(values.shape[0]):
        for h in range(values.shape[1]):
            keys[row, h] = key_alone(values[row, h])
    return keys


@numba.njit(cache=True)
def _fill_keys(family, key_ids, ids, recent_keys, keys):  # type: ignore[no-untyped-def]
    width = family.key_ids
    for i in range(len(ids)):
        for m in range(1 if family.recent != NONE else family.keys):
            first = family.first_id + m * width
            keys[i, m] = EVERYTHING if width == 0 else key_together(ids, i, key_ids[first : first + width])
        if family.recent != NONE:
            own = keys[i, 0]
            for m in range(family.keys):
                keys[i, m] = key_of_pair(recent_keys[family.recent, m], own)
