"""A ranker that reads texts: what it makes of them, that nothing is known before its time, and how it is saved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.part import TextPart
from models.text.pretrained import base_of
from models.text.texts import Texts, VectorTable
from models.versions import artifact
from models.versions.artifact import Parent
from models.versions.delta import difference
from models.versions.folder import WEIGHTS
from tests.worlds.designs import design_of
from tests.worlds.encoders import write_encoder
from tests.worlds.examples import no_time
from tests.worlds.texts import DESIGN, LAYOUT, TITLES, known_texts, searched

COLUMNS = DESIGN.columns
SIMILARITY, OVERLAP = COLUMNS


@pytest.fixture(scope="module")
def texts() -> Texts:
    return known_texts()


def design(**changed: object) -> Design:
    return replace(design_of(hidden=(8,), embedding=4, batch_requests=16), text=replace(DESIGN, **changed))  # type: ignore[arg-type]


def tuned(model: Model, requests: int, seed: int, texts: Texts | None) -> Model:
    return fine_tune(model, searched(requests, seed=seed, texts=texts), seed=seed, device="cpu", clock=no_time)[0]


def numbers(part: TextPart, texts: Texts | None, seed: int = 0) -> dict[str, np.ndarray]:
    examples = part.beside(searched(20, seed=seed, texts=texts), LAYOUT)
    return dict(zip(COLUMNS, examples.dense[:, -len(COLUMNS) :].T, strict=True))


def test_what_is_meant_is_likest(texts: Texts) -> None:
    examples, found = searched(20, seed=0, texts=texts), numbers(TextPart(DESIGN), texts)[SIMILARITY]
    likest = found.reshape(20, 4).argmax(1)
    meant = examples.label.reshape(20, 4).argmax(1)[examples.label.reshape(20, 4).any(1)]
    assert (likest[examples.label.reshape(20, 4).any(1)] == meant).mean() > 0.9


def test_a_text_that_is_not_known_is_known_as_such(texts: Texts) -> None:
    assert all(np.isnan(column).all() for column in numbers(TextPart(DESIGN), None).values())
    fewer = known_texts(titles=TITLES[:4])
    found, there = numbers(TextPart(DESIGN), fewer), numbers(TextPart(DESIGN), texts)
    unknown = np.isnan(found[SIMILARITY])
    assert 0 < unknown.sum() < len(unknown)
    assert (np.isnan(found[OVERLAP]) == unknown).all()
    np.testing.assert_allclose(found[SIMILARITY][~unknown], there[SIMILARITY][~unknown], atol=1e-6)


def test_a_ranker_learns_what_is_meant_from_few_clicks(texts: Texts) -> None:
    """Of titles that it has not seen clicked: ids alone say nothing of them."""
    layout, test = LAYOUT, searched(100, seed=9, texts=texts)
    reads = tuned(Model.new(layout, design(adapt="nothing"), seed=0), 60, 1, texts)
    blind = tuned(Model.new(layout, replace(design(), text=None), seed=0), 60, 1, texts)

    def first_is_clicked(model: Model) -> float:
        best = model.score(test).reshape(-1, 4).argmax(1)
        return float(test.label.reshape(-1, 4)[np.arange(len(best)), best].mean())

    assert first_is_clicked(reads) > max(0.8, first_is_clicked(blind))


def test_each_chunk_is_read_by_what_was_learned_before_it(texts: Texts) -> None:
    examples = searched(120, seed=3, texts=texts)
    before, changed = TextPart(DESIGN), replace(examples, label=1 - examples.label)
    read, after = before.learned(examples, LAYOUT, seed=0)
    read_otherwise, _ = before.learned(changed, LAYOUT, seed=0)
    as_it_comes = before.beside(examples, LAYOUT)
    assert after.adapted is not None
    assert after.adapted.steps > 0
    first = len(examples) // 8
    np.testing.assert_array_equal(read.dense[:first], as_it_comes.dense[:first])
    np.testing.assert_array_equal(read.dense[:first], read_otherwise.dense[:first])
    assert not np.array_equal(read.dense[-first:], as_it_comes.dense[-first:])


def test_the_same_update_twice_gives_the_same_bits(texts: Texts) -> None:
    start = Model.new(LAYOUT, design(), seed=0)
    one, two = (tuned(start, 80, 5, texts).arrays() for _ in range(2))
    assert one.keys() == two.keys()
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_a_version_and_a_delta_on_it_are_read_back_to_the_bit(texts: Texts, tmp_path: Path) -> None:
    start = tuned(Model.new(LAYOUT, design(), seed=0), 80, 5, texts)
    artifact.save(start, tmp_path / "1")
    examples = searched(60, seed=6, texts=texts)
    after, result = fine_tune(start, examples, seed=6, device="cpu", clock=no_time)
    delta = difference(start, after, result.changed)
    artifact.save_delta(delta, tmp_path / "2", parent=Parent.of(tmp_path / "1", "here"))
    read = artifact.load(tmp_path / "2", parent=lambda _: artifact.load(tmp_path / "1"))
    assert read.design == after.design
    np.testing.assert_array_equal(read.score(examples), after.score(examples))
    assert (tmp_path / "2" / WEIGHTS).stat().st_size < 2_000_000


def test_what_moved_another_encoder_is_refused(texts: Texts, tmp_path: Path) -> None:
    _, part = TextPart(DESIGN).learned(searched(60, seed=3, texts=texts), LAYOUT, seed=0)
    again = TextPart.of(DESIGN, part.arrays())
    assert numbers(again, texts)[SIMILARITY].tobytes() == numbers(part, texts)[SIMILARITY].tobytes()
    other = base_of(write_encoder(tmp_path / "encoder"))
    vectors = VectorTable.of(texts.vectors.keys, other.encode(["lamp"] * len(texts.vectors)))
    with pytest.raises(ValueError, match=r"other weights here .* than those that the version was trained on"):
        numbers(TextPart.of(DESIGN, part.arrays()), Texts(other, texts.by_key, vectors))


def test_numbers_that_were_made_are_made_anew(texts: Texts) -> None:
    """What one version made of texts is not what another reads."""
    one = tuned(Model.new(LAYOUT, design(), seed=0), 80, 5, texts)
    other = tuned(one, 80, 6, texts)
    examples = searched(20, seed=7, texts=texts)
    np.testing.assert_array_equal(other.score(one.own(examples)), other.score(examples))


def test_a_ranker_without_texts_is_as_it_was(texts: Texts) -> None:
    plain = replace(design(), text=None)
    with_texts = tuned(Model.new(LAYOUT, plain, seed=0), 40, 1, texts)
    without = tuned(Model.new(LAYOUT, plain, seed=0), 40, 1, None)
    examples = searched(20, seed=2, texts=texts)
    np.testing.assert_array_equal(with_texts.score(examples), without.score(replace(examples, texts=None)))
