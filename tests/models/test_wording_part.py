"""A ranker that reads wordings: what it makes of them, that nothing is known before its time, and how it is saved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.base_encoder import Base
from models.text.pretrained import NoEncoder, base_of
from models.text.texts import Texts, VectorTable
from models.text.wording_design import WordingDesign
from models.text.wording_part import WordingPart
from models.versions import artifact
from models.versions.artifact import Parent
from models.versions.delta import difference
from models.versions.folder import WEIGHTS
from tests.worlds.designs import design_of
from tests.worlds.encoders import write_encoder
from tests.worlds.examples import no_time
from tests.worlds.wordings import LAYOUT, design_for, impressions_of, texts_of, worded

FIRST, THEN = worded(40, seed=0, impressions=200), worded(40, seed=1, impressions=200, prefix="b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def base(folder: str) -> Base:
    return base_of(folder, 1)


@pytest.fixture(scope="module")
def design(folder: str) -> WordingDesign:
    return design_for(folder)


@pytest.fixture(scope="module")
def texts(base: Base) -> Texts:
    return texts_of(base, FIRST, THEN)


def model_of(design: WordingDesign) -> Model:
    return Model.new(LAYOUT, replace(design_of(hidden=(8,), embedding=4, batch_requests=256), text=design), seed=0)


def tuned(model: Model, shown: object, texts: Texts, seed: int) -> Model:
    examples = impressions_of(shown, texts, seed=seed)  # type: ignore[arg-type]
    return fine_tune(model, examples, seed=seed, device="cpu", clock=no_time)[0]


def test_nothing_is_known_at_first_and_an_unknown_text_never(base: Base, design: WordingDesign, texts: Texts) -> None:
    examples, part = impressions_of(THEN, texts, seed=0), WordingPart(design)
    assert (part.beside(examples, LAYOUT).dense[:, -1] == 0).all()
    assert np.isnan(part.beside(replace(examples, texts=None), LAYOUT).dense[:, -1]).all()
    _, after = part.learned(impressions_of(FIRST, texts, seed=0), LAYOUT, seed=0)
    half = texts_of(base, replace(THEN, texts=THEN.texts[::2]))
    known = np.isin(examples.ids[:, 1], half.vectors.keys)
    number = after.beside(replace(examples, texts=half), LAYOUT).dense[:, -1]
    assert 0 < known.sum() < len(known)
    assert (np.isfinite(number) == known).all()
    assert number[known].any()


def test_each_chunk_is_read_by_what_was_learned_before_it(design: WordingDesign, texts: Texts) -> None:
    examples, part = impressions_of(FIRST, texts, seed=0), WordingPart(design)
    read, after = part.learned(examples, LAYOUT, seed=0)
    number = read.dense[:, -1]
    first = np.flatnonzero(number)[0]
    assert 0 < first < len(examples) // 4
    changed = examples.label.copy()
    changed[-first:] = np.roll(changed[-first:], 1)  # as many clicks, so that chunks are the same
    read_otherwise, otherwise = part.learned(replace(examples, label=changed), LAYOUT, seed=0)
    np.testing.assert_array_equal(read_otherwise.dense[: len(examples) // 2], read.dense[: len(examples) // 2])
    assert not np.array_equal(
        after.beside(examples, LAYOUT).dense[:, -1], otherwise.beside(examples, LAYOUT).dense[:, -1]
    )


def test_a_ranker_orders_wordings_that_it_never_saw(design: WordingDesign, texts: Texts) -> None:
    model = tuned(model_of(design), FIRST, texts, seed=1)
    article, text = THEN.keys
    one = impressions_of(
        replace(THEN, shown=np.ones(len(article), np.int64), clicked=np.zeros(len(article))), texts, seed=0
    )
    one = replace(one, ids=np.stack([article, text], axis=1), dense=np.zeros_like(one.dense))
    assert (model.score(one).reshape(-1, 3).argmax(1) == 0).mean() > 0.8


def test_the_same_update_twice_gives_the_same_bits(design: WordingDesign, texts: Texts) -> None:
    one, two = (tuned(model_of(design), FIRST, texts, seed=5).arrays() for _ in range(2))
    assert one.keys() == two.keys()
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_a_version_and_a_delta_on_it_are_read_back_to_the_bit(
    design: WordingDesign, texts: Texts, tmp_path: Path
) -> None:
    start = tuned(model_of(design), FIRST, texts, seed=5)
    artifact.save(start, tmp_path / "1")
    examples = impressions_of(THEN, texts, seed=6)
    after, result = fine_tune(start, examples, seed=6, device="cpu", clock=no_time)
    delta = difference(start, after, result.changed)
    artifact.save_delta(delta, tmp_path / "2", parent=Parent.of(tmp_path / "1", "here"))
    read = artifact.load(tmp_path / "2", parent=lambda _: artifact.load(tmp_path / "1"))
    assert read.design == after.design
    np.testing.assert_array_equal(read.score(examples), after.score(examples))
    assert not np.array_equal(start.score(examples), after.score(examples))
    assert (tmp_path / "2" / WEIGHTS).stat().st_size < 2_000_000


def test_what_was_learned_with_another_encoder_is_refused(
    base: Base, design: WordingDesign, texts: Texts, tmp_path: Path
) -> None:
    examples = impressions_of(FIRST, texts, seed=3)
    _, part = WordingPart(design).learned(examples, LAYOUT, seed=0)
    again = WordingPart.of(design, part.arrays())
    assert again.beside(examples, LAYOUT).dense.tobytes() == part.beside(examples, LAYOUT).dense.tobytes()
    other = base_of(write_encoder(tmp_path / "other", seed=1), 1)
    theirs = Texts(other, texts.by_key, VectorTable(texts.vectors.keys, texts.vectors.vectors))
    with pytest.raises(ValueError, match=r"other weights here .* than those that the version was trained on"):
        again.beside(replace(examples, texts=theirs), LAYOUT)
    with pytest.raises(ValueError, match=r"other weights here"):
        again.learned(replace(examples, texts=theirs), LAYOUT, seed=0)


def test_what_is_no_number_is_counted(design: WordingDesign, texts: Texts) -> None:
    examples = impressions_of(FIRST, texts, seed=3)
    _, part = WordingPart(design).learned(examples, LAYOUT, seed=0)
    assert part.not_finite(examples, LAYOUT) == 0
    assert part.not_finite(replace(examples, texts=None), LAYOUT) == 0
    arrays = part.arrays()
    broken = WordingPart.of(design, {**arrays, "direction": np.full_like(arrays["direction"], np.nan)})
    assert broken.not_finite(examples, LAYOUT) == len(set(FIRST.texts))


def test_the_first_layers_are_an_encoder_of_their_own_with_the_same_memory(folder: str) -> None:
    whole, lower = base_of(folder), base_of(folder, 1)
    assert base_of(folder, 1) is lower
    assert lower.identity != whole.identity
    assert base_of(folder, 2).identity == whole.identity
    assert not np.allclose(lower.encode(["red deck"]), whole.encode(["red deck"]))
    shared = {weights.data_ptr() for weights in whole.transformer.parameters()}
    assert {weights.data_ptr() for weights in lower.transformer.parameters()} < shared
    with pytest.raises(
        NoEncoder, match=r"surface news: encoder .* has 2 layers, and text\.layers is 3: give 2 or fewer"
    ):
        base_of(folder, 3, wanted_by="surface news")
