"""The texts of a log in memory, for the surfaces that read texts: each is encoded once.

texts = texts_of(log, surface)                # None where the surface reads none
"""

import numpy as np

from features.log.json_texts import objects_of
from flows.drill.logs import Log
from flows.surface import Surface
from models.text.known import texts_in
from models.text.pretrained import base_of
from models.text.texts import Texts, VectorTable


def texts_of(log: Log, surface: Surface) -> Texts | None:
    """Of all that the log has shown. Raises ``LacksTextExtra``, ``NoEncoder``."""
    design, declared = surface.design.text, surface.features
    if design is None:
        return None
    base = base_of(design.encoder, design.layers, wanted_by=f"surface {surface.name}")
    objects = [one for name in ("attributes", "context") for one in objects_of(log.shown[name])[0]]
    items = dict(texts_in(declared, [design.item], objects))
    queries = {} if design.query is None else dict(texts_in(declared, [design.query], objects))
    vectors = VectorTable.of(np.array([*items], np.int64), base.encode([*items.values()]))
    return Texts(base, {**items, **queries}, vectors)
