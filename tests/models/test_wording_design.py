"""What a surface declares of its wordings is checked when it is built, by field, value and remedy."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from models.learning.design import Design
from models.text.text_design import TextDesign
from models.text.wording_design import WordingDesign

DESIGN = WordingDesign("headline", "article")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"item": ""}, r"text\.item is '': name an id column"),
        ({"of": ""}, r"text\.of is '': name an id column"),
        ({"encoder": ""}, r"text\.encoder is '': name a model or a folder"),
        ({"of": "headline"}, r"text\.of is 'headline', the same as text\.item: name the id column that"),
        ({"layers": 0}, r"text\.layers is 0: give at least 1"),
        ({"prior": 0.0}, r"text\.prior is 0\.0: give more than 0"),
        ({"unexplained": -0.1}, r"text\.unexplained is -0\.1: give at least 0"),
        ({"half_life_days": 0.0}, r"text\.half_life_days is 0\.0: give more than 0"),
    ],
)
def test_a_design_without_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DESIGN, **given)


@pytest.mark.parametrize("text", [DESIGN, TextDesign("query", "title"), None])
def test_a_design_comes_back_from_what_a_version_says_of_it(text: WordingDesign | TextDesign | None) -> None:
    design = Design(text=text)
    assert Design.of(json.loads(json.dumps(asdict(design)))) == design
