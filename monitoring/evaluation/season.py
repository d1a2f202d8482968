"""A window's season: where in the past the same hours lie, so that a night is compared with nights.

    for spans in season(frame.table["shown_at"]):  # of one earlier day each, the oldest first
        ...

Of a window that lasts hours these are the same clock hours of one, two, three and seven days before, so that a Saturday
has a Saturday once there is one. A window that lasts longer has all hours in it: its season is what was shown just
before, as long as itself, three times.

Drift is measured on a sample, and a read costs what it reads: of many impressions a thin slice of each hour is enough.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl

from models.examples import concat
from models.frames import Frame

DAYS_BACK = (7, 3, 2, 1)
"""Days ago, the oldest first: each is a read of its own."""

PERIODS_BACK = 3
"""The same for a window that lasts longer than `LONG`, in windows."""

LONG = timedelta(hours=12)

ROWS_READ = 1000
"""Impressions that each of the reads has, where traffic is as it is now: half a sample, since a day may be missing."""

PIECE, PIECES = timedelta(hours=1), 24
"""A window is cut into pieces of an hour, and into no more than these; each has its slice of the season."""

MICROSECOND = timedelta(microseconds=1)

Span = tuple[datetime, datetime]
"""Half-open, ``(start, end]``."""

DAY = timedelta(days=1)

LOOKED_BACK = timedelta(days=max(DAYS_BACK))


def is_long(shown: pl.Series) -> bool:
    """Whether a window lasts so long that its season is the windows before it, by the times [N] of its impressions."""
    start, end = _whole(shown)
    return end - start > LONG


def has_week(earlier: pl.Series, shown: pl.Series) -> bool:
    """Whether the season, by its times [M], has the same day of the week as the window, by its times [N]."""
    return _whole(earlier)[0] <= _whole(shown)[1] - 6 * DAY


def season(shown: pl.Series) -> tuple[tuple[Span, ...], ...]:
    """The spans of the season of a window whose impressions were shown at these times [N], N > 0, a tuple a read.

    Only the time in which it has impressions counts: a window may begin after days without any.
    """
    start, end = _whole(shown)
    length = end - start
    count, share = min(PIECES, max(1, round(length / PIECE))), min(1.0, ROWS_READ / len(shown))
    edges = [start + place * length / count for place in range(count + 1)]
    pieces = list(pairwise(edges))
    if length > LONG:
        backs = [length * back for back in range(PERIODS_BACK, 0, -1)]
    else:
        pieces = [(begins, ends) for begins, ends in pieces if ((shown > begins) & (shown <= ends)).any()]
        backs = [timedelta(days=back) for back in DAYS_BACK]
    slices = _merged([_slice(begins, ends, share) for begins, ends in pieces])
    return tuple(tuple((first - back, last - back) for first, last in slices) for back in backs)


def trained_slices(part: Span, shown: pl.Series) -> tuple[Span, ...]:
    """What of the span that a model was trained on a window is compared with, whose impressions were shown at these
    times [N], N > 0: the latest of it, as long as the window and an hour at least; as many impressions as a sample
    holds, of each hour alike.

    The last hour alone would be the visit of one user, where a window takes a day; and all of a first model's week has
    nights in it, and no hour has.
    """
    first, last = _whole(shown)
    start, end = max(part[0], part[1] - max(last - first, PIECE)), part[1]
    count = min(PIECES, max(1, round((end - start) / PIECE)))
    rows = len(shown) * ((end - start) / (last - first))
    share = 1.0 if count == 1 else min(1.0, 2 * ROWS_READ / rows)
    edges = [start + place * (end - start) / count for place in range(count + 1)]
    return tuple(_merged([_slice(begins, ends, share) for begins, ends in pairwise(edges)]))


def without(spans: Sequence[Span], taken: Sequence[Span]) -> tuple[Span, ...]:
    """What of the spans lies in none of those `taken`."""
    left = list(spans)
    for begins, ends in taken:
        parts = [part for first, last in left for part in ((first, min(last, begins)), (max(first, ends), last))]
        left = [(first, last) for first, last in parts if first < last]
    return tuple(left)


def joined(frames: Sequence[Frame]) -> Frame | None:
    """Their impressions one after the other; None where there are none. Requests keep no codes across them."""
    found = [frame for frame in frames if len(frame)]
    if not found:
        return None
    return Frame(
        pl.concat([frame.table for frame in found]),
        concat([frame.examples for frame in found]),
        sum(frame.without_row for frame in found),
    )


def _whole(shown: pl.Series) -> Span:
    first, last = shown.min(), shown.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return first - MICROSECOND, last


def _slice(start: datetime, end: datetime, share: float) -> Span:
    """The middle of a piece."""
    beside = (end - start) * (1 - share) / 2
    return start + beside, end - beside


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    found: list[Span] = []
    for first, last in spans:
        if found and found[-1][1] >= first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found
