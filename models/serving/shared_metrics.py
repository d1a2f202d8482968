"""The metrics of all processes behind one port, whichever of them is asked.

Each writes its page to a file every second; who is asked adds the others' to its own, every sample with the label
``worker``. So a counter begins anew with its process, as Prometheus expects, and sums over workers are right.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from models.serving.config import Place
from models.serving.telemetry import LOG, Metrics

EVERY_S = 1.0

GONE_S = 10.0
"""A page that is older is of a process that is no more."""


class SharedMetrics:
    """Of one process, in a folder of those that share its port."""

    def __init__(self, metrics: Metrics, place: Place, folder: Path) -> None:
        self._metrics = metrics
        self._place = place
        self._folder = folder

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        if self._place.of == 1:
            return self._metrics.page()
        pages = {self._place.index: self._metrics.page().decode()}
        for index in set(range(self._place.of)) - {self._place.index}:
            with contextlib.suppress(OSError):  # it has not begun
                file = self._file(index)
                if time.time() - file.stat().st_mtime < GONE_S:
                    pages[index] = file.read_text()
        return generate_latest(_Merged(merged(pages)))

    def follow(self, stopping: threading.Event) -> None:
        """Write the page for the others until ``stopping`` is set; nothing where there are none."""
        if self._place.of == 1:
            return
        file = self._file(self._place.index)
        while True:
            try:
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                new = file.with_suffix(".new")
                new.write_bytes(self._metrics.page())
                new.replace(file)
            except OSError as error:
                LOG.warning("the other processes do not have the metrics of this one: %s", error)
            if stopping.wait(EVERY_S):
                file.unlink(missing_ok=True)
                return

    def _file(self, index: int) -> Path:
        return self._folder / f"{index}.prom"


def merged(pages: dict[int, str]) -> list[Metric]:
    """The families of pages, each sample with its page's number as the label ``worker``."""
    families: dict[str, Metric] = {}
    for index, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page):
            own = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            own.samples += [
                sample._replace(labels={**sample.labels, "worker": str(index)}) for sample in family.samples
            ]
    return [*families.values()]


@dataclass(frozen=True)
class _Merged:
    families: Iterable[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.families
