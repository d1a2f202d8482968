"""Variants: items of which each is one wording of some thing, as the headlines of an article. One of them is shown.

    Variants(of="article", text="headline")
    Variants(of="article", text="headline", propose=ask_the_desk)

Whoever asks names the thing, and is shown one of its variants; those that are known to be worse than another of the
same thing are stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from features.declare.expected import expect_text, is_number, is_span
from features.declare.features import Features

LONGEST_WAIT = timedelta(minutes=5)

Propose = Callable[[str, Sequence[str], int], Sequence[str]]
"""Of a thing, its wordings so far, and how many more are wanted: further wordings, that many at most."""


@dataclass(frozen=True)
class Variants:
    """Which columns of a surface's items say of what they are variants, and in which words."""

    of: str
    """The id of the item that says which thing it is a variant of."""

    text: str
    """The id of the item that is its wording."""

    stop: float | None = 0.05
    """The chance, over a thing's whole life and however often it is looked at, that a variant is stopped that is no
    worse than any other. None: none is stopped."""

    propose: Propose | None = None
    """Is asked for further wordings. None: wordings are sent, and nothing proposes any."""

    propose_within: timedelta = timedelta(seconds=20)
    """How long it is waited for."""

    def __post_init__(self) -> None:
        for field in ("of", "text"):
            expect_text("Variants", field, getattr(self, field))
        if self.of == self.text:
            raise ValueError(f"Variants: of and text are both {self.of!r}: a thing has several wordings, name two ids")
        if self.stop is not None and (not is_number(self.stop) or not 0 < self.stop < 1):
            raise ValueError(f"Variants: stop={self.stop!r} must be a chance between 0 and 1, or None to stop none")
        if self.propose is not None and not callable(self.propose):
            raise ValueError(
                f"Variants: propose={self.propose!r} must be a function of a thing, its wordings and a count, or None"
            )

        if not is_span(self.propose_within, LONGEST_WAIT) or not self.propose_within:
            raise ValueError(
                f"Variants: propose_within={self.propose_within!r} must be a timedelta above 0, up to"
                f" {LONGEST_WAIT.seconds // 60} minutes: a request waits for it"
            )

    def expect(self, features: Features) -> None:
        """Raises ValueError where it names what is no id of the surface's items."""
        there = [column.name for column in features.of_items]
        for field in ("of", "text"):
            name = getattr(self, field)
            if name not in there:
                known = ", ".join(there) or "none"
                raise ValueError(
                    f"Variants: {field} is {name!r}, which is no Id of the item; there are {known}. Declare it:"
                    f" Id({name!r}, of='item')"
                )
        twice = [column.column for column in features.of_items if column.name in (self.of, self.text)]
        if twice[0] == twice[1]:
            raise ValueError(
                f"Variants: {self.of!r} and {self.text!r} are both the log's column {twice[0]!r}: a thing and its"
                " wording are two"
            )

    @property
    def words(self) -> str:
        """For people: of what, and what becomes of losers."""
        stops = "none is stopped" if self.stop is None else f"losers are stopped, with {100 * self.stop:g} % of error"
        return f"each {self.text} is one of its {self.of}; {stops}"

    def columns(self, features: Features) -> tuple[str, str]:
        """What the log calls the thing, and the wording."""
        named = {column.name: column.column for column in features.of_items}
        return named[self.of], named[self.text]
