"""Labels that are numbers: a rating, or an amount of what was done, from a value on."""

from features.declare.labels import Label
from features.declare.log import FromRow
from features.ingest.inferred.figures import least, mean, middle, most
from features.ingest.inferred.outcome_hints import free_kind, in_percent
from features.ingest.inferred.profile import Profile
from features.ingest.inferred.row_labels import RowLabel
from features.ingest.inferred.taken import Taken


def rating_label(column: Profile) -> RowLabel:
    """Liked: from the value on that about half of the ratings have."""
    kind = free_kind(column.name, set())
    ratings = column.known.cast(float)
    above = [value for value in ratings.unique().sort().to_list() if value > 0 and value > least(ratings)]
    above = above or [most(ratings)]
    at_least = min(above, key=lambda value: (abs(mean(ratings >= value) - 0.5), -value))
    positive = (column.numbers >= at_least).fill_null(value=False)
    because = (
        f"{column.distinct} different numbers, {least(ratings):g} to {most(ratings):g}; {at_least:g} and more is"
        f" {in_percent(positive)} of the rows"
    )
    taken = Taken(column.name, f"label {kind}", because)
    return RowLabel(FromRow(kind, column.name), Label(kind, at_least=at_least), positive, (taken,))


def amount_label(column: Profile) -> RowLabel:
    """From the value on that half of those above 0 have."""
    kind = free_kind(column.name, set())
    amounts = column.numbers.fill_null(0)
    at_least = float(f"{middle(amounts.filter(amounts > 0)) or 1.0:.2g}")
    positive = amounts >= at_least
    because = (
        f"an amount of what was done, above 0 in {in_percent(amounts > 0)} of the rows; {at_least:g} and more is"
        f" {in_percent(positive)}"
    )
    taken = Taken(column.name, f"label {kind}", because)
    return RowLabel(FromRow(kind, column.name), Label(kind, at_least=at_least), positive, (taken,))
