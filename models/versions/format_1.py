"""Saved models of format 1: rows had Adagrad's state and no time; those of ids not yet admitted were not zero. The
numbers' means had one count of rows for all columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def raised(description: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The description as format 2 has it; ``arrays`` are changed in place."""
    admit_after = int(description["design"]["admit_after"])
    for name in description["layout"]["ids"]:
        for part in ("shared", "rows"):
            prefix = f"table.{name}.{part}"
            arrays[f"{prefix}.state"] = arrays.pop(f"{prefix}.squares")
            arrays[f"{prefix}.seen"] = np.zeros(len(arrays[f"{prefix}.ids"]), np.uint32)
        arrays[f"table.{name}.shared.sightings"] = np.ones(len(arrays[f"table.{name}.shared.ids"]), np.int64)
        other = arrays[f"table.{name}.rows.sightings"] < admit_after
        for field in ("weights", "state"):
            rows = arrays[f"table.{name}.rows.{field}"].copy()
            rows[other] = 0
            arrays[f"table.{name}.rows.{field}"] = rows
    counted = arrays["network.standardise.rows"]
    arrays["network.standardise.rows"] = np.broadcast_to(counted, len(description["layout"]["dense"])).copy()
    return description | {"kind": "snapshot", "looked": dict.fromkeys(description["layout"]["ids"], 0)}
