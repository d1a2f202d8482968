"""From a promoted version to a champion that can score: whole, as a delta on the one in service, or by a step back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.examples import Examples, Layout
from models.learning.model import Model
from models.retrieval.artifact import VersionTowers
from models.serving.follow.version_cache import CACHED_VERSIONS, LoadedVersion, PromotedVersion, VersionCache
from models.serving.scoring.scorer import Scorer, scorer_of
from models.versions import delta
from models.versions.folder import DamagedModel


@dataclass(frozen=True, eq=False)
class StepBack:
    """The step from a version back to the one it was a delta on."""

    sha256: str
    """Of the ``model.json`` of the version that it leads to."""

    step: delta.Delta


@dataclass(frozen=True, eq=False)
class LoadedChampion:
    """A model version in service."""

    promoted: PromotedVersion
    loaded: LoadedVersion
    scorer: Scorer | Model
    """The model of ``loaded``, as it reads this process's features, ready to score the candidates of a request."""

    retrieves: VersionTowers | None = None
    """What the same version retrieves with, as it reads them; None where requests must name their candidates."""

    back: tuple[StepBack, ...] = ()
    """Steps back to the versions it came from, the nearest first."""

    @property
    def version(self) -> str:
        return self.promoted.version


class UnusableVersion(ValueError):
    """A promoted version cannot rank this surface's features."""


class VersionLoader:
    """Loads versions of all surfaces, each for the layout of its features here. Used by one thread."""

    def __init__(self, layouts: Mapping[str, Layout], cache: VersionCache) -> None:
        self._layouts = layouts
        self._cache = cache

    def load(self, surface: str, promoted: PromotedVersion, serving: LoadedChampion | None) -> LoadedChampion:
        """The version of a promotion, ready to score. Raises UnusableVersion, and whatever keeps it from being loaded.

        From ``serving``, the version in service, it is made by a step back or by what it changed on that one, where it
        can be.
        """
        if serving is not None and (back := self._stepped_back(surface, promoted, serving)) is not None:
            return back
        in_memory = {} if serving is None else {serving.loaded.sha256: serving.loaded.model}
        used = set[str]()

        def known(sha256: str) -> Model | None:
            used.add(sha256)
            return in_memory.get(sha256)

        loaded = self._cache.load(surface, promoted, known)
        steps: tuple[StepBack, ...] = ()
        if serving is not None and used == {serving.loaded.sha256}:
            step = delta.inverse(self._cache.step(surface, promoted), serving.loaded.model)
            steps = (StepBack(serving.loaded.sha256, step), *serving.back)[: CACHED_VERSIONS - 1]
        return self._champion(surface, promoted, loaded, steps)

    def restore(self, surface: str) -> LoadedChampion | None:
        """The version that served when the process ended, from the cache alone; None when there was none. Raises as
        :meth:`load`."""
        restored = self._cache.restore(surface)
        return None if restored is None else self._champion(surface, *restored)

    def _stepped_back(self, surface: str, promoted: PromotedVersion, serving: LoadedChampion) -> LoadedChampion | None:
        """A version that the one in service came from, without reading it again; None when it is not one of those."""
        wanted = self._cache.digest(surface, promoted)
        ahead = [back.sha256 for back in serving.back]
        if wanted is None or wanted not in ahead:
            return None
        count = ahead.index(wanted) + 1
        try:
            retrieves = self._cache.retrieves(surface, promoted)
        except DamagedModel:
            return None
        model = serving.loaded.model
        for back in serving.back[:count]:
            model = delta.apply(model, back.step)
        return self._champion(surface, promoted, LoadedVersion(model, wanted, retrieves), serving.back[count:])

    def _champion(
        self, surface: str, promoted: PromotedVersion, loaded: LoadedVersion, back: tuple[StepBack, ...] = ()
    ) -> LoadedChampion:
        retrieves, layout = loaded.retrieves, self._layouts[surface]
        scorer = _ready(_reading(loaded.model, layout), layout)
        if retrieves is not None:
            try:
                retrieves = replace(retrieves, towers=retrieves.towers.reading(layout))
            except ValueError as error:
                raise UnusableVersion(f"its towers: {error}: start serving from the code that trained them") from error
        return LoadedChampion(promoted, loaded, scorer, retrieves, back)


def _reading(model: Model, layout: Layout) -> Model:
    """The model as it reads this process's features. Raises UnusableVersion for one that lacks some of its own here."""
    try:
        return model.reading(layout)
    except ValueError as error:
        raise UnusableVersion(
            f"{error}: start serving from the code that trained it, or keep what it reads declared until a model"
            " without it is in service"
        ) from error


def _ready(model: Model, layout: Layout) -> Scorer | Model:
    """What scores with the model, having scored once, since the first time is slow. Raises UnusableVersion for a model
    that gives no numbers."""
    scorer = scorer_of(model)
    blank = Examples(
        dense=np.zeros((1, len(layout.dense)), np.float32),
        ids=np.zeros((1, len(layout.ids)), np.int64),
        history=np.zeros((1, layout.history), np.int64),
        label=np.zeros(1, np.float32),
        request=np.zeros(1, np.int64),
        time=np.zeros(1),
    )
    score = scorer.score(blank)
    if not np.isfinite(score).all():
        raise UnusableVersion(f"it scores {score[0]}: a model that gives no numbers cannot rank")
    return scorer
