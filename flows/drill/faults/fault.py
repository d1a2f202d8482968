"""What a fault is: what an update would meet, planted in a clean window or in several that follow each other.

met = fault.plant(scene, 1.0, np.random.default_rng(0))

What goes wrong in the log (a bot, lost labels, retries, a new client) is planted in the log and folded again, so that
the features move with it as they would; what goes wrong behind it is planted in the frame or in the training.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.declare.features import Features
from features.declare.labels import Label, combined
from flows.drill.windows import Folding, LogWindow
from models.examples import EMPTY, Examples
from models.frames import Frame
from models.learning.model import Model
from monitoring.checks.ids import codes_of
from monitoring.checks.labels import CLIPPED_AT
from monitoring.checks.profiles import Profile
from monitoring.gate.policy import Word
from monitoring.statistics.chance import CANNOT_BE, dispersion, draws, effective, surprise_above, together_by_category

RARE = 0.01
"""Share of the impressions that a value may have now and then without being news."""


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

    features: Features
    """As the surface declares them."""

    clock: Callable[[], float]

    fewest: int = 1
    """Impressions below which an update waits."""

    held: str | None = None
    """Why the window as it is was not promoted; None where it was."""

    run_up: Sequence[LogWindow] = ()
    """The windows of the two days before, in order; empty where the log has not as much, or no model served then."""

    before_run_up: Folding | None = None
    """As the fold stood at the start of these."""

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """[N] impressions of the window with a label."""
        return np.asarray(self.window.frame.examples.of_kinds[:, 0] > 0)

    @cached_property
    def users(self) -> NDArray[np.int64]:
        """[N] of whom the window's impressions are, as codes."""
        return codes_of(self.window.frame.table["user_id"])

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """[N] the champion's."""
        scores = self.champion.score(self.window.frame.examples).astype(np.float64)
        return np.clip(scores, CLIPPED_AT, 1 - CLIPPED_AT)

    @cached_property
    def together(self) -> float:
        """How far labels of one user hang together, as a dispersion."""
        label, p = self.window.frame.examples.label, self.scores
        return dispersion(label - p, p * (1 - p), self.users)

    @cached_property
    def profile(self) -> Profile:
        """What the window's features look like."""
        return Profile.of(self.window.frame.examples.dense, self.names, user=self.users)

    @property
    def size(self) -> str:
        """What the window has, in words."""
        users = len(np.unique(self.users))
        return f"{np.count_nonzero(self.labelled):,} labels of {len(self.window):,} impressions and {users:,} users"


@dataclass(frozen=True, eq=False)
class Met:
    """What the update meets: everything left None is as it would have been."""

    words: tuple[str, ...]
    """The gate's reasons must say one of these, in any case of letters. None given: there is nothing to say."""

    window: LogWindow | None = None
    """What is joined and judged on."""

    champion: Model | None = None

    start: Model | None = None
    """Where training starts from."""

    training: Examples | None = None
    """What is trained on, the rows of the window."""


Lacks = Callable[[Scene, float], str | None]
"""Why a fault cannot be planted in a scene at a strength, as a sentence; None where it can."""


def lacks_nothing(scene: Scene, strength: float) -> str | None:
    """It can be planted anywhere."""
    return None


@dataclass(frozen=True)
class Fault:
    """Something that happens within one window, at two strengths."""

    name: str

    strengths: Mapping[str, float]
    """What `plant` is given, by the strength's name."""

    expected: frozenset[Word]
    """Verdicts that are right."""

    plant: Callable[[Scene, float, np.random.Generator], Met]

    lacks: Lacks = lacks_nothing

    ladder: tuple[float, ...] | None = None
    """Rising strengths at which its sensitivity is measured; None: from a quarter of the weaker to the stronger."""


@dataclass(frozen=True)
class Story:
    """Something that comes over several windows: each is judged and followed, until one is caught."""

    name: str
    strengths: Mapping[str, float]
    expected: frozenset[Word]
    """Verdicts that are right of any of its windows."""

    tell: Callable[[Scene, float, np.random.Generator], Iterator[Met]]
    """What the updates of the scene's `run_up` and of its window meet, in order; each has a window."""

    lacks: Lacks = lacks_nothing


