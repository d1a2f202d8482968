"""The texts of logged impressions, looked up by the keys that their served rows have.

texts = known(connection, "search", declared, design, frame.table, ids)
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import psycopg

from features.declare.features import Features
from features.identity.canonical import canonical
from features.identity.key import key_of
from features.identity.keys import Keys
from features.log.items import lives
from features.log.json_texts import objects_of
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
from models.text.texts import Texts
from models.text.vectors import encoded, read
from models.text.wording_design import WordingDesign


def known(
    connection: psycopg.Connection,
    surface: str,
    declared: Features,
    design: TextDesign | WordingDesign,
    impressions: pl.DataFrame,
    ids: Keys,
) -> Texts:
    """What is known of the texts of N impressions (``context``, ``item_id``) with these ids (N, K). Vectors that are
    not there yet are made, and kept. Raises ``LacksTextExtra``, ``NoEncoder``.

    The text of an item that has another one since is known by its vector alone, where that was made in time.
    """
    base = base_of(design.encoder, design.layers, wanted_by=f"surface {surface}")
    objects, _ = objects_of(impressions["context"])
    attributes = [life.attributes for life in lives(connection, surface, impressions["item_id"].unique().to_list())]
    asked = [] if design.query is None else [design.query]
    names = [*asked, design.item]
    found = {**dict(texts_in(declared, names, attributes)), **dict(texts_in(declared, names, objects))}
    shown = {key: found.get(key) for key in ids[:, declared.ids.index(design.item)].tolist() if key}
    of_queries = [key for name in asked for key in ids[:, declared.ids.index(name)].tolist()]
    queries = {key: found[key] for key in of_queries if key in found}
    of_items = {key: text for key, text in shown.items() if text is not None}
    vectors = encoded(connection, base, of_items)
    lost = np.array([key for key, text in shown.items() if text is None], np.int64)
    return Texts(base, {**of_items, **queries}, vectors.joined(read(connection, base.identity, lost, base.width)))


def texts_in(
    declared: Features, names: Sequence[str], objects: Sequence[Mapping[str, object]]
) -> Iterator[tuple[int, str]]:
    """The texts of these id columns in logged objects, by their keys."""
    columns = [(column.name, column.column) for column in declared.columns if column.name in names]
    for one in objects:
        for name, logged in columns:
            text = canonical(one.get(logged))
            if text is not None:
                yield key_of(name, text), text
