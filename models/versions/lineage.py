"""Versions that are deltas on others, put together from the folders they were written to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from models.learning.model import Model
from models.versions.artifact import Parent, load
from models.versions.folder import DESCRIPTION, DamagedModel


def load_version(
    folder: Path, fetch: Callable[[Parent], Path], cached: Callable[[str], Model | None] = lambda sha256: None
) -> Model:
    """The model in ``folder``: a snapshot, or a delta on others down to a snapshot or to a model at hand.

    ``fetch`` gives the folder of a parent; ``cached`` the model whose ``model.json`` has a sha256, if it is in memory:
    then only what changed since is read. Raises as :func:`models.versions.artifact.load`, and DamagedModel where a
    fetched folder is not the parent's.
    """

    def parent(chain: Parent) -> Model:
        model = cached(chain.sha256)
        if model is not None:
            return model
        below = fetch(chain)
        found = hashlib.sha256((below / DESCRIPTION).read_bytes()).hexdigest()
        if found != chain.sha256:
            raise DamagedModel(
                f"{below / DESCRIPTION}: has the sha256 {found}, and the delta is on {chain.sha256}: fetch it again"
            )
        return load(below, parent)

    return load(folder, parent)
