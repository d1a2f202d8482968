"""The retriever of a surface: candidates by the towers of the version that serves, kept up by following the clicks.

The towers are those of the version that serves; the recent clicks outlive them. It begins with the clicks that the
towers were trained on, which came with the version, and goes on with those that the log has since.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.declare.features import Features
from models.retrieval.artifact import VersionTowers
from models.serving.follow.catalogue import Catalogue, Mask, Places
from models.serving.follow.champions import Champions
from models.serving.follow.click_memory import ClickMemory
from models.serving.follow.live_index import LiveIndex
from models.tables.rows import Ids

NOWHERE = -1
"""The place of an item alive whose id is not known: it cannot be named, and is never a candidate."""


@dataclass(frozen=True, eq=False)
class _State:
    """The items alive as of some click."""

    trained: VersionTowers
    """The towers it was made with, and the items alive when they were trained."""

    index: LiveIndex

    places: Places
    """[M]; of the items alive, their places in the catalogue."""

    after: int
    """The log's clicks up to this place are in it; 0 while it has none but those that the towers were trained on."""

    trained_to: float
    """Of impressions shown up to then the towers were trained on the clicks, while ``after`` is 0; seconds since
    1970."""


class Retriever:
    """The items alive of one surface. One thread follows the clicks; any may read."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        champions: Champions,
        catalogue: Catalogue,
        clicks: ClickMemory,
        clock: Callable[[], float],
    ) -> None:
        self.surface = surface
        self._names = [column.name for column in declared.of_items]
        self._champions = champions
        self._catalogue = catalogue
        self._clicks = clicks
        self._clock = clock
        self._lock = threading.Lock()
        self._state: _State | None = None

    def index(self, trained: VersionTowers) -> LiveIndex:
        """All that is known of the items alive, by the towers of one version."""
        return self._state_of(trained).index

    def candidates(self, trained: VersionTowers, ids: Ids, history: Ids, allowed: Mask, k: int) -> list[int]:
        """Places of at most ``k`` items for one user, best first; ``ids`` and ``history`` as for
        :meth:`LiveIndex.candidates`, ``allowed`` by the catalogue's places."""
        state = self._state_of(trained)
        named = (state.places != NOWHERE) & (state.places < len(allowed))
        named[named] = allowed[state.places[named]]
        found: list[int] = state.places[state.index.candidates(ids, history, k, named)].tolist()
        return found

    def _state_of(self, trained: VersionTowers) -> _State:
        with self._lock:
            state = self._state
            if state is None or state.trained is not trained:
                state = self._state = self._with_towers(state, trained)
            return state

    def _with_towers(self, state: _State | None, trained: VersionTowers) -> _State:
        """With the towers of a version that begins to serve."""
        towers, now = trained.towers, self._clock()
        self._catalogue.add([*trained.names.values()])
        alike = state is not None and state.index.towers.design == towers.design
        if state is None or not alike or state.index.recent_clicks.time < towers.recent_clicks.time:
            index = LiveIndex.of(towers, towers.recent_clicks, now)
            return _State(trained, index, self._places(index, None), 0, towers.recent_clicks.time)
        index = state.index.with_towers(towers, now)
        return _State(trained, index, self._places(index, state), state.after, state.trained_to)

    def _places(self, index: LiveIndex, before: _State | None) -> Places:
        """[M]; only those that were not alive before are looked up."""
        places = np.full(len(index.items), NOWHERE)
        if before is not None:
            at, known = before.index.index.items.find(index.items)
            places[known] = before.places[at[known]]
        lacking = np.flatnonzero(places == NOWHERE)
        places[lacking] = self._catalogue.of_keys(index.items[lacking].tolist(), NOWHERE)
        return places

    # --- following the clicks ---------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Take in the clicks that are in memory and not in the index yet, where a version in service has towers."""
        champion = self._champions.current(self.surface)
        if champion is None or champion.retrieves is None:
            return
        state, now = self._state_of(champion.retrieves), self._clock()
        clicks = self._clicks.since(state.after, -np.inf if state.after else state.trained_to)
        columns = [self._names.index(name) for name in state.index.towers.design.attributes]
        nothing: tuple[Ids, NDArray[np.float64], Ids]
        nothing = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, len(columns)), np.int64)
        taken = nothing if clicks is None else (clicks.items, clicks.times, clicks.values[:, columns])
        index = state.index.follow(*taken, now)
        after = int(clicks.seq[-1]) if clicks is not None and len(clicks) else state.after
        with self._lock:
            # Another version may have begun to serve meanwhile: then the same clicks are taken in again for it.
            if self._state is state:
                self._state = _State(state.trained, index, self._places(index, state), after, state.trained_to)
