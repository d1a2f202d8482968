"""Queries and titles with clicks that follow what they mean, as examples with their texts."""

import numpy as np

from features.identity.key import key_of
from models.examples import Examples, Layout
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
from models.text.texts import Texts, VectorTable

LAYOUT = Layout("texts-1", ("rate",), ("query", "title"))
DESIGN = TextDesign("query", "title", rank=2, batch=8, negatives=0)

THINGS = {
    "couch": "three seat sofa in grey fabric",
    "cell phone": "smartphone with two cameras",
    "rain jacket": "waterproof coat for hiking",
    "tv": "flat screen television",
    "bike": "mountain bicycle with 21 gears",
    "mug": "ceramic cup for coffee",
    "lamp": "reading light for the desk",
    "sneakers": "running shoes for men",
}
QUERIES, TITLES = [*THINGS], [*THINGS.values()]


def known_texts(queries: list[str] = QUERIES, titles: list[str] = TITLES) -> Texts:
    """The encoder as it comes, these texts, and the vectors of the titles."""
    base = base_of(DESIGN.encoder)
    by_key = {key_of("query", text): text for text in queries} | {key_of("title", text): text for text in titles}
    keys = np.array([key_of("title", text) for text in titles], np.int64)
    return Texts(base, by_key, VectorTable.of(keys, base.encode(titles)))


def searched(requests: int, *, seed: int, texts: Texts | None) -> Examples:
    """Requests of four titles, the one that is meant among them; it is clicked in nine of ten."""
    random = np.random.default_rng(seed)
    query = random.integers(len(QUERIES), size=requests)
    others = np.stack([random.permutation(np.delete(np.arange(len(TITLES)), q))[:3] for q in query])
    shown = random.permuted(np.concatenate([query[:, None], others], axis=1), axis=1)
    clicked = (shown == query[:, None]) & (random.random(shown.shape) < 0.9)
    ids = np.stack(
        [
            np.array([key_of("query", QUERIES[q]) for q in query])[:, None].repeat(4, axis=1).ravel(),
            np.array([key_of("title", TITLES[t]) for t in shown.ravel()]),
        ],
        axis=1,
    )
    return Examples(
        dense=random.normal(size=(4 * requests, 1)).astype(np.float32),
        ids=ids,
        history=np.zeros((4 * requests, 0), np.int64),
        label=clicked.ravel().astype(np.float32),
        request=np.arange(requests).repeat(4),
        time=np.arange(requests).repeat(4).astype(np.float64),
        position=np.tile(np.arange(4), requests),
        texts=texts,
    )
