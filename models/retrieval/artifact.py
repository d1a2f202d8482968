"""Two towers in a folder: the two files of :mod:`models.versions.artifact`, written and checked by it.

    save(towers, folder)
    towers = load(folder)
    carried(version)                # what the folder of a version carries beside its ranker, in ``towers``

No pickle; a torn or flipped file is refused by its name; a crash leaves no folder that loads as half of what was saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from models.examples import Layout
from models.learning.model import tensor
from models.retrieval.towers import TowerDesign, Towers
from models.versions.artifact import (
    DESCRIPTION,
    DamagedModel,
    array_run,
    filled,
    read,
    read_description,
    run_arrays,
    write,
)

KIND = "towers"

FOLDER = "towers"
"""Where in a version's folder its towers are. They are always whole, whatever its ranker is a delta on."""


@dataclass(frozen=True, eq=False)
class Carried:
    """What a version retrieves with."""

    towers: Towers
    names: Mapping[int, str]
    """The log's id of each item alive as of the last click learned from, by its key."""


def carried(version: Path) -> Carried | None:
    """The towers in the folder of a version; None for a version that ranks alone. Raises as :func:`load`."""
    folder = version / FOLDER
    if not folder.exists():
        return None
    towers = load(folder)
    told = read_description(folder / DESCRIPTION)["names"]
    return Carried(towers, {int(item): name for item, name in told.items()})


def save(towers: Towers, folder: Path, names: Mapping[int, str] | None = None) -> str:
    """Write the towers into ``folder``, made if needed. Returns the sha256 of their arrays.

    ``names``: the log's ids of the items alive, by their keys.
    """
    lately = towers.lately
    arrays = {f"network.{name}": value.numpy() for name, value in towers.network.state_dict().items()}
    arrays |= {f"moments.{name}": value.numpy() for name, value in towers.moments.items()}
    arrays |= {f"lately.{name}": getattr(lately, name) for name in ("ids", "clicked_at", "counts", "attributes")}
    for name, table in towers.tables.items():
        arrays |= run_arrays(f"table.{name}.shared", table.shared) | run_arrays(f"table.{name}.rows", table.as_run())
    description = {
        "kind": KIND,
        "layout": asdict(towers.layout),
        "design": asdict(towers.design),
        "steps": towers.steps,
        "time": lately.time,
        "names": {str(item): name for item, name in (names or {}).items()},
    }
    return write(folder, arrays, description)


def load(folder: Path) -> Towers:
    """The towers that :func:`save` wrote there.

    Raises ``FileNotFoundError`` for a missing file and ``DamagedModel`` for one that is not as it was written, or that
    holds no towers.
    """
    description, arrays = read(folder)
    if description.get("kind") != KIND:
        kind = description.get("kind")
        raise DamagedModel(f"{folder / DESCRIPTION}: kind is {kind!r}, not {KIND!r}: give the folder of two towers")
    new = Towers.new(Layout(**description["layout"]), TowerDesign(**description["design"]), seed=0)
    new.network.load_state_dict({name: tensor(arrays[f"network.{name}"]) for name in new.network.state_dict()})
    lately = replace(
        new.lately,
        time=float(description["time"]),
        ids=arrays["lately.ids"],
        clicked_at=arrays["lately.clicked_at"],
        counts=arrays["lately.counts"],
        attributes=arrays["lately.attributes"],
    )
    tables = {
        name: filled(table, array_run(f"table.{name}.shared", arrays), array_run(f"table.{name}.rows", arrays), 0)
        for name, table in new.tables.items()
    }
    moments = {name: tensor(arrays[f"moments.{name}"]) for name in new.moments}
    return Towers(new.layout, new.design, new.network, tables, lately, moments, int(description["steps"]))
