"""The texts of one surface's items in memory, each with the vector that the encoder gives it.

One thread follows the items, takes the vectors that PostgreSQL has, and makes those that nobody made yet. Until the
vector of an item is there, a model is told that it is not known how like the query the item is.
"""

import json
import threading
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import psycopg
from numpy.typing import NDArray

from features.declare.features import Features
from features.log.items import read_changes
from infra.follower import follow
from models.learning.model import Model
from models.serving.durable.database import Database, backoff
from models.text.base_encoder import Base
from models.text.known import texts_in
from models.text.part import TextPart
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
from models.text.texts import Texts, VectorTable
from models.text.vectors import encoded, read

CHANGES_READ = 20_000
"""Items read at once."""

ENCODED_AT_ONCE = 32
"""Texts that nobody has encoded before: a third of a second's work, after which they are there."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A query."""

    text: str
    vector: NDArray[np.float32]
    """[W], of length 1."""


class LiveTexts:
    """Any thread may read."""

    def __init__(
        self, surface: str, declared: Features, design: TextDesign, database: Database, follow_s: float
    ) -> None:
        self.surface = surface
        self._declared, self._design = declared, design
        self._database, self._follow_s = database, follow_s
        self._after = 0
        self._of_items: dict[int, str] = {}
        self._lacking: dict[int, str] = {}
        """Of those, the texts without a vector."""
        self._vectors: VectorTable | None = None
        """None until the encoder is loaded."""
        self._base: Base | None = None
        self._as_it_comes = TextPart(design)
        self._trouble: str | None = "its encoder is being loaded"
        self.ready = threading.Event()
        """Set once the encoder is loaded and what PostgreSQL has of vectors is read, or it was found that it cannot."""
        self.query_column = next(column.column for column in declared.columns if column.name == design.query)
        """The log's name of the query."""

    def of(self, context: Mapping[str, object]) -> Texts | None:
        """The texts of all items, and of the query in this context; None until the encoder is loaded."""
        base, vectors = self._base, self._vectors
        if base is None or vectors is None:
            return None
        query = dict(texts_in(self._declared, [self._design.query], [context]))
        return Texts(base, ChainMap(query, self._of_items), vectors)

    def asked(self, context: Mapping[str, object], model: Model | None) -> Asked | None:
        """The query of this context, by a version's encoder or as it comes; None where there is none, or no encoder."""
        texts, query = self.of(context), dict(texts_in(self._declared, [self._design.query], [context]))
        if texts is None or not query:
            return None
        part = self._as_it_comes if model is None or model.text is None else model.text
        (key,) = query
        return Asked(query[key], part.of_queries(texts, np.array([key]))[0])

    @property
    def vectors(self) -> VectorTable | None:
        """Of items' texts; None until the encoder is loaded."""
        return self._vectors

    def text(self, key: int) -> str:
        """An item's text by its key; empty where it is not known."""
        return self._of_items.get(key, "")

    def follow(self, stopping: threading.Event) -> None:
        """Follow the items until ``stopping`` is set."""
        follow(
            partial(self._look, stopping),
            opening=partial(self._database.connection, patient=True),
            every_s=self._follow_s,
            stopping=stopping,
            failed=self._failed,
            backoff=backoff(),
        )

    def _failed(self, error: Exception, wait_s: float) -> None:
        self._trouble = str(error)
        self._database.report(f"following the texts of {self.surface}", error, wait_s)
        self.ready.set()

    def lacks(self) -> str | None:
        """What answers do without, as a sentence; None where nothing."""
        if self._trouble is not None:
            return self._trouble
        waiting = len(self._lacking)
        return f"{waiting:,} texts of items wait to be encoded" if waiting else None

    def _look(self, stopping: threading.Event, connection: psycopg.Connection) -> None:
        if self._base is None or self._vectors is None:
            self._base = base_of(self._design.encoder, wanted_by=f"surface {self.surface}")
            self._vectors = VectorTable.empty(self._base.width)
        while self._take_in(connection):
            pass
        wanted = np.array([*self._lacking], np.int64)
        self._found(read(connection, self._base.identity, wanted, self._base.width))
        self._trouble = None
        self.ready.set()
        while self._lacking and not stopping.is_set():
            self._found(encoded(connection, self._base, dict(islice(self._lacking.items(), ENCODED_AT_ONCE))))
            self._take_in(connection)

    def _take_in(self, connection: psycopg.Connection) -> bool:
        """Take in the next changes of items. True when there may be more."""
        changes = read_changes(connection, self.surface, self._after, CHANGES_READ)
        if len(changes):
            objects = [json.loads(text) for text in changes["attributes"].to_list()]
            texts = dict(texts_in(self._declared, [self._design.item], objects))
            self._lacking |= {key: text for key, text in texts.items() if key not in self._of_items}
            self._of_items |= texts
            self._after = int(changes["change"][-1])
        return len(changes) == CHANGES_READ

    def _found(self, vectors: VectorTable) -> None:
        assert self._vectors is not None, "the encoder is loaded"
        self._vectors = self._vectors.joined(vectors)
        for key in vectors.keys.tolist():
            self._lacking.pop(key, None)
