"""What the bench of serving does to each system: how many candidates, on how many connections, or at what rate."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.serve_installation import Seeded
from benchmarks.serve_peers import FASTAPI, MLFLOW, STARLETTE

FEW, MANY, CONNECTIONS = 20, 200, 8
"""Candidates and connections that the goals are about; they are measured whatever else is."""

SHOWN = 20
"""Of 200 candidates, as a page shows: what is shown is logged. Where nothing is said of it, all are."""

EVERY_PEER = (STARLETTE, FASTAPI, MLFLOW)


@dataclass(frozen=True)
class ServeConfig:
    """What to run."""

    candidates: tuple[int, ...] = (10, 50, 500, 1000)
    """Of a request on one connection, beside 20 and 200."""

    connections: tuple[int, ...] = (2, 32)
    """At once, with 200 candidates, beside 1 and 8."""

    rates: tuple[float, ...] = (5.0, 10.0, 20.0)
    """Requests of 200 candidates a second, which arrive whether others were answered or not (a Poisson process)."""

    rounds: int = 4
    seconds: float = 3.0
    """Of a round."""

    feedback_s: float = 8.0
    batch: int = 50
    """Feedback of a request."""

    beside: float = 5.0
    """Requests of 200 candidates a second while feedback comes in."""

    swapped: int = 100_000
    """Requests while versions are swapped."""

    swaps: int = 500

    workers: int = 1
    """Serving processes."""

    catalogue: int = 50_000
    """Items that are recommended from."""

    recommend_rate: float = 100.0
    """Requests for recommendations that arrive a second."""

    recommend_s: float = 8.0

    log: Seeded = field(default_factory=Seeded)

    peers: tuple[str, ...] = (STARLETTE, FASTAPI)

    folder: Path | None = None
    """Where the installation is made, on the disk to measure; where temporary files are when None."""

    pictures: Path | None = None
    """Folder for the plots; none are drawn without one."""

    seed: int = 0

    def __post_init__(self) -> None:
        if STARLETTE not in self.peers:
            raise ValueError(f"peers are {', '.join(self.peers)}: {STARLETTE} must be among them")
        for name, least, most in (("candidates", 1, 1000), ("connections", 1, 256)):
            for value in getattr(self, name):
                if not least <= value <= most:
                    raise ValueError(f"{name} has {value}: use {least} to {most}")
        if any(rate <= 0 for rate in self.rates):
            raise ValueError(f"rates are {', '.join(map(str, self.rates))}: each must be above 0")

    @staticmethod
    def quick() -> "ServeConfig":
        """The same in a minute or two, most of which makes the installation."""
        log = Seeded(days=1.1, requests_per_day=2_400)
        log = Seeded(days=1.1, requests_per_day=2_400)
        return ServeConfig(
            *((), (), (5.0,)),
            rounds=2,
            seconds=0.7,
            feedback_s=1.5,
            swapped=500,
            swaps=24,
            recommend_s=1.5,
            log=log,
        )


@dataclass(frozen=True)
class Setting:
    """One kind of load."""

    candidates: int
    connections: int = 1
    rate: float | None = None
    """Requests a second that arrive, on as many connections as it takes; None: each client sends one after another."""
    shown: int | None = None
    """Of the candidates; all when None. A peer answers with all, and logs none."""

    def __str__(self) -> str:
        candidates = f"{self.candidates} candidates" + ("" if self.shown is None else f", {self.shown} shown")
        if self.rate is not None:
            return f"{candidates}, {self.rate:g} requests/s arrive"
        return f"{candidates}, {self.connections} connection{'s' * (self.connections > 1)}"


def settings_of(config: ServeConfig) -> list[Setting]:
    """What is measured of each system, in order."""
    one = [Setting(candidates) for candidates in sorted({FEW, MANY, *config.candidates})]
    more = [Setting(MANY, connections) for connections in sorted({CONNECTIONS, *config.connections} - {1})]
    page = [Setting(MANY, connections, shown=SHOWN) for connections in (1, CONNECTIONS)]
    return [*one, *more, *page, *(Setting(MANY, rate=rate) for rate in config.rates)]


def poisson(draw: np.random.Generator, rate: float | None, seconds: float) -> list[float]:
    """Times in ``seconds`` at which requests arrive; at least one."""
    if rate is None:
        return []
    times = np.cumsum(draw.exponential(1 / rate, size=max(1, round(2 * rate * seconds))))
    return [*times[:1].tolist(), *times[1:][times[1:] < seconds].tolist()]
