"""An encoder in int8: nearly the same vectors, the same whatever stands beside them, the base as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.int8 import Int8Linear
from models.text.part import TextPart
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
from tests.worlds.encoders import write_encoder
from tests.worlds.texts import DESIGN, LAYOUT, QUERIES, TITLES, known_texts, searched

INT8 = replace(DESIGN, precision="int8")


@pytest.fixture(scope="module")
def base() -> Base:
    return base_of(DESIGN.encoder)


def test_a_layer_is_within_the_rounding_of_its_inputs_and_weights() -> None:
    random = torch.Generator().manual_seed(0)
    linear, inputs = nn.Linear(48, 32), torch.randn(2, 5, 48, generator=random)
    inputs[0, 0] = 0
    inputs[1, 2] *= 1000  # what one token has does not round the others away
    with torch.inference_mode():
        found, expected = Int8Linear(linear)(inputs), linear(inputs)
    steps = inputs.abs().amax(-1, keepdim=True) / 127
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= steps * 48 * linear.weight.abs().max()).all()
    assert ((found - expected).abs().mean(-1, keepdim=True) <= steps / 2).all()
    assert (found[0, 0] == linear.bias).all()


def test_one_without_a_bias_has_none() -> None:
    linear = nn.Linear(16, 8, bias=False)
    with torch.inference_mode():
        assert (Int8Linear(linear)(torch.zeros(1, 16)) == 0).all()


def test_vectors_are_nearly_those_of_float32(base: Base) -> None:
    texts = [*QUERIES, *TITLES]
    whole, rounded = base.encode(texts), base.encode(texts, "int8")
    cosines = np.einsum("nw,nw->n", whole, rounded)
    assert 0.99 < cosines.min() < 1
    assert (rounded == base.encode(texts, "int8")).all()
    assert base.encode(texts).tobytes() == whole.tobytes(), "the base is as it was"


def test_all_but_the_linear_layers_is_shared_with_the_base(base: Base) -> None:
    theirs = {own.data_ptr() for own in base.transformer.state_dict().values()}
    rounded = base.at("int8")
    layers = [module for module in rounded.modules() if isinstance(module, Int8Linear)]
    own = {part.data_ptr() for layer in layers for part in (layer.weight, layer.scale)}
    assert layers
    assert not [module for module in rounded.modules() if isinstance(module, nn.Linear)]
    assert {part.data_ptr() for part in rounded.state_dict().values()} - own <= theirs
    assert base.at("int8") is rounded


def test_what_was_trained_in_float32_serves_in_int8_and_goes_back(base: Base) -> None:
    texts = known_texts()
    _, part = TextPart(DESIGN).learned(searched(60, seed=1, texts=texts), LAYOUT, seed=0, device="cpu")
    assert part.adapted is not None
    rounded = part.by(INT8)
    assert rounded.adapted is not None
    whole, quick = part.adapted.queries(base, QUERIES), rounded.adapted.queries(base, QUERIES)
    assert 0.99 < np.einsum("nw,nw->n", whole, quick).min() < 1
    assert (quick != base.encode(QUERIES, "int8")).any(), "with its adapters"
    assert (rounded.adapted.items(base, TITLES) == base.encode(TITLES)).all(), "titles stay as they are"
    back = rounded.by(DESIGN).adapted
    assert back is not None
    assert (back.queries(base, QUERIES) == whole).all()


@pytest.mark.parametrize("design", [INT8, replace(INT8, adapt="head"), replace(INT8, adapt="both")])
def test_it_learns(design: TextDesign) -> None:
    examples, learned = TextPart(design).learned(
        searched(80, seed=2, texts=known_texts()), LAYOUT, seed=0, device="cpu"
    )
    assert learned.adapted is not None
    assert learned.adapted.steps > 0
    assert np.isfinite(examples.dense).all()


def test_swapping_adapters_leaves_the_base_where_it_is(tmp_path: Path) -> None:
    """Versions come and go on one base: its tensors stay the same ones, and what is in them."""
    base = base_of(write_encoder(tmp_path / "encoder"))
    before = {name: (own.data_ptr(), own.clone()) for name, own in base.transformer.state_dict().items()}
    transformer, rounded = base.transformer, base.at("int8")
    design = TextDesign("query", "item", rank=3)
    for seed in range(3):
        for one in (design, replace(design, precision="int8")):
            new = Adapted.new(one, base, seed)
            arrays = {name: array + np.float32(0.1) for name, array in new.arrays().items()}
            Adapted.of(one, arrays, 1).queries(base, ["red deck paint"])
    assert base.transformer is transformer
    assert base.at("int8") is rounded
    after = base.transformer.state_dict()
    assert after.keys() == before.keys()
    for name, (place, values) in before.items():
        assert after[name].data_ptr() == place
        assert (after[name] == values).all()
