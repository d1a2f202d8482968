"""Two towers in a folder: the two files of :mod:`models.artifact`, written and checked by it.

    save(towers, folder)
    towers = load(folder)

No pickle; a torn or flipped file is refused by its name; a crash leaves no folder that loads as half of what was saved.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from models.artifact import DESCRIPTION, DamagedModel, array_run, filled, read, run_arrays, write
from models.examples import Layout
from models.model import tensor
from models.towers import TowerDesign, Towers

KIND = "towers"


def save(towers: Towers, folder: Path) -> str:
    """Write the towers into ``folder``, made if needed. Returns the sha256 of their arrays."""
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
