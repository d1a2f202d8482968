"""A sample of a log or of a file of items: what ``millrace init`` looks at."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from features.ingest.sources import opened

MOST = 200_000
BLOCKS = 40


@dataclass(frozen=True)
class Sample:
    """Rows of a file, in its order."""

    rows: pl.DataFrame

    of: int
    """How many rows the file has."""

    @property
    def share(self) -> float:
        """Of the file's rows, above 0 to 1."""
        return len(self.rows) / self.of if self.of else 1.0


def read_sample(log: str | Path, most: int = MOST) -> Sample:
    """At most about so many rows, in blocks spread over the log: so all its times are there, in whatever order it is,
    and what one user did within minutes is mostly whole. Raises ImportRefused where the log cannot be read."""
    with TemporaryDirectory(prefix="millrace-sample-") as folder, opened(log, folder=Path(folder)) as source:
        count = source.count
        if count is None:
            count = sum(len(batch.rows) for batch in source.batches())
        if count <= most:
            return Sample(source.whole(), count)
        blocks = [slice(start, start + most // BLOCKS) for start in starts(count, most)]
        taken, done = list[pl.DataFrame](), 0
        for batch in source.batches():
            taken += [batch.rows[max(one.start - done, 0) : max(one.stop - done, 0)] for one in blocks]
            done += len(batch.rows)
        return Sample(pl.concat(taken), count)


def starts(count: int, most: int) -> list[int]:
    """Where the blocks begin of a sample of ``most`` of so many rows."""
    return [(count - most // BLOCKS) * block // (BLOCKS - 1) for block in range(BLOCKS)]
