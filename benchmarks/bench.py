"""What a bench is: something measured with a clock, that reports its progress and ends in a table."""

from collections.abc import Callable
from typing import Protocol

from benchmarks.table import Table

Clock = Callable[[], float]
"""Seconds, from any beginning."""

Progress = Callable[[str], None]
"""Gets what is done, a line at a time."""


class Bench(Protocol):
    """A bench, its config bound."""

    def __call__(self, *, clock: Clock, progress: Progress) -> Table: ...
