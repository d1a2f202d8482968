"""What updates make of an encoder: nothing at first, the same when it comes back, beside others on one base."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.pretrained import base_of
from models.text.text_design import Adapt, TextDesign
from models.versions import folder as folders
from tests.worlds.encoders import write_encoder

TEXTS = ["red deck paint", "saw", "large oak door hinge screw", "blue wall paint brush"]
KINDS: tuple[Adapt, ...] = get_args(Adapt)
DESIGN = TextDesign("query", "item", rank=3, alpha=6.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return base_of(write_encoder(tmp_path_factory.mktemp("encoder")))


def moved(adapt: Adapt, base: Base, seed: int) -> Adapted:
    """One with arrays that change its vectors."""
    design, draw = replace(DESIGN, adapt=adapt), np.random.default_rng(seed)
    arrays = Adapted.new(design, base, seed).arrays()
    noise = {name: draw.normal(scale=0.2, size=array.shape).astype(np.float32) for name, array in arrays.items()}
    return Adapted.of(design, {name: array + noise[name] for name, array in arrays.items()}, 7)


@pytest.mark.parametrize("adapt", KINDS)
def test_a_new_one_changes_nothing(adapt: Adapt, base: Base) -> None:
    new = Adapted.new(replace(DESIGN, adapt=adapt), base, seed=0)
    np.testing.assert_allclose(new.queries(base, TEXTS), base.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(new.items(base, TEXTS), base.encode(TEXTS), atol=1e-6)
    assert new.steps == 0


@pytest.mark.parametrize("adapt", KINDS)
def test_it_comes_back_to_the_bit(adapt: Adapt, base: Base, tmp_path: Path) -> None:
    before = moved(adapt, base, seed=1)
    folders.write(tmp_path, before.arrays(), {"steps": before.steps})
    description, arrays = folders.read(tmp_path)
    after = Adapted.of(before.design, arrays, description["steps"])
    assert after.arrays().keys() == before.arrays().keys()
    assert all((array == before.arrays()[name]).all() for name, array in after.arrays().items())
    assert all(array.dtype == np.float32 for array in after.arrays().values())
    assert (after.queries(base, TEXTS) == before.queries(base, TEXTS)).all()
    assert after.steps == 7


@pytest.mark.parametrize("adapt", KINDS)
def test_items_move_only_where_it_says_so(adapt: Adapt, base: Base) -> None:
    one, own = moved(adapt, base, seed=2), base.encode(TEXTS)
    assert one.moves_items == (adapt in ("both", "full"))
    assert (one.items(base, TEXTS) == own).all() != one.moves_items
    assert (one.queries(base, TEXTS) == own).all() == (adapt == "nothing")


def test_the_names_are_those_of_the_design(base: Base) -> None:
    assert not Adapted.new(replace(DESIGN, adapt="nothing"), base, 0).arrays()
    assert list(Adapted.new(replace(DESIGN, adapt="head"), base, 0).arrays()) == ["head.weight"]
    names = Adapted.new(DESIGN, base, 0).arrays().keys()
    assert names == moved("query", base, 1).arrays().keys() == moved("both", base, 2).arrays().keys()
    assert "transformer.encoder.layer.1.attention.self.query.lora_A" in names
    assert not [name for name in names if "own" in name or "base_layer" in name]


def test_two_on_one_base_do_not_disturb_each_other_nor_the_base(base: Base) -> None:
    each = [moved(adapt, base, seed) for seed, adapt in enumerate(KINDS)]
    alone = [one.queries(base, TEXTS) for one in each]
    own = base.encode(TEXTS)
    with ThreadPoolExecutor(8) as threads:
        again = list(threads.map(lambda k: each[k % len(each)].queries(base, TEXTS), range(80)))
    for k, vectors in enumerate(again):
        assert (vectors == alone[k % len(each)]).all()
    assert (base.encode(TEXTS) == own).all()
    assert not any(weights.requires_grad for weights in base.transformer.parameters())


def test_they_share_the_memory_of_the_base(base: Base) -> None:
    theirs = {weights.data_ptr() for weights in base.transformer.parameters()}
    encoder = moved("query", base, 0).encoder(base)
    own = [weights for name, weights in encoder.named_parameters() if "lora" not in name]
    assert own
    assert {weights.data_ptr() for weights in own} <= theirs


def test_arrays_of_another_design_are_refused(base: Base) -> None:
    with pytest.raises(ValueError, match=r"lora_A' is \(4, 32\), and the design makes \(3, 32\)"):
        Adapted.of(DESIGN, Adapted.new(replace(DESIGN, rank=4), base, 0).arrays(), 0).queries(base, TEXTS)
    with pytest.raises(ValueError, match=r"'head\.weight' is \(32, 32\), and the design makes None"):
        Adapted.of(DESIGN, Adapted.new(replace(DESIGN, adapt="head"), base, 0).arrays(), 0).queries(base, TEXTS)


def test_the_draw_is_the_seeds_and_nobody_elses(base: Base) -> None:
    one, same, other = (Adapted.new(DESIGN, base, seed).arrays() for seed in (0, 0, 1))
    assert all((one[name] == same[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)
