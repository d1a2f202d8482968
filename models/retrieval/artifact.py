"""Two towers in a folder: the two files of :mod:`models.versions.folder`.

save(towers, folder)
towers = load(folder)
load_version_towers(version)         # what the folder of a version holds beside its ranker, in ``towers``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.examples import Layout
from models.retrieval.tower_design import TowerDesign
from models.retrieval.towers import Towers
from models.tensors import tensor
from models.versions.artifact import array_segment, filled, segment_arrays
from models.versions.folder import DESCRIPTION, DamagedModel, read, read_description, write

TOWERS_KIND = "towers"

FOLDER = "towers"
"""Where in a version's folder its towers are. They are always whole, whatever its ranker is a delta on."""


@dataclass(frozen=True, eq=False)
class VersionTowers:
    """What a version retrieves with."""

    towers: Towers
    names: Mapping[int, str]
    """The log's id of each item alive as of the last click trained on, by its key."""


def load_version_towers(version: Path) -> VersionTowers | None:
    """The towers in the folder of a version; None for a version that ranks alone. Raises as :func:`load`."""
    folder = version / FOLDER
    if not folder.exists():
        return None
    towers = load(folder)
    names = read_description(folder / DESCRIPTION)["names"]
    return VersionTowers(towers, {int(item): name for item, name in names.items()})


def save(towers: Towers, folder: Path, names: Mapping[int, str] | None = None) -> str:
    """Write the towers into ``folder``, made if needed. Returns the sha256 of their arrays.

    ``names``: the log's ids of the items alive, by their keys.
    """
    recent = towers.recent_clicks
    arrays = {f"network.{name}": value.numpy() for name, value in towers.network.state_dict().items()}
    arrays |= {f"moments.{name}": value.numpy() for name, value in towers.moments.items()}
    arrays |= {f"recent_clicks.{name}": array for name, array in vars(recent).items() if isinstance(array, np.ndarray)}
    for name, table in towers.tables.items():
        arrays |= segment_arrays(f"table.{name}.shared", table.shared)
        arrays |= segment_arrays(f"table.{name}.rows", table.compacted())
    description = {
        "kind": TOWERS_KIND,
        "layout": asdict(towers.layout),
        "design": asdict(towers.design),
        "steps": towers.steps,
        "time": recent.time,
        "names": {str(item): name for item, name in (names or {}).items()},
    }
    return write(folder, arrays, description)


def load(folder: Path) -> Towers:
    """The towers that :func:`save` wrote there.

    Raises ``FileNotFoundError`` for a missing file and ``DamagedModel`` for one that is not as it was written, or that
    holds no towers.
    """
    description, arrays = read(folder)
    if description.get("kind") != TOWERS_KIND:
        kind = description.get("kind")
        raise DamagedModel(
            f"{folder / DESCRIPTION}: kind is {kind!r}, not {TOWERS_KIND!r}: give the folder of two towers"
        )
    new = Towers.new(Layout(**description["layout"]), TowerDesign(**description["design"]), seed=0)
    new.network.load_state_dict({name: tensor(arrays[f"network.{name}"]) for name in new.network.state_dict()})
    tables = {
        name: filled(table, array_segment(f"table.{name}.shared", arrays), array_segment(f"table.{name}.rows", arrays))
        for name, table in new.tables.items()
    }
    moments = {name: tensor(arrays[f"moments.{name}"]) for name in new.moments}
    recent = replace(
        new.recent_clicks,
        time=float(description["time"]),
        ids=arrays["recent_clicks.ids"],
        clicked_at=arrays["recent_clicks.clicked_at"],
        counts=arrays["recent_clicks.counts"],
        attributes=arrays["recent_clicks.attributes"],
    )
    return Towers(new.layout, new.design, new.network, tables, recent, moments, int(description["steps"]))
