"""Variants are declared on ids of the item, and the same wording of a thing is the same item."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.declare.columns import Id
from features.declare.features import Features
from features.declare.recommend import Recommend, VariantsOf
from features.declare.variants import Variants
from features.identity.variant import variant_id
from flows.surface import Surface

FEATURES = Features(columns=(Id("story", of="item", column="story_id"), Id("title", of="item"), Id("device")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"of": 3}, r"of is 3: write a text"),
        ({"of": "title"}, r"of and text are both 'title'"),
        ({"stop": 0}, r"stop=0 must be a chance between 0 and 1, or None"),
        ({"stop": 1.0}, r"stop=1\.0 must be a chance"),
        ({"propose": "gpt"}, r"propose='gpt' must be a function"),
        ({"propose_within": timedelta(0)}, r"propose_within=datetime\.timedelta\(0\) must be .* up to 5 minutes"),
        ({"propose_within": 20}, r"propose_within=20 must be a timedelta above 0"),
    ],
)
def test_each_field_says_what_it_must_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variants(**{"of": "story", "text": "title", **fields})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variants": Variants("device", "title")},
            r"of is 'device', which is no Id of the item; there are story, tit",
        ),
        ({"variants": Variants("story", "words")}, r"text is 'words'.*Declare it: Id\('words', of='item'\)"),
        ({"variants": ("story", "title")}, r"surface news: variants is .*: write variants=Variants"),
        (
            {"variants": None, "recommend": Recommend(sources=(VariantsOf(),))},
            r"recommend has VariantsOf, and its items are variants of nothing: write variants=Variants",
        ),
    ],
)
def test_a_surface_says_what_its_variants_must_be(changes: dict[str, Any], message: str) -> None:
    good = Surface("news", FEATURES, variants=Variants("story", "title"), recommend=Recommend(sources=(VariantsOf(),)))
    assert good.variants is not None
    assert good.variants.columns(FEATURES) == ("story_id", "title")
    with pytest.raises(ValueError, match=message):
        replace(good, **changes)


def test_a_thing_and_its_wording_are_two_columns_of_the_log() -> None:
    one = Features(columns=(Id("story", of="item", column="text"), Id("title", of="item", column="text")))
    with pytest.raises(ValueError, match="both the log's column 'text'"):
        Variants("story", "title").expect(one)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_an_item_is_its_thing_and_its_wording_together(of: str, wording: str, other_of: str, other: str) -> None:
    name = variant_id(of, wording)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert (variant_id(other_of, other) == name) == ((other_of, other) == (of, wording))


def test_it_is_the_same_for_good() -> None:
    assert variant_id("a1", "Ten ways to peel a pear") == "90b00657a64d0064"


def test_it_says_in_words_what_it_does() -> None:
    assert Variants("story", "title").words == "each title is one of its story; losers are stopped, with 5 % of error"
    assert Variants("story", "title", stop=None).words.endswith("none is stopped")
