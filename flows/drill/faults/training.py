"""A challenger that went wrong in training, on data that are sound."""

import math
from dataclasses import replace

import numpy as np

from flows.drill.faults.fault import Met, Scene, new_users, with_targets
from models import metrics
from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from monitoring.gate.policy import Policy

HALVINGS = 7
"""Steps in which a share of one is found to a hundredth."""

FEWEST_NEW, MOST_NEW = 0.05, 0.8
"""Share of impressions of new users between which a challenger can be better on the whole and worse for them."""

FEWEST_LABELS, WILD = 100, 200.0
"""Labels of a window from which a learning rate shows, and how many times too high it always does."""

ALLOWED = Policy().slices.at_most
"""Growth of a slice's log loss that a policy allows by itself."""

SHOWN = 4.5
"""Standard errors from which one of a dozen slices is shown to lose, nine times in ten."""

FEWEST_EARLIER = 24
"""Windows by which a challenger must be ahead to be better on the whole."""


def rate_too_high(scene: Scene, factor: float, random: np.random.Generator) -> Met:
    """Both learning rates too high."""
    own = scene.champion.design.learning
    wild = replace(own, rate=factor * own.rate, table_rate=factor * own.table_rate)
    return Met(("log loss", "training stopped", "worse"), scene.window, start=scene.champion.trained_by(wild))


def hardly_trains(scene: Scene, factor: float) -> str | None:
    labels = np.count_nonzero(scene.labelled)
    if labels < FEWEST_LABELS and factor < WILD:
        return f"A challenger hardly learns from {labels:,} labels, at whatever rate; it takes {FEWEST_LABELS}."
    return None


def worse_for_new_readers(scene: Scene, growth: float, random: np.random.Generator) -> Met:
    """A challenger that was trained on many windows more than its champion, a share of what new readers were shown
    taken for clicked: better on the whole, and on those its log loss is higher by ``growth``, a share of the
    champion's."""
    judged, seed = scene.window.frame.examples, int(random.integers(2**31))
    theirs = judged[np.flatnonzero(new_users(judged))]
    before = metrics.log_loss(scene.stale.score(theirs), theirs.label)

    def trained(share: float) -> Model:
        drawn = np.random.default_rng(seed)
        model = scene.stale
        for window in scene.earlier:
            part = poisoned(scene, window.frame.examples, share, drawn)
            model, _ = fine_tune(model, part, seed=int(drawn.integers(2**31)), clock=scene.clock)
        return model

    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        model = trained(share)
        enough = metrics.log_loss(model.score(theirs), theirs.label) > before * (1 + growth)
        low, high = (low, share) if enough else (share, high)
    training = poisoned(scene, judged, share, random)
    return Met(("reader = new", "new reader", "reader new", "new user"), scene.window, scene.stale, model, training)


def nobody_is_new(scene: Scene, growth: float) -> str | None:
    if not scene.features.history:
        return "The surface keeps no history of its users, so none is new."
    share = float(np.mean(new_users(scene.window.frame.examples)))
    if not FEWEST_NEW <= share <= MOST_NEW:
        return (
            f"Users without a history have {share:.0%} of the impressions; it takes {FEWEST_NEW:.0%} to {MOST_NEW:.0%}."
        )
    theirs = scene.window.frame.examples[np.flatnonzero(new_users(scene.window.frame.examples))]
    lost = metrics.log_loss(scene.stale.score(theirs), theirs.label)
    # The loss of a shift of probabilities has twice its mean for a variance, where the shift is small.
    errors = (growth - ALLOWED) * lost / math.sqrt(2 * growth * lost / len(theirs))
    if errors < SHOWN:
        return (
            f"New readers have {len(theirs):,} impressions: that their log loss is higher by more than {ALLOWED:.0%}"
            f" would be {errors:.1f} standard errors, and it takes {SHOWN}."
        )
    if len(scene.earlier) < FEWEST_EARLIER:
        return f"Only {len(scene.earlier)} updates were promoted before, and it takes {FEWEST_EARLIER}."
    return None


def poisoned(scene: Scene, examples: Examples, share: float, random: np.random.Generator) -> Examples:
    """A share of what was shown to new users, taken for clicked."""
    targets = examples.of_kinds.copy()
    targets[new_users(examples) & (random.random(len(targets)) < share), 0] = 1.0
    return with_targets(examples, targets, scene.features.labels)
