"""Features that are not what they were: stuck, in other units, not known, or knowing the label."""

import math
from dataclasses import replace

import numpy as np

from features.counters.float16 import to_float16
from flows.drill.faults.fault import Met, Scene, by_chance
from flows.drill.windows import LogWindow
from models.frames import Frame
from models.metrics import auc
from monitoring.checks.limits import Limits
from monitoring.evaluation.drift import important
from monitoring.statistics.chance import ERRORS_CANNOT_BE

VARIES = 0.5
"""Share of the impressions that one value of a feature may have, for it to be one that varies."""

PLACES = 5
"""Features, of those that vary, in which faults are planted."""

FEWEST_INDEPENDENT = 30
"""Independent rows that a feature has in the window at least: what fewer have is their own."""

TO_SEE_A_SCALE, GROSS = 100, 10.0
"""The same to see that values are a few times what they were, and from how many times any tell."""


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
    column = _leaky(scene)[int(random.integers(0, 3))]
    return Met((scene.names[column],), with_feature(scene.window, column, _leaked(scene, column, deviations)))


def _leaky(scene: Scene) -> list[int]:
    return important_features(scene)[2:]


def _leaked(scene: Scene, column: int, deviations: float) -> np.ndarray:
    values = scene.window.frame.examples.dense[:, column]
    return values + deviations * float(np.nanstd(values)) * scene.labelled


def cannot_break(scene: Scene, strength: float) -> str | None:
    found = len(important_features(scene))
    if found < PLACES:
        return (
            f"Of the features that move the champion's predictions {found} vary in the window, in what is as good as"
            f" {FEWEST_INDEPENDENT} independent rows or more; it takes {PLACES}. The window has {scene.size}."
        )
    return None


def cannot_scale(scene: Scene, factor: float) -> str | None:
    lacking = cannot_break(scene, factor)
    if lacking is None and factor < GROSS:
        profile, three = scene.profile, important_features(scene)[:3]
        independent = float(profile.draws(profile.together)[three].min())
        if independent < TO_SEE_A_SCALE:
            return (
                f"A feature has what is as good as {independent:,.0f} independent rows, and it takes {TO_SEE_A_SCALE}"
                f" to see that values are {factor:g} times what they were. The window has {scene.size}."
            )
    return lacking


def cannot_leak(scene: Scene, strength: float) -> str | None:
    lacking, labelled = cannot_break(scene, strength), scene.labelled
    if lacking is not None:
        return lacking
    if labelled.all() or not labelled.any():
        return "All impressions of the window have the same label."
    profile, dense = scene.profile, scene.window.frame.examples.dense
    for column in _leaky(scene):
        rows = float(profile.draws(profile.together)[column])
        counts = [max(1.0, rows * share) for share in (labelled.mean(), 1 - labelled.mean())]
        error = math.sqrt(sum(1 / count for count in counts) / 12)  # of an AUC near a half
        before, after = (
            abs(auc(values, labelled) - 0.5) for values in (dense[:, column], _leaked(scene, column, strength))
        )
        if after - before - Limits.leak < ERRORS_CANNOT_BE * error:
            return by_chance(scene, f"{scene.names[column]} ranks labels as well")
    return None


def important_features(scene: Scene) -> list[int]:
    """Columns of the features that the champion leans on, most first, of those that vary in independent rows."""
    profile = scene.profile
    ranked = important(scene.window.frame.examples.dense, scene.scores, scene.names, limit=len(scene.names))
    varies = (profile.unknown == 0) & (profile.mode_share < VARIES)
    varies &= profile.draws(profile.together) >= FEWEST_INDEPENDENT
    columns = (scene.names.index(name) for name in ranked)
    return [column for column in columns if varies[column]][:PLACES]


def with_feature(window: LogWindow, column: int, values: np.ndarray) -> LogWindow:
    """The window with other values [N] of one feature, as served rows can hold them."""
    dense = window.frame.examples.dense.copy()
    dense[:, column] = to_float16(values.astype(np.float64)[:, None])[:, 0]
    examples = replace(window.frame.examples, dense=dense)
    return replace(window, frame=Frame(window.frame.table, examples, window.frame.without_row))
