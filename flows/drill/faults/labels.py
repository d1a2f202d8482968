"""Labels that are not what people did: shuffled, not known yet, lost on their way."""

from datetime import timedelta

import numpy as np
import polars as pl

from features.declare.columns import Column
from flows.drill.columns import common_values, having, widest
from flows.drill.faults.fault import Met, Scene, by_chance, few_lost, refolded, relabelled
from flows.drill.logs import feedback_columns
from monitoring.checks.labels import agreement
from monitoring.statistics.chance import ERRORS_CANNOT_BE


def shuffled(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """Labels of a share of the impressions dealt out among them anew."""
    examples = scene.window.frame.examples
    order = np.arange(len(examples))
    chosen = np.flatnonzero(random.random(len(order)) < share)
    order[chosen] = random.permutation(chosen)
    window = relabelled(scene.window, examples.of_kinds[order], scene.features.labels)
    return Met(("labels follow", "shuffled"), window)


def cannot_shuffle(scene: Scene, share: float) -> str | None:
    found = agreement(scene.window.frame.examples.label.astype(np.float64), scene.scores, scene.users)
    if found is None:
        return "The champion gives all impressions of the window alike, so no label follows it."
    if share < ERRORS_CANNOT_BE * found[1]:
        return by_chance(scene, f"labels follow the champion {share:.0%} less")
    return None


def not_closed(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """Joined at the window's end, before its late labels were known; they come after this share of the window's length
    on average."""
    known = random.exponential(_mean_delay(scene, share), len(scene.window)) <= _left(scene)
    targets = scene.window.frame.examples.of_kinds * known[:, None]
    return Met(("closed", "the latest"), relabelled(scene.window, targets, scene.features.labels))


def cannot_leave_open(scene: Scene, share: float) -> str | None:
    return few_lost(scene, scene.labelled, np.exp(-_left(scene) / _mean_delay(scene, share)))


def _mean_delay(scene: Scene, share: float) -> float:
    length: timedelta = scene.window.end - scene.window.start
    return share * length.total_seconds()


def _left(scene: Scene) -> np.ndarray:
    """Seconds from each impression [N] to the window's end."""
    return np.asarray(scene.window.end.timestamp() - scene.window.frame.examples.time)


def dropped(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the labels of one value of a column never reached the log."""
    column, value = _context(scene)
    shown = scene.window.shown
    lost = pl.Series(having(shown, column, value) & (random.random(len(shown)) < share))
    further = (name for kind in scene.features.kinds[1:] for name in feedback_columns(kind))
    changed = shown.with_columns(
        (pl.col("clicked") & ~lost).alias("clicked"),
        *(pl.when(~lost).then(name).alias(name) for name in ("clicked_at", *further) if name in shown.columns),
    )
    return Met(named(column, value), refolded(scene, changed))


def cannot_drop(scene: Scene, share: float) -> str | None:
    if widest(scene.window.shown, scene.features.contexts) is None:
        return "No id of the request or the user has two values that are each common, in one impression of twenty."
    silent = scene.window.shown.filter(pl.Series(having(scene.window.shown, *_context(scene))))["impression_id"]
    rows = scene.window.frame.table["impression_id"].is_in(silent.implode()).to_numpy()
    return few_lost(scene, scene.labelled & rows, share)


def _context(scene: Scene) -> tuple[Column, str]:
    """A column, and its second most frequent value: the most frequent may be most of the site, and then it is no longer
    a matter of one value."""
    column = widest(scene.window.shown, scene.features.contexts)
    assert column is not None, "it was looked whether there is one"
    return column, common_values(scene.window.shown, column)[1]


def named(column: Column, value: str) -> tuple[str, ...]:
    """How the gate names one value of a column."""
    name = column.name
    return (f"{name} = {value}", f"{name} {value}", f"{name} '{value}'", f"{name}={value}", f"{name} = '{value}'")
