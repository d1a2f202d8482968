"""The texts of one surface's items in memory, each with the vector that the encoder gives it.

    texts.take(changes)                           # by the thread that follows the items, before they can be found
    known = texts.of({"query": "red sofa"})       # the texts of all items, and of that query

A thread of its own takes the vectors that PostgreSQL has, and makes those that nobody made yet. Until the vector of an
item is there, the numbers that a model reads of its text are missing.
"""

import json
import threading
import time
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from features.declare.features import Features
from infra.follower import follow
from models.learning.model import Model
from models.serving.durable.database import Database, backoff
from models.serving.telemetry import LOG
from models.text.base_encoder import Base
from models.text.compiled import Form, is_compiled
from models.text.compiling import COMPILES, NotCompiled, file_of, prepare
from models.text.known import texts_in
from models.text.part import TextPart
from models.text.parts import part_of
from models.text.pretrained import LacksTextExtra, base_of, expect_extra
from models.text.text_design import TextDesign
from models.text.texts import Texts, VectorTable
from models.text.vectors import encoded, read
from models.text.wording_design import WordingDesign

NOTICED_S = 0.2
"""How soon it is noticed that it is to stop."""

LOADING = "its encoder is being loaded"

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
        self,
        surface: str,
        declared: Features,
        design: TextDesign | WordingDesign,
        database: Database,
        follow_s: float,
        compiled: Path | None = None,
    ) -> None:
        """``compiled``: the folder of encoders that are; None: none is."""
        self.surface = surface
        self._declared, self._design = declared, design
        self._database, self._follow_s, self._compiled = database, follow_s, compiled
        self._form = Form.of(design) if isinstance(design, TextDesign) else None
        """Of what encodes queries; None: it is none that can be compiled."""
        self._of_items: dict[int, str] = {}
        self._unread: dict[int, str] = {}
        """Of those, the texts whose vectors PostgreSQL was not yet asked for."""
        self._lacking: dict[int, str] = {}
        """The texts whose vectors it did not have."""
        self._came = threading.Event()
        self._vectors: VectorTable | None = None
        """None until the encoder is loaded."""
        self._base: Base | None = None
        self._as_it_comes = part_of(design, {})
        self._trouble: str | None = LOADING
        of_query = (column.column for column in declared.columns if column.name == design.query)
        self.query_column = next(of_query, None)
        """The log's name of the query; None where nothing is asked for."""

    @property
    def ready(self) -> bool:
        """Whether the encoder is loaded and has the vectors that PostgreSQL has, or cannot have them for now."""
        return self._trouble not in (None, LOADING) or (self._vectors is not None and not self._unread)

    def of(self, context: Mapping[str, object]) -> Texts | None:
        """The texts of all items, and of the query in this context; None until the encoder is loaded."""
        return self._beside(self._query(context))

    def asked(self, context: Mapping[str, object], model: Model | None) -> Asked | None:
        """The query of this context, by a version's encoder, or as it comes where the version reads no such texts; None
        where there is none, or no encoder."""
        query = self._query(context)
        texts = self._beside(query)
        if texts is None or not query:
            return None
        part = None if model is None else model.text
        if part is None or not part.reads(texts):
            part = self._as_it_comes
        if not isinstance(part, TextPart):
            return None
        ((key, text),) = query.items()
        return Asked(text, part.of_queries(texts, np.array([key]))[0])

    def _query(self, context: Mapping[str, object]) -> dict[int, str]:
        return {} if self._design.query is None else dict(texts_in(self._declared, [self._design.query], [context]))

    def _beside(self, query: dict[int, str]) -> Texts | None:
        base, vectors = self._base, self._vectors
        if base is None or vectors is None:
            return None
        return Texts(base, ChainMap(query, self._of_items), vectors)

    @property
    def encoder(self) -> Literal["compiled", "torch"] | None:
        """What makes vectors of queries; None: nothing yet, or there are none."""
        if self._base is None or self._design.query is None:
            return None
        return "compiled" if self._form is not None and is_compiled(self._base, self._form) else "torch"

    @property
    def vectors(self) -> VectorTable | None:
        """Of items' texts; None until the encoder is loaded."""
        return self._vectors

    def text(self, key: int) -> str:
        """An item's text by its key; empty where it is not known."""
        return self._of_items.get(key, "")

    # --- following the items ----------------------------------------------------------------------------------------

    def take(self, changes: pl.DataFrame) -> None:
        """Take in changes of items, as ``features.log.items.read_changes`` has them. One thread takes."""
        objects = [json.loads(text) for text in changes["attributes"].to_list()]
        texts = dict(texts_in(self._declared, [self._design.item], objects))
        self._unread |= {key: text for key, text in texts.items() if key not in self._of_items}
        self._of_items |= texts
        self._came.set()

    def follow(self, stopping: threading.Event) -> None:
        """Find the vectors of what comes, until ``stopping`` is set."""
        follow(
            partial(self._look, stopping),
            opening=partial(self._database.connection, patient=True),
            every_s=self._follow_s,
            stopping=stopping,
            failed=self._failed,
            backoff=backoff(),
            wait=partial(self._wait, stopping),
        )

    def _wait(self, stopping: threading.Event, _: psycopg.Connection, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0 and not stopping.is_set():
            if self._came.wait(min(NOTICED_S, left)):
                break

    def _failed(self, error: Exception, wait_s: float) -> None:
        self._trouble = str(error)
        self._database.report(f"following the texts of {self.surface}", error, wait_s)

    def lacks(self) -> str | None:
        """What answers do without, as a sentence; None where nothing."""
        if self._trouble is not None:
            return self._trouble
        waiting = len(self._unread) + len(self._lacking)
        return f"{waiting:,} texts of items wait to be encoded" if waiting else None

    def _look(self, stopping: threading.Event, connection: psycopg.Connection) -> None:
        if self._base is None or self._vectors is None:
            self._base = base_of(self._design.encoder, self._design.layers, wanted_by=f"surface {self.surface}")
            self._vectors = VectorTable.empty(self._base.width)
            self._compile(stopping, self._base)
        self._read(connection, self._base)
        self._trouble = None
        while self._lacking and not stopping.is_set():
            latest = dict(islice(reversed(self._lacking.items()), ENCODED_AT_ONCE))
            self._found(encoded(connection, self._base, latest))
            self._read(connection, self._base)

    def _compile(self, stopping: threading.Event, base: Base) -> None:
        """Have queries encoded by what is compiled, at once where it was before."""
        if self._form is None or self._compiled is None:
            return
        try:
            expect_extra(*COMPILES, wanted_by="what compiles it")
        except LacksTextExtra as error:
            self._by_torch(error)
            return
        arguments = base, self._form, self._compiled, stopping
        if file_of(base, self._form, self._compiled).exists():
            self._prepare(*arguments)
        else:  # which takes a while: torch encodes meanwhile
            threading.Thread(target=self._prepare, args=arguments, name=f"compile {self.surface}", daemon=True).start()

    def _prepare(self, base: Base, form: Form, folder: Path, stopping: threading.Event) -> None:
        try:
            prepare(base, form, folder, stopping)
        except (NotCompiled, OSError) as error:
            self._by_torch(error)

    def _by_torch(self, why: Exception) -> None:
        LOG.warning("queries of %s are encoded by torch, slower: %s", self.surface, why)

    def _read(self, connection: psycopg.Connection, base: Base) -> None:
        """Ask PostgreSQL for the vectors of the texts that have come."""
        self._came.clear()
        unread = dict(self._unread)
        if not unread:
            return
        self._lacking |= unread
        self._found(read(connection, base.identity, np.array([*unread], np.int64), base.width))
        for key in unread:
            del self._unread[key]

    def _found(self, vectors: VectorTable) -> None:
        assert self._vectors is not None, "the encoder is loaded"
        self._vectors = self._vectors.joined(vectors)
        for key in vectors.keys.tolist():
            self._lacking.pop(key, None)
