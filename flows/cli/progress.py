"""The progress bar of long commands, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class Bar:
    """A bar with a name before it."""

    progress: "Progress"
    task: "TaskID"

    def show(self, name: str, done: float, total: float | None) -> None:
        self.progress.update(self.task, description=name, completed=done, total=total, visible=True)

    def print(self, line: str) -> None:
        """A line above the bar."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(name: str = "", *, quiet: bool = False) -> Iterator[Bar]:
    """A bar, named from the start or hidden until its first ``show``; ``quiet``: never drawn."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield Bar(progress, progress.add_task(name, total=None, visible=bool(name)))
