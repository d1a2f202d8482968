"""What is learned of wordings in a world where it is known which word gains: that, and not what articles have of their
own."""

from dataclasses import replace

import numpy as np
import pytest

from models.text.appeal import DAY, Appeal
from models.text.base_encoder import Base
from models.text.pretrained import base_of
from models.text.wording_design import WordingDesign
from models.text.wordings import Wordings
from tests.worlds.encoders import write_encoder
from tests.worlds.wordings import GAINS, PULLS, Shown, design_for, worded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def base(folder: str) -> Base:
    return base_of(folder, 1)


@pytest.fixture(scope="module")
def design(folder: str) -> WordingDesign:
    return design_for(folder)


def counted(shown: Shown, times: float = 1.0) -> Wordings:
    return Wordings.of(*shown.keys, shown.shown * times, shown.clicked * times)


def learned(
    appeal: Appeal, base: Base, design: WordingDesign, *windows: Shown, at: float = DAY, times: float = 1.0
) -> Appeal:
    for window in windows:
        wordings = counted(window, times)
        text_of = dict(zip(window.keys[1].tolist(), window.texts, strict=True))
        vectors = base.encode([text_of[key] for key in wordings.text.tolist()])
        appeal = appeal.updated(wordings, vectors, at, design)
    return appeal


def bits(appeal: Appeal) -> bytes:
    return b"".join(array.tobytes() for array in appeal.arrays().values())


def has_pull(text: str) -> bool:
    return PULLS in text


def is_plain(text: str) -> bool:
    return PULLS not in text and GAINS not in text


def gains(appeal: Appeal, base: Base, word: str = GAINS) -> np.ndarray:
    """By how much more texts never shown appeal with the word than with another."""
    others = ["saw wall oak", "hinge red small", "floor white bulb", "screw large blue"]
    return appeal.of(base.encode([f"{text} {word}" for text in others])) - appeal.of(
        base.encode([f"{text} door" for text in others])
    )


def test_a_word_that_gains_is_learned_and_orders_wordings_never_shown(base: Base, design: WordingDesign) -> None:
    new = Appeal.new(design, base.width)
    assert not gains(new, base).any()
    appeal = learned(new, base, design, worded(80, seed=0))
    later = worded(60, seed=1)
    score = appeal.of(base.encode(later.texts)).reshape(-1, 3)
    assert (score.argmax(1) == 0).mean() > 0.9
    assert (gains(appeal, base) > 0.3).all()
    assert not gains(new, base).any()


def test_what_articles_have_of_their_own_says_nothing(base: Base, design: WordingDesign) -> None:
    """The word of articles that are clicked more is no better than others, nor does it matter how much they are."""
    shown = worded(80, seed=0)
    appeal = learned(Appeal.new(design, base.width), base, design, shown)
    rate = shown.clicked / shown.shown
    pulls, plain = (np.array([wanted(text) for text in shown.texts]) for wanted in (has_pull, is_plain))
    assert rate[pulls].mean() > 3 * rate[plain].mean()
    assert (gains(appeal, base, PULLS) < 0.15).all()
    # An article that is shown ten times as often for as many clicks says the same.
    often = np.repeat(np.random.default_rng(0).choice([1, 10], 80), 3)
    same = learned(Appeal.new(design, base.width), base, design, replace(shown, shown=shown.shown * often))
    np.testing.assert_allclose(same.direction, appeal.direction, atol=1e-6)


def test_two_windows_say_what_both_at_once_do(base: Base, design: WordingDesign) -> None:
    one, two = worded(40, seed=0), worded(40, seed=1, prefix="b")
    both = Shown(
        one.articles + two.articles,
        one.texts + two.texts,
        np.concatenate([one.shown, two.shown]),
        np.concatenate([one.clicked, two.clicked]),
    )
    new = Appeal.new(design, base.width)
    apart, at_once = learned(new, base, design, one, two), learned(new, base, design, both)
    np.testing.assert_allclose(gains(apart, base), gains(at_once, base), rtol=0.1)


