"""What is not usual and yet sound: an update of it should be promoted."""

import numpy as np
import polars as pl

from flows.drill.faults.fault import Met, Scene, positive_value, refolded, requests_of
from flows.drill.logs import feedback_columns

TIMES_CLICKED = 2.5
"""Click rate of a breaking story over the usual."""

MOST_CLICKED = 0.95

FEWEST_SHOWN = 4.0
"""Items of a request, on average, from which the story is a new one that stands in place of another. Where requests
show fewer it would have more of the impressions than a sound site ever gives one: then the item that is shown most is
the story, and nothing moves but its clicks."""


def breaking_story(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """One item, in a share of the requests (of its own, where they show few), is clicked more than others are; all
    other labels are as they were."""
    shown, label = scene.window.shown, scene.features.label
    usual = float(np.mean(shown["clicked"].to_numpy()))
    known = shown["item_id"].value_counts().sort(["count", "item_id"])
    request = requests_of(shown)
    new = len(shown) >= FEWEST_SHOWN * (int(request.max()) + 1)
    like = shown.filter(pl.col("item_id") == known["item_id"][len(known) // 2 if new else -1])
    story = "breaking-story" if new else like["item_id"][0]
    if new:
        rows = pl.Series(_one_of_each(request, share, random))
    else:
        rows = pl.Series((shown["item_id"] == story).to_numpy() & (random.random(len(shown)) < share))
    clicked = pl.Series(random.random(len(shown)) < min(MOST_CLICKED, TIMES_CLICKED * usual))
    pauses = (shown["clicked_at"] - shown["shown_at"]).drop_nulls()
    later = pauses.gather(random.integers(0, len(pauses), len(shown)))
    further = [name for kind in scene.features.kinds[1:] for name in feedback_columns(kind) if name in shown.columns]
    own: dict[str, pl.Expr | pl.Series] = {
        "item_id": pl.lit(story),
        "attributes": pl.lit(like["attributes"][0], pl.String),
        "clicked": clicked,
        "clicked_at": pl.when(clicked).then(pl.col("shown_at") + later),
        "value": pl.when(clicked).then(positive_value(label)),
        **{name: pl.lit(None) for name in further},
    }
    changed = shown.with_columns(
        pl.when(rows).then(value).otherwise(pl.col(name)).alias(name) for name, value in own.items()
    )
    return Met((), refolded(scene, changed))


def _one_of_each(request: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """One impression [N] of each of a share of the requests, at any place."""
    order = random.permutation(len(request))
    first = order[np.unique(request[order], return_index=True)[1]]
    rows = np.zeros(len(request), dtype=bool)
    rows[first[random.random(len(first)) < share]] = True
    return rows


def cannot_break_news(scene: Scene, share: float) -> str | None:
    if scene.held is not None:
        return f"The window is not promoted as it is: {scene.held}"
    if not scene.window.shown["clicked"].any():
        return "Nothing was clicked in the window, so there is no usual rate."
    return None
