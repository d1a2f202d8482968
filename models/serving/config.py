"""The configuration of one serving process."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.declare.families import Features
from features.declare.views import TeamView


@dataclass(frozen=True)
class ServingConfig:
    """What ``__main__`` gives to the service, and a test to its own."""

    database_url: str

    surfaces: Mapping[str, Features]
    """The features of each surface it serves."""

    cache: Path
    """A folder of its own on a local disk, for models and for the spool; it must outlive the process."""

    tracking_uri: str
    """MLflow's, to fetch versions whose address needs it."""

    artifact_root: str | None = None

    views: Mapping[str, Sequence[TeamView]] = field(default_factory=dict)
    """A team's own views, of the surfaces that have some."""

    poll_s: float = 2.0
    """How often the promotions are looked for, beside being notified."""

    follow_s: float = 2.0
    """How often the log is followed."""

    threads: int = 2
    """Requests scored at once; torch and numpy take a core each."""

    patience_s: float = 1.0
    """How long a response waits for the commit before its impressions go to the spool instead."""

    clock: Callable[[], float] = time.time
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        if not self.surfaces:
            raise ValueError("surfaces is empty: name at least one surface to serve")
        for name in ("poll_s", "follow_s", "threads", "patience_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
