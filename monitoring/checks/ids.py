"""Ids of a window: impressions given twice, retries under another id, and users or requests too large to be true."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitoring.checks.limits import Check, InForce, least, outcome, rows_of
from monitoring.statistics.chance import CANNOT_BE, surprise_above

CHANCE_ROWS = 10
"""Repeats that a window of any size may have."""

REQUEST = ("user_id", "request_id")
"""What names a request: two users may send the same id."""

FEW = 500
"""Impressions below which one user may be most of the window."""


def codes_of(ids: pl.Series) -> NDArray[np.int64]:
    """Of users or items [N], by their ids; those without one are one."""
    codes = ids.cast(pl.String).fill_null("none").rank("dense").to_numpy()
    return codes.astype(np.int64) - 1


def check_ids(frame: pl.DataFrame, limits: InForce) -> list[Check]:
    """Checks on `frame` [N rows] with impression_id, request_id, user_id, item_id and shown_at."""
    return [
        _duplicates(frame["impression_id"], limits),
        _retries(frame, limits),
        _share(frame, ("user_id",), "one user's share", limits, frame.select(REQUEST).n_unique()),
        _share(frame, REQUEST, "one request's share", limits, None),
    ]


def _duplicates(ids: pl.Series, limits: InForce) -> Check:
    offends = ids.is_duplicated().to_numpy()
    detail = f"{int(offends.sum()):,} rows share their impression id with another."
    share = float(offends.mean())
    return outcome(limits, "duplicates", share, "none", share == 0, detail, rows_of(offends, ids))


def _retries(frame: pl.DataFrame, limits: InForce) -> Check:
    """Later repeats of an impression under another id: what a client that logs once more after a time-out leaves.

    The share counts the repeats, not what they repeat; the rows name them.
    """
    same_request = _repeats(frame, *REQUEST, "item_id")
    same_moment = _repeats(frame, "user_id", "item_id", "shown_at")
    first = ~_repeats(frame, "impression_id")  # the same id again is `_duplicates`'
    offends = (same_request | same_moment) & first
    count, share = int(offends.sum()), float(offends.mean())
    detail = (
        f"{count:,} impressions ({share:.2%}) repeat another under an id of their own: {int(same_request.sum()):,} the"
        f" same item in the same request, {int(same_moment.sum()):,} the same user, item and moment."
    )
    limit = f"at most {limits.of('retries'):.2%}, or {CHANCE_ROWS} impressions, beyond chance"

    def surprise(allowed: float) -> float:
        return surprise_above(share, frame.height, max(CHANCE_ROWS / frame.height, allowed))

    enough, found = -np.log(limits.declared.false_alarm), surprise(limits.of("retries"))
    return outcome(
        limits,
        "retries",
        share,
        limit,
        found <= enough,
        detail,
        rows_of(offends, frame["impression_id"]),
        gross=found > CANNOT_BE,
        needs=least(lambda allowed: surprise(allowed) <= enough, high=1.0),
    )


def _repeats(frame: pl.DataFrame, *columns: str) -> np.ndarray:
    """Rows whose values in these columns stood in an earlier row: bool[N]. By hashes of 64 bits, for speed."""
    return ~frame.select(columns).hash_rows().is_first_distinct().to_numpy()


def _share(frame: pl.DataFrame, key: tuple[str, ...], name: str, limits: InForce, draws: int | None) -> Check:
    """The largest user's, or request's, share. `draws`: of how many requests; a request's size is no chance."""
    counts = frame.group_by(key).len("count").sort("count", *key, descending=[True, *(False for _ in key)])
    largest, count = counts[key[-1]][0], int(counts["count"][0])
    share = count / frame.height
    word = key[-1].removesuffix("_id")
    detail = f"The largest {word}, {largest}, has {count:,} of {frame.height:,} impressions ({share:.1%})."
    enough = -np.log(limits.declared.false_alarm)

    def passes(allowed: float) -> bool:
        beyond = draws is None or surprise_above(share, draws, allowed) > enough
        return frame.height < FEW or share <= allowed or not beyond

    allowed = limits.of(name)
    theirs = frame.select(pl.all_horizontal(pl.col(part).eq_missing(counts[part][0]) for part in key)).to_series()
    rows = () if passes(allowed) else rows_of(theirs.to_numpy(), frame["impression_id"])
    needs = least(passes, high=1.0)
    return outcome(limits, name, share, f"at most {allowed:.0%}", passes(allowed), detail, rows, needs=needs)
