"""A log whose rows are events of several kinds: the column that says which, and what each kind is."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from features.declare.feedback import HORIZON
from features.declare.labels import Label
from features.declare.log import FromEvent
from features.ingest.inferred.figures import mean
from features.ingest.inferred.nice import nice_up
from features.ingest.inferred.outcomes import Outcomes
from features.ingest.inferred.profile import Profile
from features.ingest.inferred.taken import Keys, Taken
from features.ingest.inferred.words import EVENTS, KINDS, NEGATIVE, SHOWN, WEIGHTS, kind_of, words_of

MOST_KINDS = 40


def kinds_column(columns: Sequence[Profile]) -> Profile | None:
    """The column of few different texts that sound like things done to an item."""

    def sounds(one: Profile) -> float:
        if one.form != "text" or not 2 <= one.distinct <= MOST_KINDS or one.missing > 0.05:
            return 0.0
        known = one.known
        sounding = [value for value in known.unique().to_list() if _sounds(value)]
        rows = mean(known.is_in(sounding))
        return rows + 0.5 * bool(set(one.words) & EVENTS) if len(sounding) >= 2 and rows >= 0.6 else 0.0

    return max((one for one in columns if sounds(one)), key=sounds, default=None)


def _sounds(value: str) -> bool:
    return _is_shown(value) or kind_of(value) is not None or bool(set(words_of(value)) & NEGATIVE)


def _is_shown(value: str) -> bool:
    words = words_of(value)
    glued = "".join(words)
    return (bool(set(words) & SHOWN) or glued in SHOWN) and not any(word in KINDS for word in words)


def events_of(column: Profile, keys: Keys) -> Outcomes | None:
    """The kinds that are impressions, and the labels that the others make; None where all are of one sort."""
    counts = column.known.value_counts(sort=True)
    values: list[str] = counts["v"].to_list()
    unwanted = [value for value in values if set(words_of(value)) & NEGATIVE]
    shown = [value for value in values if _is_shown(value) and value not in unwanted]
    if not shown:
        shown = [next(value for value in values if value not in unwanted)] if len(unwanted) < len(values) else []
    by_kind: dict[str, str] = {}
    passed_over = list(unwanted)
    for value in values:
        kind = kind_of(value)
        if value in shown or value in unwanted:
            continue
        if kind is None or kind in by_kind:
            passed_over.append(value)
        else:
            by_kind[kind] = value
    if not by_kind or not shown:
        return None
    several = len(by_kind) > 1
    labels = list[tuple[Label, pl.Series]]()
    said = list[str]()
    for kind, value in by_kind.items():
        happened, within = _followed(column, shown, value, keys)
        labels.append((Label(kind, within, weight=WEIGHTS.get(kind, 1) if several else 1), happened))
        said.append(f"{value!r} as {kind}")
    impressions = column.values.is_in(shown).fill_null(value=False)
    labels.sort(key=lambda one: int(one[1].sum()), reverse=True)
    taken = Taken(
        column.name,
        "kind of event",
        f"texts that name things done: {', '.join(map(repr, shown))} as impressions, {', '.join(said)}",
    )
    made_up = [
        f"no label in the rows: an event is feedback on the latest {' or '.join(map(repr, shown))} before it, of the"
        " same user and item"
    ]
    if passed_over:
        made_up.append(f"events {', '.join(map(repr, passed_over))} are passed over")
    return Outcomes(
        tuple(label for label, _ in labels),
        tuple(FromEvent(label.kind, by_kind[label.kind]) for label, _ in labels),
        labels[0][1],
        (taken,),
        tuple(made_up),
        events=column.name,
        shown=tuple(shown),
        impressions=impressions,
    )


def _followed(column: Profile, shown: list[str], value: str, keys: Keys) -> tuple[pl.Series, timedelta]:
    """Which rows are impressions that such an event followed, and the time in which 19 in 20 come."""
    rows = pl.DataFrame(
        {"user": keys.user.values, "item": keys.item.values, "t": keys.times, "event": column.values}
    ).with_row_index("row")
    views = rows.filter(pl.col("event").is_in(shown)).drop_nulls().sort("t").with_columns(pl.col("t").alias("shown_at"))
    done = rows.filter(pl.col("event") == value).drop_nulls().drop("row").sort("t")
    joined = done.join_asof(views.drop("event"), on="t", by=["user", "item"], check_sortedness=False)
    joined = joined.filter(pl.col("row").is_not_null(), (pl.col("t") - pl.col("shown_at")) <= HORIZON)
    late = joined.select((pl.col("t") - pl.col("shown_at")).dt.total_seconds().quantile(0.95)).item()
    within = timedelta(seconds=nice_up(max(late or 0.0, 5 * 60.0), timedelta(days=7).total_seconds()))
    return rows["row"].is_in(joined["row"].implode()), within
