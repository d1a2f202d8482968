"""The chance with which a Plackett-Luce draw puts an item into a place, without going through the orders.

    chances(log_weights, places, NODES, SHARES)     # [K]: that item i stands in place places[i]

A draw is a race (Plackett 1975; Luce 1959): item i arrives after an exponential time of rate w_i, and its place is the
number of the others that arrived before it. So

    P(i in place j) = int_0^inf  w_i exp(-w_i t)  B_-i(j; t)  dt,

where B_-i(.; t) is the distribution of how many of the others have arrived by t: a Poisson binomial of the chances
1 - exp(-w_l t). It is built once for each t, by adding item after item, and item i is divided out of it from that end
from which rounding errors shrink. The integral is a sum of Gauss-Legendre rules over stretches of time that are as long
as what happens in them allows: some two hundred t for 200 items. Exact to 1e-10.
"""

from __future__ import annotations

import numpy as np

from features.compiled import numba

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(10)

NODES, SHARES = (_POINTS + 1) / 2, _WEIGHTS / 2
"""Where in a stretch of length 1 a function is looked at, and with which weight."""

AHEAD = 3.0
"""Standard deviations, of how many have arrived, by which their mean may move in a stretch."""

NOT_YET, GONE = 1e-3, 37.0
"""w t of an item that has hardly begun to arrive, and of one that has arrived but for a chance of 1e-16."""

NOTHING = 1e-15
"""A chance that is left out."""

LARGEST = 700.0
"""Log of a weight that is as good as infinite, and still a number."""


@numba.njit(cache=True, nogil=True)
def chances(log_weights, places, nodes, shares):  # type: ignore[no-untyped-def]
    """Of K items with log weights [K], finite, and places [K] from 0: the chance [K] of each to stand in its place."""
    count = len(log_weights)
    order = np.argsort(-log_weights)
    log_weights, places = log_weights[order], places[order]
    in_order, late, counts, weights = np.zeros(count), np.empty(count), np.empty(count + 1), np.empty(count)
    log_start, first = -np.inf, 0
    while True:
        # Items before ``first`` have arrived. Times are in terms of the start, and where nothing is on its way, of when
        # the next arrives: a weight may be too small for a number.
        while first < count and np.exp(min(log_weights[first] + log_start, LARGEST)) > GONE:
            first += 1
        if first == count:
            break
        quiet = np.exp(log_weights[first] + log_start) < NOT_YET
        scale = -log_weights[first] if quiet else log_start
        begin = np.exp(log_start - scale)
        rate, spread, end = 0.0, 0.0, first
        for i in range(first, count):
            weights[i] = np.exp(log_weights[i] + scale)
            still = np.exp(-weights[i] * begin)
            rate += weights[i] * still
            spread += still * (1 - still)
        length = 1 / rate if quiet else min(AHEAD * (1 + np.sqrt(spread)) / rate, begin)
        while end < count and weights[end] * (begin + length) > NOTHING:
            end += 1
        for n in range(len(nodes)):
            low, high = arrived(weights[first:end], begin + length * nodes[n], late[first:end], counts)
            for i in range(first, end):
                density, others = weights[i] * late[i] * length, places[i] - first
                if density > NOTHING and low - 1 <= others <= high:
                    in_order[i] += shares[n] * density * without(counts, low, high, late[i], others)
        log_start = scale + np.log(begin + length)
    found = np.empty(count)
    found[order] = in_order
    return found


@numba.njit(cache=True, nogil=True)
def arrived(weights, time, late, counts):  # type: ignore[no-untyped-def]
    """Into ``late`` [K] the chance of each not to have arrived, into ``counts`` [K + 1] the distribution of how many
    have; it is nothing outside of the range that is given back."""
    counts[0] = 1.0
    low, high = 0, 0
    for i in range(len(late)):
        q, p = np.exp(-weights[i] * time), -np.expm1(-weights[i] * time)
        late[i] = q
        counts[high + 1] = counts[high] * p
        for k in range(high, low, -1):
            counts[k] = counts[k] * q + counts[k - 1] * p
        counts[low] *= q
        high += 1
        while high > low and counts[high] < NOTHING:
            high -= 1
        while low < high and counts[low] < NOTHING:
            low += 1
    return low, high


@numba.njit(cache=True, nogil=True)
def without(counts, low, high, q, place):  # type: ignore[no-untyped-def]
    """The chance that ``place`` of the others have arrived: ``counts``, divided by (q + p x), at x^place."""
    found = 0.0
    if q >= 0.5:
        share, ratio = 1 / q, (1 - q) / q
        for k in range(low, place + 1):
            found = counts[k] * share - ratio * found
    else:
        share, ratio = 1 / (1 - q), q / (1 - q)
        for k in range(high, place, -1):
            found = counts[k] * share - ratio * found
    return found
