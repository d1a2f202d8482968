"""The report on wordings: traits of any text, and what it says of counts."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from monitoring.evaluation.wording_traits import ADDRESSES, ASKS, GENERAL, LONG, NUMBER, QUOTES, traits_of
from monitoring.evaluation.wordings import COUNTS, LISTED, Span, wordings

SPAN = Span(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))


def counted(*rows: tuple[str, str, int, int]) -> pl.DataFrame:
    """Counts of things' wordings: thing, wording, impressions, clicks."""
    data = [(f"v{place}", *row, False) for place, row in enumerate(rows)]
    return pl.DataFrame(data, schema=COUNTS, orient="row")


def traits_by_text(*texts: str) -> list[set[str]]:
    found = traits_of(texts, np.zeros(len(texts), np.int64))
    return [{found.names[trait] for trait in found.trait[found.wording == place]} for place in range(len(texts))]


@pytest.mark.parametrize(
    ("text", "has", "has_not"),
    [
        ("Why You’re wrong", {"“why”", "“you're”", "“wrong”", ADDRESSES}, {ASKS, NUMBER, QUOTES}),
        ("7 things; is it TRUE?", {"“7”", "“true”", "“is”", NUMBER, ASKS}, {ADDRESSES}),
        ("„Nein“, sagt er", {"“nein”", QUOTES}, {ASKS}),
        ("it's 'so' young", {"“it's”", "“young”", "“so”"}, {QUOTES, ADDRESSES}),
        ("ماذا؟", {"“ماذا”", ASKS}, {NUMBER}),
        ("", set(), {*GENERAL}),
    ],
)
def test_traits_are_read_off_any_text(text: str, has: set[str], has_not: set[str]) -> None:
    alone = [name.strip("“”") for name in has if name.startswith("“")]
    found, *_ = traits_by_text(text, *alone, "you", "8")  # which tell its words apart
    assert has <= found
    assert not found & has_not


def test_a_word_counts_once_and_long_is_beside_its_own_thing() -> None:
    found = traits_of(["a a a", "b", "c d e f", "g h i j"], np.array([0, 0, 1, 1]))
    assert len(found.trait) == len(set(zip(found.trait, found.wording, strict=True)))
    assert found.wording[found.trait == GENERAL.index(LONG)].tolist() == [0]


def test_words_that_nothing_tells_apart_are_one_trait() -> None:
    found = traits_by_text("What it means for you", "It rains", "What means win", "You win 2")
    assert found[0] == {"“what” “means”", "“it”", ADDRESSES, LONG}, "“you” and “for” are in the same as these"
    assert found[1] == {"“it”", "“rains”"}
    assert found[3] == {ADDRESSES, "“win”", NUMBER}, "“2” is where a number is"
    (many,) = traits_by_text("one of six that go together")
    assert many == {"“one” “of” “six” “that” “go” …"}


def test_a_planted_word_is_called_at_its_size_and_others_are_not() -> None:
    random = np.random.default_rng(5)
    filler = [f"w{number}" for number in range(40)]
    rows = []
    for thing in range(250):
        for variant in range(3):
            words = [*random.choice(filler, 5, replace=False), "secret" if random.random() < 0.4 else "plain"]
            odds = 0.04 * np.exp(random.normal(0, 0.2)) * (1.5 if "secret" in words else 1.0)
            rows.append((f"t{thing}", " ".join([*words, f"x{variant}"]), 1500, int(random.binomial(1500, odds))))
    found = wordings(counted(*rows), SPAN)
    secret = next(trait for trait in found.traits[:2] if trait.name == "“secret”")
    assert secret.called
    assert secret.lower < 0.53 < secret.upper
    assert secret.gain == pytest.approx(0.53, abs=0.15)
    for trait in found.traits:
        assert trait.called == (trait.lower > 0 or trait.upper < 0)
        assert trait.lower < trait.gain < trait.upper
    # Who has not the one word has the other: they are one trait.
    called = {trait.name for trait in found.traits if trait.called} - {"“secret”", "“plain”"}
    assert len(called) <= 1
    assert len(found.traits) > 30


def test_things_are_listed_by_traffic_and_their_wordings_by_clicks_with_the_best_named() -> None:
    small = [(f"s{number:02}", f"{way} one", 100, 3) for number in range(LISTED + 5) for way in "ab"]
    found = wordings(
        counted(
            ("big", "the lesser", 9000, 270),
            ("big", "the best", 9000, 450),
            ("big", "nearly as good", 9000, 440),
            ("clear", "wins", 5000, 400),
            ("clear", "loses", 5000, 200),
            ("single", "alone", 99_000, 9),
            *small,
        ),
        SPAN,
    )
    assert [thing.name for thing in found.things[:3]] == ["big", "clear", "s00"]
    assert len(found.things) == LISTED
    assert (found.of_things, found.variants) == (LISTED + 8, 6 + len(small))
    big, clear = found.things[:2]
    assert [variant.text for variant in big.variants] == ["the best", "nearly as good", "the lesser"]
    assert [(variant.best, variant.behind) for variant in big.variants] == [
        (False, False), (False, False), (False, True)
    ]  # fmt: skip
    assert [(variant.best, variant.behind) for variant in clear.variants] == [(True, False), (False, True)]
    assert clear.variants[0].gain == pytest.approx(0.04)
    assert clear.impressions == 10_000


def test_of_nothing_there_is_nothing_to_say() -> None:
    found = wordings(pl.DataFrame(schema=COUNTS), SPAN)
    assert (found.impressions, found.clicks, found.variants, found.of_things) == (0, 0, 0, 0)
    assert found.things == ()
    assert found.traits == ()
