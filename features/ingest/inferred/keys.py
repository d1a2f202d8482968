"""Who was shown what: the columns of users, items, requests and impressions."""

import math
from datetime import timedelta

import polars as pl

from features.ingest.inferred.figures import least, mean, most
from features.ingest.inferred.profile import Profile, strays
from features.ingest.inferred.taken import CannotBeInferred
from features.ingest.inferred.words import IMPRESSION, ITEM, OF_ITEMS, POSITION, PROPENSITY, REQUEST, SESSION, USER

FUNCTION = 0.05
"""``strays`` below which a column is a function of a key."""

CLEARLY = 0.5
"""By how much, as a logarithm, the rows of one value must be closer in time than those of another to be a user's."""

COARSE = 0.99
"""Share of times on the hour from which on they are cut to hours or days."""

PAGE, AT_ONCE = timedelta(minutes=30), timedelta(seconds=1)
"""A request's rows are no further apart; a session's are."""


def user_and_item(columns: list[Profile], times: pl.Series) -> tuple[Profile, Profile, str, str]:
    """The columns of users and of items, and why each, in this order. Raises CannotBeInferred."""
    ids = [column for column in columns if column.can_be_id and column.missing < 0.5 and column.distinct > 1]
    ids = ids or [column for column in columns if column.can_be_id]
    if not ids:
        raise CannotBeInferred(
            "no column can name users and items: ids are texts or whole numbers; it has"
            f" {', '.join(repr(column.name) for column in columns)}"
        )
    items = sorted(ids, key=_as_item, reverse=True)
    item = next((one for one in items if _as_item(one) >= NAMED and _as_item(one) > _as_user(one)), None)
    users = sorted((one for one in ids if one is not item), key=_as_user, reverse=True)
    user = next((one for one in users if _as_user(one) >= NAMED), None)
    if item is None or user is None:
        item, user, why_item, why_user = _by_values(ids, item, user, times)
    else:
        why_item = why_user = "its name, and its values repeat"
        if user.thing in SESSION:
            why_user = "no column names users, and each session is one"
        elif _as_user(user) < NAMED + 1:
            why_user = "no column names users, and this tells them apart best"
    return user, item, f"{why_user}: {user.distinct:,} different", f"{why_item}: {item.distinct:,} different"


NAMED = 1.0
"""The least that speaks for a column whose name says what it is."""


def _repeats(column: Profile) -> float:
    """Against what is different in nearly every row."""
    return -3.0 * (column.unique > 0.98 and len(column.known) >= 50) + 0.1 * math.log10(max(column.distinct, 1))


def _as_item(column: Profile) -> float:
    if column.name == "item_id":
        return 20.0
    named = column.thing in ITEM
    weak = 1.0 * (column.thing in OF_ITEMS and not column.says_id)
    return 4.0 * named - weak + 0.5 * column.says_id * named + _repeats(column) - 0.5 * (column.form == "truth")


def _as_user(column: Profile) -> float:
    if column.name == "user_id":
        return 20.0
    if column.thing in USER:
        return 4.0 + 0.5 * column.says_id + 0.1 * math.log10(max(column.distinct, 1))
    if column.thing in SESSION:
        return 3.0
    if column.thing == "device" and column.distinct > 200:
        return 2.5
    if column.thing in REQUEST and column.says_id:
        return 2.0
    if set(column.words) & USER and column.says_id and column.distinct > 200:
        return 3.5  # user_pseudo_id
    # As user_feature_3: not who, but as near to it as there may be.
    return 1.0 + 0.1 * math.log10(max(column.distinct, 1)) if set(column.words) & USER else 0.0


def names_users(column: Profile) -> bool:
    """Whether the column's name says that it is users; where not, it stands in for them."""
    return column.name == "user_id" or column.thing in USER


def stands_in(column: Profile) -> bool:
    """Whether it is a session, a device or a trait of users that stands in for them."""
    words = set(column.words)
    return not names_users(column) and (column.thing == "device" or bool(words & (SESSION | REQUEST | USER)))


def _by_values(
    ids: list[Profile], item: Profile | None, user: Profile | None, times: pl.Series
) -> tuple[Profile, Profile, str, str]:
    """Users do several things in a row; items are shown again and again, to many."""
    rest = [one for one in ids if one is not item and one is not user and one.unique < 0.98 and one.distinct >= 3]
    rest = [one for one in rest if not one.says_time and not (one.thing in REQUEST and one.says_id)]
    rest = [one for one in rest if not (set(one.words) & (USER if user is None and item is None else set()))] or rest
    why_item, why_user = "its name", "its name" if user is None or names_users(user) else "no column names users"
    while item is None or user is None:
        if not rest:
            what, example = ("users", "user_id") if user is None else ("items", "item_id")
            raise CannotBeInferred(
                f"no column names {what}: none of {', '.join(repr(one.name) for one in ids)} has values that repeat as"
                f" ids of {what} do; call the column that does {example}, or add one, and run it again"
            )
        if user is None and item is None:
            rest.sort(key=lambda one: one.distinct, reverse=True)
            first, second = rest[0], rest[min(1, len(rest) - 1)]
            bursts = _burst(second, times) > _burst(first, times) + CLEARLY
            user = second if bursts else first
            why_user = "no name says so, but its values come in bursts, or are the most different"
            rest.remove(user)
        elif user is None:
            user = max(rest, key=lambda one: (one.says_id, one.distinct))
            why_user = "no name says so, but it has the most different values"
            rest.remove(user)
        else:
            fit = [one for one in rest if (strays(user.values, one.values) or 1.0) > FUNCTION]
            item = max(fit or rest, key=lambda one: (one.says_id, one.distinct))
            why_item = "no name says so, but it has the most different values that repeat"
            rest.remove(item)
    return item, user, why_item, why_user


