"""Faults planted in a clean window, each as what an update would then have met.

    met = FAULTS[0].plant(scene, 1.0, np.random.default_rng(0))

What goes wrong in the log (a bot, lost clicks, retries) is planted in the log and folded again, so that the features
move with it as they would; what goes wrong behind it is planted in the frame or in the training.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from features.counters.float16 import to_float16
from flows.drill.windows import Folding, LogWindow
from models import metrics
from models.examples import EMPTY, Examples
from models.frames import Frame
from models.learning.learner import fine_tune
from models.learning.model import Model
from monitoring.evaluation.drift import important
from monitoring.evaluation.window import context_of
from monitoring.gate.policy import Word

COMMON = 0.05
"""Share of the impressions from which a value of the context is common."""

HALVINGS = 7
"""Steps in which a share of one is found to a hundredth."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A clean window and what stood before it."""

    window: LogWindow

    before: Folding
    """As the fold stood at the window's start; to be copied, not moved."""

    champion: Model

    earlier: Sequence[LogWindow]
    """Clean windows just before, in order."""

    stale: Model
    """The champion as it was before the `earlier` windows."""

    names: tuple[str, ...]
    """Of the features."""

    contexts: Mapping[str, str]

    clock: Callable[[], float]


@dataclass(frozen=True, eq=False)
class Met:
    """What the update meets: everything left None is as it would have been."""

    words: tuple[str, ...]
    """The gate's reasons must say one of these, in any case of letters."""

    window: LogWindow | None = None
    """What is joined and judged on."""

    champion: Model | None = None

    start: Model | None = None
    """Where training starts from."""

    training: Examples | None = None
    """What is trained on, the rows of the window."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault, at two strengths."""

    name: str

    strengths: Mapping[str, float]
    """What `plant` is given, by the strength's name."""

    expected: frozenset[Word]
    """Verdicts that are right."""

    plant: Callable[[Scene, float, np.random.Generator], Met]

    applies: Callable[[Scene], bool] = lambda scene: True
    """Whether the log has what it takes."""

    ladder: tuple[float, ...] | None = None
    """Rising strengths at which its sensitivity is measured; None: from a quarter of the weaker to the stronger."""


def relabelled(window: LogWindow, label: np.ndarray) -> LogWindow:
    """The window with other labels [N]."""
    table = window.frame.table.with_columns(pl.Series("label", label.astype(np.float32)))
    examples = replace(window.frame.examples, label=label.astype(np.float32))
    return replace(window, frame=Frame(table, examples, window.frame.without_row))


def with_feature(window: LogWindow, column: int, values: np.ndarray) -> LogWindow:
    """The window with other values [N] of one feature, as served rows can hold them."""
    dense = window.frame.examples.dense.copy()
    dense[:, column] = to_float16(values.astype(np.float64)[:, None])[:, 0]
    examples = replace(window.frame.examples, dense=dense)
    return replace(window, frame=Frame(window.frame.table, examples, window.frame.without_row))


def refolded(scene: Scene, shown: pl.DataFrame) -> LogWindow:
    """The window as it would be had these been the log's rows."""
    ordered = shown.sort("shown_at", maintain_order=True)
    frame = copy.deepcopy(scene.before).fold(ordered, scene.window.end)
    return replace(scene.window, frame=frame, shown=ordered)


def important_feature(scene: Scene, place: int) -> int:
    """Column of the feature that the champion leans on most (0), next to most (1), ..., of those that vary."""
    examples = scene.window.frame.examples
    ranked = important(examples.dense, scene.champion.score(examples), scene.names, limit=len(scene.names))
    return scene.names.index(ranked[place])


# -- labels ---------------------------------------------------------------------------------------------------------


