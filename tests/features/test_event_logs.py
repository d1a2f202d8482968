"""What a ``Log`` may say of events of several kinds and of clicks alone, and what it refuses."""

from collections.abc import Callable

import pytest

from features.declare.log import FromEvent, FromRow, Log

CART = FromEvent("cart", "addtocart")

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "kinds shown of no column": (lambda: Log(shown=("view",)), 'need events="..."'),
    "feedback of events of no column": (lambda: Log(feedback=(CART,)), 'need events="..."'),
    "nothing shown": (lambda: Log(events="event", feedback=(CART,)), r'needs shown=\("view",\)'),
    "shown and feedback": (lambda: Log(events="event", shown=("addtocart",), feedback=(CART,)), "can be one of these"),
    "a kind that cannot be": (lambda: FromEvent("Add to cart", "addtocart"), "lower-case word"),
    "an event without a name": (lambda: FromEvent("cart", ""), "event is empty"),
    "fewer than none": (lambda: Log(sampled=-1), "sampled=-1 must be 0 to 100"),
    "clicks alone with labels": (lambda: Log(sampled=4, feedback=(FromRow("rating", "stars"),)), "leave out events"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_a_remedy(case: str) -> None:
    made, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        made()


def test_events_and_clicks_alone_can_be_declared() -> None:
    assert Log(events="event", shown=("view",), feedback=(CART,)).shown == ("view",)
    assert Log(sampled=4).sampled == 4
