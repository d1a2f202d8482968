"""A log that does not say what happened: a bot in it, feedback twice, traffic lost, items under new ids."""

import numpy as np
import polars as pl

from flows.drill.faults.fault import Met, Scene, by_chance, positive_value, refolded
from flows.drill.windows import LogWindow
from monitoring.checks.history import CHANCE_ERRORS, same_hour
from monitoring.checks.ids import CHANCE_ROWS
from monitoring.checks.limits import Limits
from monitoring.evaluation.season import LONG
from monitoring.evaluation.window import new_ids
from monitoring.statistics.chance import CANNOT_BE, surprise_above

MOST_NEW = 0.3
"""Share of impressions of new items from which more of them is no news."""

OFTEN_LABELLED = 1 / 3
"""Label rate above which a user may well label everything."""

OFTEN_NEW = 0.2
"""The same that they may have at any time, where none did before."""


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
    clicks, usual = share * len(scene.window.shown), float(scene.scores.mean())
    if usual > OFTEN_LABELLED:
        return f"Impressions have {usual:.0%} of a label: who gives one to each is no bot, but pleased."
    worth = float(scene.window.frame.examples.label[scene.labelled].min(initial=1.0))
    if surprise_above(worth, clicks / scene.together, usual) < CANNOT_BE:
        return by_chance(scene, f"one user has all of {clicks:,.0f} labels, each {worth:.2g} of one,")
    return None


def logged_twice(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the clicked impressions come once more under other ids, as from a client that tries again."""
    shown = scene.window.shown
    repeats = shown.filter(pl.col("clicked") & pl.Series(random.random(len(shown)) < share)).with_columns(
        ("retry-" + pl.col("impression_id")).alias("impression_id")
    )
    return Met(("repeat", "twice", "duplicate"), refolded(scene, pl.concat([shown, repeats])))


def cannot_log_twice(scene: Scene, share: float) -> str | None:
    rows, touched = len(scene.window), share * int(scene.window.shown["clicked"].sum())
    usual = max(CHANCE_ROWS / rows, Limits.retried_share)
    if surprise_above(touched / rows, rows, usual) < CANNOT_BE:
        return (
            f"It would repeat {touched:,.0f} of {rows:,} impressions: clients that try again may repeat"
            f" {usual * rows:,.0f}, and chance explains the rest."
        )
    return None


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
    window, is_long = scene.window, scene.window.end - scene.window.start > LONG
    alike = scene.earlier if is_long else same_hour(scene.earlier, window.start, window.end)
    if not alike:
        return "No window of an earlier day at that time is known, and a night may have as few."
    span = (window.end - window.start).total_seconds()
    together = len(window) / max(window.shown["request_id"].n_unique(), 1)
    few = min(_rate(past) for past in alike) * span / Limits.volume_factor
    if left >= few - CHANCE_ERRORS * (few * together) ** 0.5:
        return (
            f"About {left:,.0f} impressions would be left; an earlier day had {few * Limits.volume_factor:,.0f} at that"
            f" time, traffic may be {Limits.volume_factor:g} times as little, and chance explains the rest."
        )
    return None


def _rate(window: LogWindow) -> float:
    """Impressions a second."""
    return len(window) / (window.end - window.start).total_seconds()


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
    requests = scene.window.shown["request_id"].n_unique()
    if surprise_above(share, requests, OFTEN_NEW) < CANNOT_BE:
        return by_chance(scene, f"new items have {share:.0%} of {requests:,} requests where {OFTEN_NEW:.0%} are usual")
    return None
