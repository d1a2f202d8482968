"""A sample of a log or of a file of items: what ``millrace init`` looks at."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.ingest.log_files import read_table

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


def read_sample(path: Path, most: int = MOST) -> Sample:
    """At most so many rows, in blocks spread over the file: so all its times are there, in whatever order it is, and
    what one user did within minutes is mostly whole. Raises ImportRefused where the file cannot be read."""
    return sample(read_table(path), most)


def sample(rows: pl.DataFrame, most: int = MOST) -> Sample:
    """The same of rows that are read already."""
    if len(rows) <= most:
        return Sample(rows, len(rows))
    blocks = min(BLOCKS, most)
    length = most // blocks
    starts = [(len(rows) - length) * block // max(blocks - 1, 1) for block in range(blocks)]
    return Sample(pl.concat([rows[start : start + length] for start in starts]), len(rows))
