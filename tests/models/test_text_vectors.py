"""Vectors of texts in PostgreSQL: to the bit, each made once, whoever is quicker."""

import numpy as np
import psycopg
import pytest

from features.identity.key import key_of
from models.text import vectors
from models.text.base_encoder import Base
from models.text.pretrained import base_of
from models.text.vectors import encoded, keep, read
from tests.worlds.texts import DESIGN, TITLES


@pytest.fixture(scope="module")
def base() -> Base:
    return base_of(DESIGN.encoder)


def test_a_vector_comes_back_to_the_bit(connection: psycopg.Connection) -> None:
    random = np.random.default_rng(0)
    keys = random.integers(-(2**63), 2**63 - 1, size=300)
    kept = random.normal(size=(300, 384)).astype(np.float32)
    kept[0, :4] = [0.0, -0.0, 1e-42, np.finfo(np.float32).max]
    keep(connection, "one", keys, kept)
    found = read(connection, "one", keys[::-1], 384)
    places, known = found.find(keys)
    assert known.all()
    assert found.vectors[places].tobytes() == kept.tobytes()


def test_of_no_keys_nothing_is_read(connection: psycopg.Connection) -> None:
    found = read(connection, "one", np.zeros(0, np.int64), 384)
    assert (len(found), found.vectors.shape) == (0, (0, 384))
    _, known = found.find(np.array([1, 2]))
    assert not known.any()


def test_what_is_there_stays(connection: psycopg.Connection) -> None:
    keys, first = np.array([1, 2]), np.ones((2, 8), np.float32)
    keep(connection, "one", keys, first)
    keep(connection, "one", np.array([2, 3]), 2 * first)
    keep(connection, "another", keys, 3 * first)
    assert read(connection, "one", np.array([1, 2, 3]), 8).vectors[:, 0].tolist() == [1, 1, 2]
    assert read(connection, "another", np.array([1, 2, 3]), 8).vectors[:, 0].tolist() == [3, 3]


def test_a_text_is_encoded_once(connection: psycopg.Connection, base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {key_of("title", text): text for text in TITLES}
    keys = np.array([*texts], np.int64)
    monkeypatch.setattr(vectors, "ENCODED_AT_ONCE", 3)
    found = encoded(connection, base, texts)
    np.testing.assert_allclose(found.vectors[found.find(keys)[0]], base.encode(TITLES), atol=1e-6)

    def never(texts: object) -> np.ndarray:
        raise AssertionError("they are there")

    monkeypatch.setattr(Base, "encode", never)
    assert encoded(connection, base, texts).vectors.tobytes() == found.vectors.tobytes()
