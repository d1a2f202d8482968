"""Labels that stand in the impressions' rows: truths, with or without the time at which they came, and times alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from features.declare.families import short_span
from features.declare.feedback import HORIZON
from features.declare.labels import Label
from features.declare.log import FromRow
from features.ingest.inferred.figures import mean
from features.ingest.inferred.nice import nice_up
from features.ingest.inferred.outcome_hints import (
    agreement,
    free_kind,
    in_percent,
    is_never,
    is_outcome,
    is_truth,
    names_outcome,
)
from features.ingest.inferred.profile import MOSTLY, Profile
from features.ingest.inferred.taken import Keys, Taken
from features.ingest.inferred.words import LATER

DEFAULT = timedelta(minutes=5)
"""How long a label may take, where no time says when it came."""


@dataclass(frozen=True)
class RowLabel:
    """A label, and where it stands."""

    feedback: FromRow
    label: Label

    happened: pl.Series
    """For each row of the sample."""

    taken: tuple[Taken, ...]


def row_labels(
    columns: Sequence[Profile], keys: Keys, times: dict[str, pl.Series]
) -> tuple[list[RowLabel], list[Taken]]:
    """The labels that are truths or later times; and the columns that say the same, or come later and are none."""
    later = later_times(columns, keys, times)
    found, left, used = list[RowLabel](), list[Taken](), set[str]()
    for truth in (one for one in columns if (is_truth(one) or is_never(one)) and is_outcome(one, keys)):
        happened = truth.numbers.fill_null(0) > 0
        if any(agreement(happened, other.happened) >= 0.999 for other in found):
            left.append(Taken(truth.name, "left out", "it says the same as the label"))
            continue
        kind = free_kind(truth.name, {other.label.kind for other in found})
        at = next((one for one in later if agreement(happened, times[one.name].is_not_null()) >= 0.995), None)
        taken = [Taken(truth.name, f"label {kind}", f"true or false, true in {in_percent(happened)} of the rows")]
        within = DEFAULT
        if at is not None:
            used.add(at.name)
            within, why = span_of_most(keys.times, times[at.name])
            taken.append(Taken(at.name, f"time of {kind}", f"there where {truth.name!r} is true, and later; {why}"))
        feedback = FromRow(kind, truth.name, None if at is None else at.name)
        found.append(RowLabel(feedback, Label(kind, within), happened, tuple(taken)))
    for one in later:
        if one.name in used:
            continue
        if one.missing < 1 - MOSTLY or set(one.words) & {"expires", "expired", "end"}:
            left.append(Taken(one.name, "left out", "a later time: it was not known at the showing"))
            continue
        happened = times[one.name].is_not_null()
        kind = free_kind(one.name, {other.label.kind for other in found})
        within, why = span_of_most(keys.times, times[one.name])
        because = f"a time after the showing, there in {in_percent(happened)} of the rows; {why}"
        taken = [Taken(one.name, f"label {kind}", because)]
        found.append(RowLabel(FromRow(kind, at=one.name), Label(kind, within), happened, tuple(taken)))
    return found, left


def later_times(columns: Sequence[Profile], keys: Keys, times: dict[str, pl.Series]) -> list[Profile]:
    """Times that are hardly ever before the showing, and mostly within weeks after it."""
    found = list[Profile]()
    for one in columns:
        if one.name not in times:
            continue
        apart = (times[one.name] - keys.times).drop_nulls()
        if len(apart) and mean(apart >= timedelta(0)) >= MOSTLY:
            soon = mean(apart <= HORIZON) >= 0.5
            if soon or names_outcome(one) or set(one.words) & LATER:
                found.append(one)
    return found


def span_of_most(shown_at: pl.Series, at: pl.Series) -> tuple[timedelta, str]:
    """The time in which 19 in 20 come."""
    late = (at - shown_at).drop_nulls().dt.total_seconds().quantile(0.95)
    within = timedelta(seconds=nice_up(max(late or 0.0, 60.0), HORIZON.total_seconds()))
    return within, f"19 in 20 come within {short_span(within.total_seconds())}"
