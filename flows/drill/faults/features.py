"""Features that are not what they were: stuck, in other units, not known, or knowing the label."""

from dataclasses import replace

import numpy as np

from features.counters.float16 import to_float16
from flows.drill.faults.fault import Met, Scene, too_few
from flows.drill.windows import LogWindow
from models.frames import Frame
from monitoring.evaluation.drift import important

VARIES = 0.5
"""Share of the impressions that one value of a feature may have, for it to be one that varies."""

PLACES = 5
"""Features, of those that vary, in which faults are planted."""


def stuck_at_zero(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """The feature that the champion leans on most is zero on a share of the impressions."""
    column = important_features(scene)[0]
    values = scene.window.frame.examples.dense[:, column].copy()
    values[random.random(len(values)) < share] = 0
    return Met((scene.names[column],), with_feature(scene.window, column, values))


def other_units(scene: Scene, factor: float, random: np.random.Generator) -> Met:
    """A feature of which the champion makes much comes in other units."""
    column = important_features(scene)[int(random.integers(0, 3))]
    values = scene.window.frame.examples.dense[:, column] * factor
    return Met((scene.names[column],), with_feature(scene.window, column, values))


def not_known(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A feature is NaN on a share of the impressions."""
    column = important_features(scene)[1]
    values = scene.window.frame.examples.dense[:, column].copy()
    values[random.random(len(values)) < share] = np.nan
    return Met((scene.names[column],), with_feature(scene.window, column, values))


def future_leaked(scene: Scene, deviations: float, random: np.random.Generator) -> Met:
    """A feature has counted the impression's own label: it is higher by so many deviations where there is one."""
    column = important_features(scene)[2 + int(random.integers(0, 3))]
    examples = scene.window.frame.examples
    values = examples.dense[:, column]
    leak = deviations * float(np.nanstd(values)) * (examples.of_kinds[:, 0] > 0)
    return Met((scene.names[column],), with_feature(scene.window, column, values + leak))


def cannot_break(scene: Scene, strength: float) -> str | None:
    found = len(important_features(scene))
    if found < PLACES:
        return f"Of the features that move the champion's predictions {found} vary in the window; it takes {PLACES}."
    return None


def cannot_leak(scene: Scene, strength: float) -> str | None:
    return cannot_break(scene, strength) or too_few(scene, 1.0, scene.labelled)


def important_features(scene: Scene) -> list[int]:
    """Columns of the features that the champion leans on, most first, of those that vary."""
    examples = scene.window.frame.examples
    ranked = important(examples.dense, scene.champion.score(examples), scene.names, limit=len(scene.names))
    columns = (scene.names.index(name) for name in ranked)
    return [column for column in columns if _varies(examples.dense[:, column])][:PLACES]


def _varies(values: np.ndarray) -> bool:
    known = values[np.isfinite(values)]
    counts = np.unique(known, return_counts=True)[1]
    return len(known) == len(values) and int(counts.max(initial=0)) < VARIES * len(values)


def with_feature(window: LogWindow, column: int, values: np.ndarray) -> LogWindow:
    """The window with other values [N] of one feature, as served rows can hold them."""
    dense = window.frame.examples.dense.copy()
    dense[:, column] = to_float16(values.astype(np.float64)[:, None])[:, 0]
    examples = replace(window.frame.examples, dense=dense)
    return replace(window, frame=Frame(window.frame.table, examples, window.frame.without_row))
