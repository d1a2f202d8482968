"""The bench of imports: rows a second from a file into the event log, and the memory of it, which must not grow with
the file. Each import is a process of its own, as ``millrace import`` is one."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from benchmarks.bench import Clock, Progress
from benchmarks.table import Row, Table, machine
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from infra.postgres.migrations import migrate
from infra.postgres.scratch import scratch_database

MEGABYTES = 1_000.0
SPEEDS = {"parquet": 200_000.0, "csv": 100_000.0}
"""Goals, rows a second."""

START = 1_767_225_600
CHUNK = 500_000


@dataclass(frozen=True)
class ImportConfig:
    """What is imported, where."""

    url: str
    """A server on which a database may be made for each."""

    rows: int = 1_000_000
    """Of a log of five candidates a request, of which each fifth is clicked; 10 million for the goal of memory."""


def bench(config: ImportConfig, *, clock: Clock, progress: Progress) -> Table:
    """Measure the import of a parquet and of a CSV file of the same rows. ``clock`` gives seconds of the wall."""
    rows = list[Row]()
    with TemporaryDirectory(prefix="millrace-import-") as folder:
        for kind, write in (("parquet", _write_parquet), ("csv", _write_csv)):
            path = Path(folder) / f"log.{kind}"
            write(path, config.rows)
            progress(f"{config.rows:,} rows, {path.stat().st_size / 2**20:,.0f} MB of {kind}")
            with scratch_database(config.url, "import") as url:
                migrate(url)
                began = clock()
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.imports", url, str(path)], check=True, capture_output=True
                )
                seconds = clock() - began
            used = json.loads(done.stdout)
            speed = config.rows / seconds
            goal, own = SPEEDS[kind], config.rows / used["cpu"]
            rows.append(Row(f"{kind}, rows a second", speed, goal=f"at least {goal:,.0f}", met=speed >= goal))
            rows.append(Row("  of its own process's time, without the server's", own))
            memory = used["megabytes"]
            rows.append(Row("  memory", memory, "MB", goal=f"below {MEGABYTES:,.0f}", met=memory < MEGABYTES))
            path.unlink()
    return Table("import", machine(), rows)


def _rows(count: int) -> Iterator[pl.DataFrame]:
    random = np.random.default_rng(0)
    for first in range(0, count, CHUNK):
        row = np.arange(first, min(first + CHUNK, count))
        yield pl.DataFrame(
            {
                "impression_id": row,
                "request_id": row // 5,
                "user_id": random.integers(0, 100_000, row.size),
                "item_id": random.integers(0, 30_000, row.size),
                "position": row % 5,
                "shown_at": pl.Series((START + row // 50) * 1_000_000).cast(pl.Datetime("us", "UTC")),
                "clicked": row % 5 == random.integers(0, 5, row.size),
                "device": random.choice(["phone", "desktop", "tablet"], row.size),
                "region": random.integers(0, 30, row.size),
            }
        )


def _write_parquet(path: Path, count: int) -> None:
    import pyarrow.parquet as pq

    frames = (frame.to_arrow() for frame in _rows(count))
    first = next(frames)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in frames:
            writer.write_table(table)


def _write_csv(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for place, frame in enumerate(_rows(count)):
            texts = frame.with_columns(pl.col("shown_at").dt.to_string("%Y-%m-%dT%H:%M:%SZ"))
            texts.write_csv(file, include_header=place == 0)


def _measured(imported: Callable[[], object]) -> dict[str, float]:
    imported()
    return {"cpu": time.process_time(), "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


if __name__ == "__main__":
    address, log = sys.argv[1:]
    times = FileTimes(datetime.now(UTC))
    print(json.dumps(_measured(lambda: import_log(address, "feed", Files(log), times=times))))
