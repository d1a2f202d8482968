"""The configuration of one serving process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from features.declare.features import Features
from features.declare.recommend import Recommend
from features.declare.variants import Variants
from features.declare.views import TeamView
from models.exploration.explorer import Explorer
from models.serving.durable.acceptance import Durable
from models.text.text_design import TextDesign
from models.text.wording_design import WordingDesign


@dataclass(frozen=True)
class ServedSurface:
    """As much of a surface's declaration as serving needs."""

    features: Features

    views: tuple[TeamView, ...] = ()
    """A team's own."""

    recommend: Recommend | None = field(default_factory=Recommend)
    """How it recommends; None: requests name their candidates."""

    version: str = ""
    """Of the file that declares it: of another version it is served anew."""

    explore: Explorer | None = None
    """What of its order is left to chance; None: nothing is."""

    text: TextDesign | WordingDesign | None = None
    """How its texts are read; None: they are ids alone."""

    variants: Variants | None = None
    """Of what its items are variants; None: each is a thing of its own."""


@dataclass(frozen=True)
class Place:
    """Of a process among those that share a port."""

    index: int = 0
    of: int = 1
    replaces: bool = False
    """Whether it takes the place of one that ended, while others answer."""

    @property
    def name(self) -> str:
        return f"serving-{self.index}" if self.index else "serving"


@dataclass(frozen=True)
class ServingConfig:
    """What ``__main__`` gives to the service, and a test to its own."""

    database_url: str

    surfaces: Callable[[], Mapping[str, ServedSurface]]
    """The surfaces as they are declared now, by name; asked again now and then."""

    cache: Path
    """A folder of its own on a local disk, for models and for the journal; it must outlive the process."""

    tracking_uri: str
    """MLflow's, to fetch versions whose address needs it."""

    artifact_root: str | None = None

    open_without_keys: bool = False
    """Whether everybody is answered while there is no API key: on loopback, or as ``MILLRACE_OPEN_SERVING`` says."""

    poll_s: float = 2.0
    """How often the promotions are looked for, beside being notified; and API keys."""

    follow_s: float = 2.0
    """How often the log is followed."""

    drain_s: float = 0.25
    """How often what the journal holds is brought to PostgreSQL."""

    threads: int = 2
    """Requests scored at once; torch and numpy take a core each."""

    durable: Durable = "journal"
    """What an answer waits for: the journal on the local disk, or PostgreSQL's commit."""

    patience_s: float = 1.0
    """How long a response waits for the journal, or for PostgreSQL where it waits for that, before the other is asked
    to take its impressions."""

    compiles: bool = True
    """Whether encoders of texts are compiled, by a process beside this one, when the installation has none yet."""

    place: Place = field(default_factory=Place)

    clock: Callable[[], float] = time.time
    """Seconds since 1970."""

    traces_to: str | None = None
    """An OpenTelemetry collector's address; None: nothing is traced."""

    report: Callable[[Mapping[str, str]], None] = lambda versions: None
    """Is given the versions of the surfaces that are in service, again and again."""

    def __post_init__(self) -> None:
        for name in ("poll_s", "follow_s", "drain_s", "threads", "patience_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.durable not in get_args(Durable):
            raise ValueError(f"durable is {self.durable!r}: it must be one of {', '.join(get_args(Durable))}")
