"""What a column says of the label: some, or so much that it was not known at the showing."""

from math import log10

import polars as pl

from features.ingest.inferred.column_types import FEW
from features.ingest.inferred.figures import mean
from features.ingest.inferred.profile import Profile


def after_the_fact(one: Profile, positive: pl.Series) -> str | None:
    """Why it was not known at the showing: it gives the label away."""
    rate = mean(positive)
    if one.form in ("list", "other") or len(positive) < 50 or not 0 < rate < 1:
        return None
    there = one.values.is_not_null()
    if 0 < one.missing < 1 and mean(there == positive) > 1 - 0.02 * min(rate, 1 - rate):
        return "there only where the label is true: it was not known at the showing"
    rows = pl.DataFrame({"value": one.values, "positive": positive})
    if one.unique < 0.05 or one.distinct <= FEW:
        counts = rows.group_by("value").agg(pl.col("positive").mean().alias("rate"), pl.len().alias("n"))
        # So many rows that it is no accident that the label is true in all of them.
        certain = (
            counts.filter((pl.col("rate") >= 0.99) & (pl.col("n") >= max(5.0, -6 / log10(rate))))
            if rate <= 0.5
            else counts[:0]
        )
        wrong = float(
            (counts["n"] * pl.select(pl.min_horizontal(counts["rate"], 1 - counts["rate"])).to_series()).sum()
        )
        if len(certain) or wrong / len(positive) <= 0.02 * min(rate, 1 - rate):
            return "it gives the label away: it was not known at the showing"
    elif one.form in ("whole", "number"):
        ranks = rows.drop_nulls().with_columns(pl.col("value").rank())
        yes = int(ranks["positive"].sum())
        pairs = yes * (len(ranks) - yes)
        below = (float(ranks.filter("positive")["value"].sum()) - yes * (yes + 1) / 2) / pairs if pairs else 0.5
        if max(below, 1 - below) > 0.99 and yes >= 20:
            return "it gives the label away: it was not known at the showing"
    return None


def variance_explained(one: Profile, positive: pl.Series | None) -> float:
    """The share of the label's variance that lies between the column's values, less what chance gives."""
    if positive is None or one.form in ("list", "other"):
        return 0.0
    rows = pl.DataFrame({"value": one.values, "y": positive.cast(pl.Float64)})
    groups = rows.group_by("value").agg(pl.col("y").mean().alias("rate"), pl.len().alias("n"))
    rate = mean(rows["y"])
    if not 0 < rate < 1:
        return 0.0
    between = float((groups["n"] * (groups["rate"] - rate) ** 2).sum()) / len(rows)
    return between / (rate * (1 - rate)) - (len(groups) - 1) / len(rows)
