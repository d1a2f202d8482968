"""The step that trains: a copy of the champion, fine-tuned on the window's training part, becomes the challenger."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flows.ledger import Claim
from flows.steps import rate_text, train_towers
from flows.surface import Surface
from flows.world import World
from models.examples import Layout
from models.exploration.thompson import Thompson
from models.frames import Frame
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.retrieval import artifact as towers_artifact
from models.retrieval.artifact import VersionTowers
from models.versions.artifact import save, save_delta, snapshot_due
from models.versions.delta import difference
from monitoring.evaluation import cost
from monitoring.evaluation.evaluate import Trained
from monitoring.evaluation.evidence import Hypothesis
from monitoring.evaluation.rated_pairs import RatedPairs
from monitoring.evaluation.window import Champion, Checks, Window
from monitoring.records import updates
from monitoring.records.updates import Span


@dataclass(frozen=True, eq=False)
class Start:
    """What a challenger is trained from."""

    champion: Champion | None
    towers: VersionTowers | None
    """The champion's."""

    earlier: Callable[[], Frame]
    """Impressions of the days before the window, for a model of another shape."""

    rated: RatedPairs | None = None
    """By which encoders are compared, on a surface that names some."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A challenger in memory."""

    trained: Trained
    towers: VersionTowers | None


@dataclass(frozen=True, eq=False)
class Challenger:
    """A challenger, and where it is written down."""

    trained: Trained
    towers: VersionTowers | None
    """Those in ``folder``, which retrieve; None: requests name their candidates."""

    folder: Path
    """To be registered from."""

    weights_sha256: str
    """Of the weights there: what is measured is what is registered, and what serves."""

    on: str | None
    """The version that these are a delta on; None: they are the whole model."""


def train(world: World, claimed: Claim, checks: Checks, champion: Champion | None) -> Challenger:
    """Train a challenger, and write it down."""
    window, surface = checks.window, world.surface
    version = None if champion is None else champion.version
    towers = None if version is None or surface.towers is None else world.towers(version)
    rated = rate_text.pairs_of(surface, world.settings.surfaces)
    fitted = fit(surface, window, Start(champion, towers, lambda: earlier(world, claimed), rated))
    model, learned = fitted.trained.model, fitted.trained.learned
    folder = world.scratch / f"challenger-{claimed.update_id}"
    if fitted.towers is not None:
        towers_artifact.save(fitted.towers.towers, folder / towers_artifact.FOLDER, fitted.towers.names)
    if champion is not None and fitted.trained.hypothesis == "not_worse":
        parent = world.loaded[champion.version].parent
        if not snapshot_due(parent):
            saved = save_delta(difference(champion.model, model, learned.changed), folder, parent=parent)
            return Challenger(fitted.trained, fitted.towers, folder, saved, champion.version)
    return Challenger(fitted.trained, fitted.towers, folder, save(model, folder), None)


def fit(surface: Surface, window: Window, start: Start) -> Fitted:
    """Fine-tune a copy of the champion on the training part; the first model starts from nothing.

    Where the surface declares another design than the champion has, the challenger is of that design, and must be
    better: of the same shape it trains on from the champion's weights, of another from the days before.
    """
    champion = None if start.champion is None else start.champion.model
    model, hypothesis = champion, _hypothesis(surface, champion)
    if champion is None:
        model = Model.new(surface.layout, surface.design, surface.seed)
    elif hypothesis == "better":
        model = _redesigned(surface, champion, start.earlier)
    assert model is not None
    seed, part = surface.seed + window.update_id, window.training_part
    model = model.explored(by_posterior=isinstance(surface.explore, Thompson))
    tuned, learned = fine_tune(model, part.examples, seed=seed, clock=time.monotonic)
    towers = train_towers.train(
        surface, start.towers, part, start.earlier if champion is not None else lambda: part[:0], seed=seed
    )
    trained = Trained(
        tuned,
        learned,
        hypothesis,
        cost.measure(tuned, learned, champion, window.frame.examples, time.perf_counter),
        None if towers is None else towers.evidence,
        rate_text.compare(start.rated, champion, tuned),
    )
    return Fitted(trained, None if towers is None else towers.loaded)


def _hypothesis(surface: Surface, champion: Model | None) -> Hypothesis:
    if champion is None or (champion.design == surface.design and not columns_differ(champion.layout, surface.layout)):
        return "not_worse"
    return "better"


def columns_differ(before: Layout, now: Layout) -> bool:
    """Whether a model would read other columns, by what they mean, than one before."""
    return before.schema_version != now.schema_version and set(before.meanings) != set(now.meanings)


def _redesigned(surface: Surface, champion: Model, earlier: Callable[[], Frame]) -> Model:
    """A model of the surface's design that was trained up to the window."""
    shape, learning = surface.design.shape, surface.design.learning
    if champion.design.shape == shape and not columns_differ(champion.layout, surface.layout):
        return champion.trained_by(learning)
    new = Model.new(surface.layout, Design(shape, replace(learning, time_budget_s=None)), surface.seed)
    model, _ = fine_tune(new, earlier().examples, seed=surface.seed, clock=time.monotonic)
    return model.trained_by(learning)


def earlier(world: World, claimed: Claim) -> Frame:
    """What a model of a new shape is trained on before the window, without what rejected updates had: broken data are
    not trained on later either."""
    span = Span(claimed.window.start - world.surface.rehearse, claimed.window.start)
    frame = world.frame(span.start, span.end, known_by=claimed.as_of)
    sound = np.ones(len(frame), dtype=bool)
    for rejected in updates.rejected_spans(world.connection, claimed.surface, span):
        sound &= ~frame.table["shown_at"].is_between(rejected.start, rejected.end, closed="right").to_numpy()
    return Frame(frame.table.filter(sound), frame.examples[np.flatnonzero(sound)], frame.without_row)
