"""A search of a few things by many words, as windows that an update judges: queries that come again and rare ones."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

from features.identity.key import key_of
from models.examples import Examples
from models.frames import Frame
from models.text.pretrained import base_of
from models.text.texts import Texts, VectorTable
from monitoring.checks.limits import Limits
from monitoring.evaluation.terms import Terms
from monitoring.evaluation.window import Window
from tests.worlds.texts import DESIGN, LAYOUT, THINGS

START = datetime(2026, 3, 1, tzinfo=UTC)

NAMES, TITLES = [*THINGS], [*THINGS.values()]

WORDS = [
    *("blue", "red", "green", "black", "white", "cheap", "used", "new", "small", "large", "good", "best", "modern"),
    *(
        "vintage",
        "kids",
        "gift",
        "simple",
        "strong",
        "light",
        "heavy",
        "sale",
        "discount",
        "premium",
        "summer",
        "winter",
    ),
]

RARE = [f"{word} {other} {name}" for name in NAMES for word in WORDS for other in WORDS if word != other]
"""Queries that hardly ever come twice."""

SHOWN = 4
"""Titles of a request."""


@cache
def texts() -> Texts:
    """The encoder as it comes, and all texts."""
    base = base_of(DESIGN.encoder)
    by_key = {key_of("query", text): text for text in [*NAMES, *RARE]} | {
        key_of("title", text): text for text in TITLES
    }
    keys = np.array([key_of("title", text) for text in TITLES], np.int64)
    return Texts(base, by_key, VectorTable.of(keys, base.encode(TITLES)))


def asked(requests: int, *, seed: int, rare: float = 0.4, turned: int = 0, only: int | None = None) -> Frame:
    """A request a second of four titles, what is meant among them: it is clicked in seven of ten, others in one of
    twenty. ``rare``: the share of rare queries; ``turned``: the first so many names, alone, mean the next thing;
    ``only``: nothing but that thing is asked for by rare queries."""
    random = np.random.default_rng(seed)
    thing, is_rare = random.integers(len(NAMES), size=requests), random.random(requests) < rare
    if only is not None:
        thing[is_rare] = only
    of_each = len(RARE) // len(NAMES)
    queries = [
        RARE[one * of_each + int(random.integers(of_each))] if seldom else NAMES[one]
        for one, seldom in zip(thing.tolist(), is_rare.tolist(), strict=True)
    ]
    meant = np.where((thing < turned) & ~is_rare, (thing + 1) % len(NAMES), thing)
    others = np.stack([random.permutation(np.delete(np.arange(len(TITLES)), one))[: SHOWN - 1] for one in meant])
    shown = random.permuted(np.concatenate([meant[:, None], others], axis=1), axis=1)
    clicked = random.random(shown.shape) < np.where(shown == meant[:, None], 0.7, 0.05)
    return _frame(queries, shown, clicked, random)


def _frame(queries: Sequence[str], shown: np.ndarray, clicked: np.ndarray, random: np.random.Generator) -> Frame:
    requests, rows = len(queries), shown.size
    request = np.arange(requests).repeat(SHOWN)
    titles = [TITLES[title] for title in shown.ravel().tolist()]
    ids = [
        [key_of("query", queries[code]), key_of("title", title)] for code, title in zip(request, titles, strict=True)
    ]
    examples = Examples(
        dense=random.normal(size=(rows, 1)).astype(np.float32),
        ids=np.array(ids, np.int64),
        history=np.zeros((rows, 0), np.int64),
        label=clicked.ravel().astype(np.float32),
        request=request,
        time=START.timestamp() + 1.0 + request,
        texts=texts(),
    )
    table = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(rows)],
            "request_id": [f"r{code}" for code in request],
            "user_id": [f"u{code}" for code in request],
            "item_id": titles,
            "position": np.tile(np.arange(SHOWN), requests),
            "shown_at": [START + timedelta(seconds=1 + int(code)) for code in request],
            "context": ["{}"] * rows,
            "label": examples.label,
            "schema_version": [LAYOUT.schema_version] * rows,
        }
    )
    return Frame(table, examples, without_row=0)


def window_of(frame: Frame, update_id: int = 7) -> Window:
    """All of it is trained on and judges."""
    start, end = START, START + timedelta(seconds=len(frame) // SHOWN)
    terms = Terms("progressive", LAYOUT.dense, LAYOUT.schema_version, {}, Limits(), margin=0.01)
    return Window(update_id, start, end, end, end + timedelta(minutes=10), frame, terms)


def labelled(frame: Frame, label: np.ndarray) -> Examples:
    """Its examples with other labels [N]."""
    return replace(frame.examples, label=label.astype(np.float32))