BAD: frozenset[Word] = frozenset({"reject", "hold"})
HOLD: frozenset[Word] = frozenset({"hold"})
SOUND: frozenset[Word] = frozenset({"promote"})


def by_chance(scene: Scene, what: str) -> str:
    """Why a fault cannot be seen in the scene: what chance does there as well."""
    return f"By chance {what} more often than once in a billion: the window has {scene.size}."


def few_lost(scene: Scene, rows: NDArray[np.bool_], lost: NDArray[np.float64] | float) -> str | None:
    """Why it cannot be seen that the label of each of some impressions, `rows` [N], is lost with such a chance [N];
    None where it can, by one who knows how many were expected. What counts in part is as good as a part of a label."""
    value = scene.window.frame.examples.label[rows]
    lost = np.broadcast_to(lost, rows.shape)[rows]
    left = 1 - lost
    surprise = float((value * (left * np.log(np.maximum(left, CLIPPED_AT)) + lost)).sum()) / scene.together
    if surprise >= CANNOT_BE:
        return None
    return by_chance(scene, f"{lost.sum():,.0f} of {len(lost):,} labels are lost")


def hardly_new(scene: Scene, share: float, values: NDArray[np.int64]) -> str | None:
    """Why it cannot be seen that such a share of the impressions has a value never seen before, in place of those of a
    column, by their codes [N] in the order of the log; None where it can."""
    independent = independent_rows(scene, values)
    if surprise_above(share, independent, RARE) >= CANNOT_BE:
        return None
    return by_chance(scene, f"a rare value has {share:.0%} of what is as good as {independent:,.0f} independent rows")


def independent_rows(scene: Scene, values: NDArray[np.int64]) -> float:
    """How many independent rows say as much of a column as the window's, by the codes [N] of its values in the order of
    the log: all of one user may have the value together."""
    users = codes_of(scene.window.shown["user_id"])
    return float(draws(len(values), effective(users), together_by_category([(values, users)])))


def relabelled(window: LogWindow, targets: np.ndarray, labels: Sequence[Label]) -> LogWindow:
    """The window with other targets [N, labels]."""
    examples = with_targets(window.frame.examples, targets, labels)
    table = window.frame.table.with_columns(pl.Series("label", examples.label))
    return replace(window, frame=Frame(table, examples, window.frame.without_row))


def with_targets(examples: Examples, targets: np.ndarray, labels: Sequence[Label]) -> Examples:
    """The examples with other targets [N, labels]."""
    targets = targets.astype(np.float32)
    if len(labels) == 1:
        return replace(examples, label=targets[:, 0])
    return replace(examples, label=combined(targets, labels), targets=targets)


def refolded(scene: Scene, shown: pl.DataFrame) -> LogWindow:
    """The window as it would be had these been the log's rows."""
    ordered = shown.sort("shown_at", maintain_order=True)
    frame = copy.deepcopy(scene.before).fold(ordered, scene.window.end)
    return replace(scene.window, frame=frame, shown=ordered)


def requests_of(shown: pl.DataFrame) -> np.ndarray:
    """The request of each impression [N], as its place among them."""
    codes: np.ndarray = shown.select(pl.struct("user_id", "request_id").rank("dense") - 1).to_series().to_numpy()
    return codes.astype(np.int64)


def some_requests(shown: pl.DataFrame, share: float, random: np.random.Generator) -> np.ndarray:
    """Impressions [N] of a share of the requests, drawn."""
    request = requests_of(shown)
    drawn: np.ndarray = (random.random(int(request.max(initial=-1)) + 1) < share)[request]
    return drawn


def positive_value(label: Label) -> float:
    """Of feedback that counts in full."""
    return float(max(label.most if label.of == "value" else 1.0, label.at_least or 0.0))


def new_users(examples: Examples) -> np.ndarray:
    """Which impressions [N] are of users without a history."""
    if not examples.history.shape[1]:
        return np.zeros(len(examples), dtype=bool)
    return np.asarray(examples.history[:, 0] == EMPTY)