def test_one_article_with_endless_clicks_does_not_outweigh_others(base: Base, design: WordingDesign) -> None:
    """Nor where its clicks come in many windows."""
    others = worded(60, seed=0)
    one = Shown(["big"] * 2, ["oak nail lamp", "oak nail door"], np.array([10_000] * 2), np.array([500, 2_000]))
    start = learned(Appeal.new(design, base.width), base, design, others)
    after = learned(start, base, design, *[one] * 30)
    assert (gains(after, base) > 0.3).all()
    known = after.clicks[after.things == one.keys[0][0]]
    assert known == pytest.approx(30 * 1_250)
    trusting = replace(design, unexplained=0.0)
    assert (gains(learned(start, base, trusting, *[one] * 30), base) < 0).all()


def test_what_was_learned_wears_out(base: Base, folder: str) -> None:
    design = design_for(folder, half_life_days=30.0)
    start = learned(Appeal.new(design, base.width), base, design, worded(80, seed=0))
    turned = worded(30, seed=1, gains="floor", prefix="b")
    soon, late = (learned(start, base, design, turned, at=days * DAY) for days in (2, 200))
    assert (gains(late, base) < gains(soon, base)).all()
    assert (gains(late, base, "floor") > gains(soon, base, "floor")).all()
    assert late.at == 200 * DAY
    assert learned(late, base, design, turned, at=DAY).at == 200 * DAY  # what comes late turns no time back


def test_it_is_the_same_to_the_bit_and_read_back_to_the_bit(base: Base, design: WordingDesign) -> None:
    def once() -> Appeal:
        return learned(Appeal.new(design, base.width), base, design, worded(40, seed=0), worded(40, seed=1, prefix="b"))

    one, two = once(), once()
    assert bits(one) == bits(two)
    again = Appeal.from_arrays({name: array.copy() for name, array in one.arrays().items()})
    later = worded(40, seed=2, prefix="c")
    assert bits(learned(again, base, design, later)) == bits(learned(one, base, design, later))


def test_a_texts_appeal_is_the_same_beside_any_others(base: Base, design: WordingDesign) -> None:
    shown = worded(40, seed=0)
    appeal, vectors = learned(Appeal.new(design, base.width), base, design, shown), base.encode(shown.texts)
    alone = np.concatenate([appeal.of(vectors[row : row + 1]) for row in range(len(vectors))])
    assert alone.tobytes() == appeal.of(vectors).tobytes()


def test_what_says_nothing_of_wordings_is_left_out(base: Base, design: WordingDesign) -> None:
    keys = np.arange(1, 8, dtype=np.int64)
    # One of one wording, one that nobody clicked, and one of two, of which one is in two rows.
    found = Wordings.of(
        np.array([9, 5, 5, 7, 7, 7, 9]), keys[[0, 1, 2, 3, 4, 3, 0]], [4, 5, 6, 1, 2, 3, 4], [1, 0, 0, 1, 0, 2, 0]
    )
    assert found.things.tolist() == [7]
    assert (found.text.tolist(), found.shown.tolist(), found.clicked.tolist()) == ([4, 5], [4, 2], [3, 0])
    none = Wordings.of(np.zeros(0, np.int64), np.zeros(0, np.int64), [], [])
    appeal = Appeal.new(design, base.width)
    assert appeal.updated(none, np.zeros((0, base.width), np.float32), DAY, design) is appeal
    with pytest.raises(ValueError, match="fewer than 1 impression, or clicks below 0"):
        Wordings.of(keys[:2], keys[:2], [0, 3], [0, 1])


def test_of_very_many_things_the_latest_are_remembered(
    base: Base, design: WordingDesign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.text.appeal.MOST_THINGS", 50)
    first = learned(Appeal.new(design, base.width), base, design, worded(40, seed=0))
    after = learned(first, base, design, worded(40, seed=1, prefix="b"), at=2 * DAY)
    assert len(after.things) == 50
    assert (after.last == 2 * DAY).sum() == 40
    assert (np.diff(after.things) > 0).all()
