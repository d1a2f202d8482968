"""Things shown under several wordings, one word of which gains clicks: as counts, and as examples with their texts."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from features.identity.key import key_of
from models.examples import Examples, Layout
from models.frames import Frame
from models.text.base_encoder import Base
from models.text.texts import Texts, VectorTable
from models.text.wording_design import WordingDesign
from tests.worlds.encoders import WORDS

LAYOUT = Layout("wordings-1", ("rate",), ("article", "headline"))

GAINS, PULLS = "lamp", "pine"
"""A word with which an article is clicked three times as often, and one that articles have which are clicked more
whatever is said of them."""


@dataclass(frozen=True, eq=False)
class Shown:
    """N wordings."""

    articles: list[str]
    texts: list[str]
    shown: np.ndarray
    clicked: np.ndarray

    @property
    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Of articles and of texts, [N] each."""
        articles, texts = (
            [key_of(name, own) for own in column]
            for name, column in zip(LAYOUT.ids, (self.articles, self.texts), strict=True)
        )
        return np.array(articles, np.int64), np.array(texts, np.int64)


def design_for(folder: str, **changed: object) -> WordingDesign:
    """Of a made-up encoder in this folder."""
    design = WordingDesign("headline", "article", encoder=folder, layers=1, prior=1.0)
    return replace(design, **changed)  # type: ignore[arg-type]


def worded(articles: int, *, seed: int, gains: str = GAINS, impressions: int = 400, prefix: str = "a") -> Shown:
    """Three wordings of four words for each article, of which one has the word that gains. Every other article pulls
    four times as much, and of its wordings those without that word have the one that says so."""
    random = np.random.default_rng(seed)
    names, texts, shown, clicked = list[str](), list[str](), list[int](), list[int]()
    plain = [word for word in WORDS if word not in (GAINS, PULLS, gains)]
    for article in range(articles):
        pulls = article % 2
        for wording in range(3):
            last = gains if wording == 0 else PULLS if pulls else str(random.choice(plain))
            names.append(f"{prefix}{article}")
            texts.append(" ".join([*random.choice(plain, 3, replace=False).tolist(), last]))
            shown.append(int(random.integers(impressions // 2, impressions)))
            rate = 0.05 * (3 if wording == 0 else 1) * (4 if pulls else 1)
            clicked.append(int(random.binomial(shown[-1], rate)))
    return Shown(names, texts, np.array(shown), np.array(clicked))


def texts_of(base: Base, *parts: Shown) -> Texts:
    """What is known of all their texts."""
    texts = sorted({text for part in parts for text in part.texts})
    keys = np.array([key_of("headline", text) for text in texts], np.int64)
    by_key = dict(zip(keys.tolist(), texts, strict=True))
    return Texts(base, by_key, VectorTable.of(keys, base.encode(texts)))


def impressions_of(shown: Shown, texts: Texts | None, *, seed: int) -> Examples:
    """Every impression a request of its own, in a random order, one a second."""
    random = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(shown.texts)), shown.shown)
    first = np.cumsum(shown.shown) - shown.shown
    clicked = (np.arange(len(row)) - first[row]) < shown.clicked[row]
    order = random.permutation(len(row))
    article, text = shown.keys
    return Examples(
        dense=random.normal(size=(len(row), 1)).astype(np.float32),
        ids=np.stack([article[row], text[row]], axis=1)[order],
        history=np.zeros((len(row), 0), np.int64),
        label=clicked[order].astype(np.float32),
        request=np.arange(len(row)),
        time=1e9 + np.arange(len(row), dtype=np.float64),
        texts=texts,
    )


START = datetime(2026, 3, 1, tzinfo=UTC)


def frame_of(examples: Examples, layout: Layout) -> Frame:
    """The same impressions as rows of a layout that has their ids, one a second."""
    rows = len(examples)
    ids = np.zeros((rows, len(layout.ids)), np.int64)
    for name, column in zip(LAYOUT.ids, examples.ids.T, strict=True):
        ids[:, layout.ids.index(name)] = column
    dense = np.zeros((rows, len(layout.dense)), np.float32)
    dense[:, 0] = examples.dense[:, 0]
    shown_at = [START + timedelta(seconds=row + 1) for row in range(rows)]
    table = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(rows)],
            "request_id": [f"r{row}" for row in range(rows)],
            "user_id": [f"u{row % 500}" for row in range(rows)],
            "item_id": [str(key) for key in examples.ids[:, 1].tolist()],
            "position": np.zeros(rows, np.int64),
            "shown_at": shown_at,
            "context": ["{}"] * rows,
            "label": examples.label,
            "schema_version": [layout.schema_version] * rows,
        }
    )
    time = np.array([at.timestamp() for at in shown_at])
    history = np.zeros((rows, layout.history), np.int64)
    return Frame(table, replace(examples, dense=dense, ids=ids, history=history, time=time), without_row=0)
