"""A log that does not say what happened: a bot in it, feedback twice, traffic lost, items under new ids."""

import numpy as np
import polars as pl

from flows.drill.faults.fault import FEWEST_TOUCHED, Met, Scene, positive_value, refolded, too_few
from monitoring.evaluation.window import new_ids

MOST_NEW = 0.3
"""Share of impressions of new items from which more of them is no news."""


def bot(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """One user more, whose impressions are this share of the window's, and who clicks everything."""
    shown = scene.window.shown
    requests = shown["request_id"].unique(maintain_order=True)
    count = max(2, round(share * len(requests)))
    chosen = requests.gather(np.sort(random.choice(len(requests), count, replace=False)))
    theirs = shown.filter(pl.col("request_id").is_in(chosen.implode())).with_columns(
        ("bot-" + pl.col("impression_id")).alias("impression_id"),
        ("bot-" + pl.col("request_id")).alias("request_id"),
        pl.lit("bot-7").alias("user_id"),
        pl.lit(value=True).alias("clicked"),
        pl.col("shown_at").alias("clicked_at"),
        pl.lit(positive_value(scene.features.label)).alias("value"),
    )
    return Met(("bot-7",), refolded(scene, pl.concat([shown, theirs])))


def too_small_for_a_bot(scene: Scene, share: float) -> str | None:
    touched = share * len(scene.window.shown)
    if touched < FEWEST_TOUCHED:
        return f"It would click {touched:,.0f} times, and fewer than {FEWEST_TOUCHED} clicks are a matter of chance."
    return None


def logged_twice(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the clicked impressions come once more under other ids, as from a client that tries again."""
    shown = scene.window.shown
    repeats = shown.filter(pl.col("clicked") & pl.Series(random.random(len(shown)) < share)).with_columns(
        ("retry-" + pl.col("impression_id")).alias("impression_id")
    )
    return Met(("repeat", "twice", "duplicate"), refolded(scene, pl.concat([shown, repeats])))


def cannot_log_twice(scene: Scene, share: float) -> str | None:
    return too_few(scene, share, share * int(scene.window.shown["clicked"].sum()))


def traffic_lost(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the requests never reached the log."""
    shown = scene.window.shown
    requests = shown["request_id"].unique(maintain_order=True)
    kept = requests.filter(pl.Series(random.random(len(requests)) >= share))
    left = shown.filter(pl.col("request_id").is_in(kept.implode()))
    return Met(("'volume'",), refolded(scene, left))


def cannot_lose(scene: Scene, share: float) -> str | None:
    left = (1 - share) * len(scene.window)
    if left < scene.fewest:
        return (
            f"About {left:,.0f} impressions would be left, fewer than the {scene.fewest:,} of an update: it would wait."
        )
    return None


def items_renamed(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the items go by ids that nobody has seen before."""
    shown = scene.window.shown
    items = shown["item_id"].unique(maintain_order=True)
    chosen = items.filter(pl.Series(random.random(len(items)) < share))
    renamed = pl.when(pl.col("item_id").is_in(chosen.implode())).then("v2-" + pl.col("item_id")).otherwise("item_id")
    return Met(("new items",), refolded(scene, shown.with_columns(renamed.alias("item_id"))))


def cannot_rename(scene: Scene, share: float) -> str | None:
    new = new_ids(scene.window.frame.examples, scene.champion).get("items")
    if new is None:
        return "The champion has no table of items, so none is new to it."
    if float(np.mean(new)) > MOST_NEW:
        return f"New items have {float(np.mean(new)):.0%} of the window's impressions as it is."
    return None