def _burst(column: Profile, times: pl.Series) -> float:
    """How much closer in time the rows of one value are than if they were spread evenly: the higher, the more so."""
    rows = pl.DataFrame({"key": column.values, "t": times.dt.epoch("us")}).drop_nulls().sort("key", "t")
    gaps = rows.select(
        (pl.col("t").diff().over("key") / 1e6).alias("gap"), pl.len().over("key").alias("n")
    ).drop_nulls()
    if not len(gaps):
        return 0.0
    span = max((most(rows["t"]) - least(rows["t"])) / 1e6, 1.0)
    even = span / gaps["n"].cast(pl.Float64)
    return mean((even + 1).log() - (gaps["gap"] + 1).log())


def impression_of(columns: list[Profile]) -> Profile | None:
    """The column that names each row."""
    whole = [one for one in columns if one.can_be_id and one.missing == 0 and one.unique == 1 and len(one.values) > 1]
    exact = next((one for one in whole if one.name == "impression_id"), None)
    named = [one for one in whole if one.thing in IMPRESSION and (one.says_id or one.thing == "uuid")]
    return exact or next((one for one in named if one.thing not in ("index", "row")), None)


def request_of(columns: list[Profile], user: Profile, times: pl.Series) -> Profile | None:
    """The column that names what was shown at once: of one user, at about one time."""
    for one in columns:
        if one.name == "request_id" and one.can_be_id:
            return one
        says_so = one.thing in REQUEST and one.says_id
        if not one.can_be_id or one.missing > 0.01 or one is user or not (says_so or one.thing in SESSION):
            continue
        if one.unique > 0.9 or (strays(one.values, user.values) or 0.0) > FUNCTION:
            continue
        requests = pl.DataFrame({"key": one.values, "t": times}).drop_nulls().group_by("key")
        spans = requests.agg((pl.col("t").max() - pl.col("t").min()).dt.total_seconds().alias("span"))["span"]
        # A session that is never longer than a page load is one.
        if (spans.quantile(0.9) or 0.0) <= (PAGE if says_so else AT_ONCE).total_seconds():
            return one
    return None


def position_of(columns: list[Profile]) -> Profile | None:
    """The column of the place in the list."""
    fit = [one for one in columns if one.form in ("whole", "truth") and one.thing in POSITION and one.missing < 0.5]
    return next((one for one in fit if least(one.numbers) >= 0 and most(one.numbers) <= 10_000), None)


def propensity_of(columns: list[Profile]) -> Profile | None:
    """The column of how likely the item was to be shown there."""
    for one in columns:
        if one.form in ("number", "whole", "truth") and set(one.words) & PROPENSITY and one.missing < 0.5:
            least, most = one.numbers.min(), one.numbers.max()
            if isinstance(least, float) and isinstance(most, float) and least > 0 and most <= 1:
                return one
    return None


def grouping(user: Profile, item: Profile, times: pl.Series) -> tuple[timedelta, bool, str]:
    """Without request ids: how close rows of a user are that were shown at once; whether each row is alone; why."""
    if mean(times.drop_nulls().dt.epoch("s") % 3600 == 0) > COARSE:
        return timedelta(seconds=1), True, "times are in whole hours or days, and do not say what was shown at once"
    rows = (
        pl.DataFrame({"user": user.values, "item": item.values, "t": times.dt.epoch("us")})
        .drop_nulls()
        .sort("user", "t")
    )
    gaps = (rows.select(pl.col("t").diff().over("user")).to_series().drop_nulls() / 1e6).to_numpy()
    if not len(rows) or not len(gaps):
        return timedelta(seconds=1), True, "users have one row each"
    share = {gap: float((gaps <= gap).sum()) / len(rows) for gap in (1, 5, 10, 50)}
    if share[1] < 0.1 and share[5] < 0.3:
        return timedelta(seconds=1), True, f"{share[1]:.0%} of the rows come within a second of the user's last one"
    gap = 1 if share[1] >= 0.8 * share[10] or share[5] < 0.8 * share[50] else 5
    return timedelta(seconds=gap), False, f"{share[gap]:.0%} of the rows come within {gap} s of the user's last one"