def labels_shuffled(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """Labels of a share of the impressions dealt out among them anew."""
    label = scene.window.frame.examples.label.copy()
    chosen = np.flatnonzero(random.random(len(label)) < share)
    label[chosen] = random.permutation(label[chosen])
    return Met(("labels follow", "shuffled"), relabelled(scene.window, label))


def window_not_closed(scene: Scene, minutes: float, random: np.random.Generator) -> Met:
    """Joined at the window's end, before its late clicks were known; they come after so many minutes on average."""
    examples = scene.window.frame.examples
    left = scene.window.end.timestamp() - examples.time
    known = random.exponential(60 * minutes, len(left)) <= left
    return Met(("closed", "the latest"), relabelled(scene.window, examples.label * known))


def value_dropped(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the clicks of one value of a context column never reached the log."""
    column = widest(scene)
    values = context_of(scene.window.shown, scene.contexts[column])
    # The second largest: the largest may be most of the site, and then it is no longer a matter of one value.
    value = values.value_counts(sort=True)[values.name][1]
    lost = (values == value).to_numpy() & (random.random(len(values)) < share)
    shown = scene.window.shown.with_columns(
        (pl.col("clicked") & ~pl.Series(lost)).alias("clicked"),
        pl.when(~pl.Series(lost)).then("clicked_at").alias("clicked_at"),
    )
    names = (f"{column} = {value}", f"{column} {value}", f"{column} '{value}'", f"{column}={value}")
    return Met(names, refolded(scene, shown))


def widest(scene: Scene) -> str:
    """The context column with most values that are each common: COMMON of the impressions or more."""
    counts = {
        name: int((context_of(scene.window.shown, key).value_counts()["count"] >= COMMON * len(scene.window)).sum())
        for name, key in scene.contexts.items()
    }
    return max(counts, key=lambda name: (counts[name], name))


def has_contexts(scene: Scene) -> bool:
    """Is there a context column with a second value?"""
    return any(context_of(scene.window.shown, key).n_unique() > 1 for key in scene.contexts.values())


# -- features -------------------------------------------------------------------------------------------------------


def stuck_at_zero(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """The feature that the champion leans on most is zero on a share of the impressions."""
    column = important_feature(scene, 0)
    values = scene.window.frame.examples.dense[:, column].copy()
    values[random.random(len(values)) < share] = 0
    return Met((scene.names[column],), with_feature(scene.window, column, values))


def other_units(scene: Scene, factor: float, random: np.random.Generator) -> Met:
    """A feature of which the champion makes much comes in other units."""
    column = important_feature(scene, int(random.integers(0, 3)))
    values = scene.window.frame.examples.dense[:, column] * factor
    return Met((scene.names[column],), with_feature(scene.window, column, values))


def not_known(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A feature is NaN on a share of the impressions."""
    column = important_feature(scene, 1)
    values = scene.window.frame.examples.dense[:, column].copy()
    values[random.random(len(values)) < share] = np.nan
    return Met((scene.names[column],), with_feature(scene.window, column, values))


def future_leaked(scene: Scene, deviations: float, random: np.random.Generator) -> Met:
    """A feature has counted the impression's own click: it is higher by so many deviations where there is one."""
    column = important_feature(scene, 2 + int(random.integers(0, 3)))
    examples = scene.window.frame.examples
    values = examples.dense[:, column]
    leak = deviations * float(np.nanstd(values)) * examples.label
    return Met((scene.names[column],), with_feature(scene.window, column, values + leak))


# -- the log --------------------------------------------------------------------------------------------------------


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
    )
    return Met(("bot-7",), refolded(scene, pl.concat([shown, theirs])))


def logged_twice(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the clicked impressions come once more under other ids, as from a client that tries again."""
    shown = scene.window.shown
    repeats = shown.filter(pl.col("clicked") & pl.Series(random.random(len(shown)) < share)).with_columns(
        ("retry-" + pl.col("impression_id")).alias("impression_id")
    )
    return Met(("repeat", "twice", "duplicate"), refolded(scene, pl.concat([shown, repeats])))


def traffic_lost(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the requests never reached the log."""
    shown = scene.window.shown
    requests = shown["request_id"].unique(maintain_order=True)
    kept = requests.filter(pl.Series(random.random(len(requests)) >= share))
    left = shown.filter(pl.col("request_id").is_in(kept.implode()))
    return Met(("'volume'",), refolded(scene, left))


def items_renamed(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A share of the items go by ids that nobody has seen before."""
    shown = scene.window.shown
    items = shown["item_id"].unique(maintain_order=True)
    chosen = items.filter(pl.Series(random.random(len(items)) < share))
    renamed = pl.when(pl.col("item_id").is_in(chosen.implode())).then("v2-" + pl.col("item_id")).otherwise("item_id")
    return Met(("new items",), refolded(scene, shown.with_columns(renamed.alias("item_id"))))


# -- training ----------------------------------------------------------------------------------------------------


def rate_too_high(scene: Scene, factor: float, random: np.random.Generator) -> Met:
    """Both learning rates too high."""
    own = scene.champion.design.learning
    wild = replace(own, rate=factor * own.rate, table_rate=factor * own.table_rate)
    return Met(("log loss", "training stopped", "worse"), scene.window, start=scene.champion.trained_by(wild))


def worse_for_new_readers(scene: Scene, growth: float, random: np.random.Generator) -> Met:
    """A challenger that was trained on two days more than its champion, a share of what new readers were shown taken
    for clicked: better on the whole, and on those its log loss is higher by ``growth``, a share of the champion's."""
    judged, seed = scene.window.frame.examples, int(random.integers(2**31))
    theirs = judged[np.flatnonzero(new_readers(judged))]
    before = metrics.log_loss(scene.stale.score(theirs), theirs.label)

    def trained(share: float) -> Model:
        drawn = np.random.default_rng(seed)
        model = scene.stale
        for window in scene.earlier:
            part = poisoned(window.frame.examples, share, drawn)
            model, _ = fine_tune(model, part, seed=int(drawn.integers(2**31)), clock=scene.clock)
        return model

    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        model = trained(share)
        enough = metrics.log_loss(model.score(theirs), theirs.label) > before * (1 + growth)
        low, high = (low, share) if enough else (share, high)
    training = poisoned(judged, share, random)
    return Met(("reader = new", "new reader", "reader new", "new user"), scene.window, scene.stale, model, training)


def poisoned(examples: Examples, share: float, random: np.random.Generator) -> Examples:
    """A share of what was shown to those who have not clicked before, taken for clicked."""
    label = examples.label.copy()
    label[new_readers(examples) & (random.random(len(label)) < share)] = 1.0
    return replace(examples, label=label)


def new_readers(examples: Examples) -> np.ndarray:
    """Which impressions [N] are of those who have not clicked before."""
    return np.asarray(examples.history[:, 0] == EMPTY)


BAD: frozenset[Word] = frozenset({"reject", "hold"})
HOLD: frozenset[Word] = frozenset({"hold"})

FAULTS = (
    Fault("labels shuffled for the window", {"all of them": 1.0, "half of them": 0.5}, BAD, labels_shuffled),
    Fault("a feature stuck at zero", {"everywhere": 1.0, "on half of the rows": 0.5}, BAD, stuck_at_zero),
    Fault(
        "a feature in other units",
        {"x 100": 100.0, "x 2.54": 2.54},
        BAD,
        other_units,
        ladder=(1.2, 1.6, 2.54, 10.0, 100.0),
    ),
    Fault("a feature not known", {"everywhere": 1.0, "on a third of the rows": 1 / 3}, BAD, not_known),
    Fault("the future leaked into a feature", {"by 4 sd": 4.0, "by 1.5 sd": 1.5}, BAD, future_leaked),
    Fault("clicks of one context dropped", {"all of them": 1.0, "60 % of them": 0.6}, BAD, value_dropped, has_contexts),
    Fault("a bot that clicks everything", {"10 % of the requests": 0.1, "2 % of the requests": 0.02}, BAD, bot),
    Fault("feedback logged twice", {"20 % of the clicks": 0.2, "3 % of the clicks": 0.03}, BAD, logged_twice),
    Fault(
        "an attribution window not closed", {"clicks after 15 min": 15.0, "after 6 min": 6.0}, HOLD, window_not_closed
    ),
    Fault("traffic lost", {"95 % of it": 0.95, "80 % of it": 0.8}, BAD, traffic_lost),
    Fault("items under new ids", {"all of them": 1.0, "40 % of them": 0.4}, BAD, items_renamed),
    Fault("a learning rate too high", {"x 300": 300.0, "x 100": 100.0}, BAD, rate_too_high, ladder=(3.0, 30.0, 300.0)),
    Fault(
        "better overall, worse for new readers",
        {"by 15 %": 0.15, "by 13 %": 0.13},
        HOLD,
        worse_for_new_readers,
        ladder=(0.03, 0.06, 0.13),
    ),
)
