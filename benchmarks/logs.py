"""The click log that a bench replays: a file, or a seeded one."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from features.ingest.log_files import Files
from flows.drill.logs import Log, read_log, simulated


@dataclass(frozen=True)
class LogConfig:
    """Which log."""

    path: str | Path | None = None
    """A click log, as ``millrace import`` takes it; without one, a seeded one is simulated."""

    items: str | Path | None = None

    until: datetime | None = None
    """What the file shows from then on is left out."""

    days: float = 4.0
    """Of the seeded log, as the fields below."""

    requests_per_day: int = 10_000
    seed: int = 0

    def read(self) -> Log:
        """The log. Raises ImportRefused where an import would."""
        if self.path is None:
            return simulated(seed=self.seed, days=self.days, requests_per_day=self.requests_per_day)
        return read_log(Path(self.path).stem, Files(self.path, self.items), now=datetime.now(UTC), until=self.until)


SEEDED_LOG = LogConfig()
BUSY_LOG = LogConfig(requests_per_day=48_000)
TWO_BUSY_DAYS = LogConfig(days=2.0, requests_per_day=48_000)
