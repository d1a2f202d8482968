"""The compiled passes over a request's candidates, before and between the matrix products; each writes into its last
argument. ``x`` [N, W] is [z ; e ; u], as in ``models.networks.deep_cross``."""

from __future__ import annotations

import numpy as np

from features.compiled import numba
from models.examples import EMPTY
from models.serving.scoring.row_addresses import floats, row_address

REORDERED = {"reassoc", "contract", "nsz"}
"""What a compiler may do to a sum: take it eight at a time."""


@numba.njit(cache=True, nogil=True)
def relu(value):  # type: ignore[no-untyped-def]
    """Not a number stays so, as in torch: a model that is damaged must show it."""
    return np.float32(0) if value < 0 else value


@numba.njit(cache=True, nogil=True)
def standardised(dense, numbers, x):  # type: ignore[no-untyped-def]
    """z [N, D] of the numbers [N, D], as ``models.networks.layers.Standardise``."""
    clip = numbers.clip
    for i in range(len(dense)):
        for j in range(len(numbers.mean)):
            value = (dense[i, j] - numbers.mean[j]) * numbers.scale[j]
            value = np.float32(0) if np.isnan(value) else value
            x[i, j] = min(max(value, -clip), clip) * numbers.share[j]


@numba.njit(cache=True, nogil=True)
def looked_up(ids, columns, tables, first, x, logits):  # type: ignore[no-untyped-def]
    """e, from column ``first`` of x on, and as logits [N, kinds] the sum of the wide weights, of ids [N, tables] in the
    ``columns`` that are read. What all candidates share is looked up once."""
    width, kinds = len(tables.empty), logits.shape[1]
    rows = np.empty(len(columns), np.int64)
    logits[:] = 0
    for i in range(len(ids)):
        at = first
        for c in range(len(columns)):
            table = columns[c]
            if i == 0 or ids[i, table] != ids[i - 1, table]:
                rows[c] = row_address(tables, table, ids[i, table])
            row = floats(rows[c], width)
            for k in range(kinds):
                logits[i, k] += row[k]
            for k in range(kinds, width):
                x[i, at] = row[k]
                at += 1


@numba.njit(cache=True, nogil=True)
def same_as_before(history, i):  # type: ignore[no-untyped-def]
    """Whether candidate ``i`` has the last items of the one before it."""
    same = i > 0
    for s in range(history.shape[1]):
        same = same and history[i, s] == history[i - 1, s]
    return same


@numba.njit(cache=True, nogil=True)
def embedded(history, i, tables, table, items):  # type: ignore[no-untyped-def]
    """The embeddings [L, E] of candidate ``i``'s last items."""
    slots, embedding = items.shape
    width = len(tables.empty)
    for s in range(slots):
        row = floats(row_address(tables, table, history[i, s]), width)
        for e in range(embedding):
            items[s, e] = row[width - embedding + e]


@numba.njit(cache=True, nogil=True)
def averaged(history, tables, table, first, embedding, x):  # type: ignore[no-untyped-def]
    """u, from column ``first`` on, as the mean of the last items [N, L]."""
    slots = history.shape[1]
    items = np.empty((slots, embedding), np.float32)
    for i in range(len(history)):
        if not same_as_before(history, i):
            embedded(history, i, tables, table, items)
        present = 0
        for s in range(slots):
            present += history[i, s] != EMPTY
        for e in range(embedding):
            total = np.float32(0)
            for s in range(slots):
                total += items[s, e]
            x[i, first + e] = total / np.float32(max(present, 1))


@numba.njit(cache=True, nogil=True)
def hidden_units(attention, items, constant, of_candidate):  # type: ignore[no-untyped-def]
    """Of the hidden units A h + b + (B + C diag(h)) c of last items h [L, E] and a candidate c: the ``constant``
    [units L], and what multiplies c [E, units L]."""
    slots, embedding = items.shape
    for k in range(len(attention.bias)):
        for s in range(slots):
            total = attention.bias[k]
            for e in range(embedding):
                total += attention.of_history[k, e] * items[s, e]
                of_candidate[e, k * slots + s] = attention.of_candidate[k, e] + attention.of_both[k, e] * items[s, e]
            constant[k * slots + s] = total


@numba.njit(cache=True, nogil=True)
def attended(history, tables, table, attention, candidate, first, x):  # type: ignore[no-untyped-def]
    """u, from column ``first`` on, as ``models.networks.layers.Attention`` makes it of the last items [N, L] and the
    candidate's embedding, which begins at column ``candidate``. What all candidates share is computed once."""
    units, embedding, slots = len(attention.bias), attention.of_both.shape[1], history.shape[1]
    items = np.empty((slots, embedding), np.float32)
    constant, of_candidate = np.empty(units * slots, np.float32), np.empty((embedding, units * slots), np.float32)
    hidden, shares = np.empty(units * slots, np.float32), np.empty(slots, np.float32)
    for i in range(len(history)):
        if not same_as_before(history, i):
            embedded(history, i, tables, table, items)
            hidden_units(attention, items, constant, of_candidate)
        for n in range(len(hidden)):
            hidden[n] = constant[n]
        for e in range(embedding):
            for n in range(len(hidden)):
                hidden[n] += x[i, candidate + e] * of_candidate[e, n]
        for s in range(slots):
            shares[s] = attention.weight_bias
        for k in range(units):
            for s in range(slots):
                shares[s] += attention.weight[k] * relu(hidden[k * slots + s])
        for e in range(embedding):
            total = np.float32(0)
            for s in range(slots):
                total += shares[s] * items[s, e]  # an empty slot's embedding is zeros
            x[i, first + e] = total


@numba.njit(cache=True, nogil=True)
def crossed(x0, x, bias, product):  # type: ignore[no-untyped-def]
    """x_l+1 = x_0 * (W x_l + b) + x_l in place of the product W x_l [N, W]."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            product[i, j] = x0[i, j] * (product[i, j] + bias[j]) + x[i, j]


@numba.njit(cache=True, nogil=True)
def rectified(bias, product):  # type: ignore[no-untyped-def]
    """relu(D d + c) in place of the product D d [N, units]."""
    for i in range(len(product)):
        for j in range(len(bias)):
            product[i, j] = relu(product[i, j] + bias[j])


@numba.njit(cache=True, nogil=True, fastmath=REORDERED)
def added(x, weight, logits):  # type: ignore[no-untyped-def]
    """logits [N, kinds] + x weight^T, of a weight [kinds, at most W]."""
    for i in range(len(x)):
        for k in range(len(weight)):
            total = np.float32(0)
            for j in range(weight.shape[1]):
                total += x[i, j] * weight[k, j]
            logits[i, k] += total


@numba.njit(cache=True, nogil=True)
def weighted(logits, bias, shares, scores):  # type: ignore[no-untyped-def]
    """The scores [N]: the mean probability of the kinds, each with its share."""
    for i in range(len(scores)):
        scores[i] = 0
        for k in range(len(shares)):
            scores[i] += shares[k] / (1 + np.exp(-np.float64(logits[i, k] + bias[k])))
