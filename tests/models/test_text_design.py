"""What a surface declares of its text encoder is checked when it is built, by field, value and remedy."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from models.text.text_design import RATES, TextDesign

DESIGN = TextDesign("query", "item")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapt": "some"}, r"text\.adapt is 'some': give one of nothing, head, query, both, full"),
        ({"query": ""}, r"text\.query is '': name an id column"),
        ({"precision": "int4"}, r"text\.precision is 'int4': give one of float32, int8"),
        ({"precision": "int8", "adapt": "full"}, r"text\.precision is 'int8' and adapt 'full'"),
        ({"encoder": ""}, r"text\.encoder is '': name a model or a folder"),
        ({"rank": 0}, r"text\.rank is 0: give at least 1"),
        ({"rate": 0.0}, r"text\.rate is 0\.0: give more than 0"),
        ({"temperature": 0.0}, r"text\.temperature is 0\.0: give more than 0"),
        ({"warm_up": 1.0}, r"text\.warm_up is 1\.0: it is a share"),
        ({"held_out": -0.1}, r"text\.held_out is -0\.1: give at least 0"),
        ({"in_batch": False, "negatives": 0, "passed_over": 0}, r"text\.in_batch is False.*give one of them"),
    ],
)
def test_a_design_without_sense_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DESIGN, **given)


def test_the_rate_is_that_of_what_is_moved_unless_one_is_given() -> None:
    assert {kind: replace(DESIGN, adapt=kind).highest_rate for kind in RATES} == RATES
    assert replace(DESIGN, rate=0.25).highest_rate == 0.25


def test_a_design_comes_back_from_what_a_version_says_of_it() -> None:
    assert TextDesign(**asdict(DESIGN)) == DESIGN
