"""The bench of the canary: what becomes of simulated canaries whose truth is known, looked at again and again; and how
its test and a plain one fare on real experiments.

python -m benchmarks canary --log asos_experiments.parquet
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.bench import Clock, Progress
from benchmarks.canary_simulations import Planted, Traffic, outcomes
from benchmarks.experiments import compared
from benchmarks.table import Row, Table, machine
from monitoring.live.canary import Canary

FALSE_ALARMS = 0.01
"""Share of equal canaries that may be rolled back on evidence: six tests at a thousandth each, and the success
measure, which is the margin away from an error."""


@dataclass(frozen=True)
class Scene:
    """One kind of canary, and how it is tried."""

    what: str
    canary: Canary
    planted: Planted

    wrong: Literal["promoted", "rolled back"] | None
    """What it should not become."""


CANARY = Canary(margin=0.1)
SUPERIOR = Canary(margin=0.1, goal="superior")
SHADOW = Canary(way="shadow")
INTERLEAVED = Canary(way="interleave", margin=0.1)

SCENES = (
    Scene("equal", CANARY, Planted(), "rolled back"),
    Scene("10 % fewer clicks, which is the margin", CANARY, Planted(clicks=0.9), "promoted"),
    Scene("30 % fewer clicks", CANARY, Planted(clicks=0.7), "promoted"),
    Scene("half of the clicks", CANARY, Planted(clicks=0.5), "promoted"),
    Scene("5 % errors", CANARY, Planted(errors=0.05), "promoted"),
    Scene("5 % empty answers", CANARY, Planted(empty=0.05), "promoted"),
    Scene("5 % slow answers", CANARY, Planted(slow=0.05), "promoted"),
    Scene("one score for all", CANARY, Planted(constant_score=0.0), "promoted"),
    Scene("a quarter more users than its control", CANARY, Planted(users=1.25), None),
    Scene("equal, goal superior", SUPERIOR, Planted(), "promoted"),
    Scene("20 % more clicks, goal superior", SUPERIOR, Planted(clicks=1.2), "rolled back"),
    Scene("equal, shadow", SHADOW, Planted(), "rolled back"),
    Scene("5 % more log loss, which is the margin, shadow", SHADOW, Planted(gain=-0.05), "promoted"),
    Scene("10 % more log loss, shadow", SHADOW, Planted(gain=-0.1), "promoted"),
    Scene("equal, interleaved", INTERLEAVED, Planted(), "rolled back"),
    Scene("30 % fewer clicks, interleaved", INTERLEAVED, Planted(clicks=0.7), "promoted"),
)


@dataclass(frozen=True)
class CanaryConfig:
    """What to run."""

    log: Path | None = None
    """Real experiments."""

    runs: int = 200
    """Of each scene."""

    traffic: Traffic = field(default_factory=Traffic)
    seed: int = 0

    @staticmethod
    def quick() -> "CanaryConfig":
        """The same in seconds, for a first look."""
        return CanaryConfig(runs=20, traffic=Traffic(users=6_000, looks=24))


def bench(config: CanaryConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run all of it."""
    began = clock()
    rows = list(compared(config.log, progress=progress)) if config.log else []
    for scene in SCENES:
        rows += _rows(scene, config)
        progress(f"{scene.what}: {clock() - began:.0f} s")
    return Table("canary", machine(), rows)


def _rows(scene: Scene, config: CanaryConfig) -> Iterator[Row]:
    found = outcomes(scene.canary, scene.planted, config.traffic, runs=config.runs, seed=config.seed)
    ends = (("promoted", found.promoted, scene.canary.risk), ("rolled back", found.rolled_back, FALSE_ALARMS))
    for end, share, allowed in ends:
        what = f"{scene.what}: {end}{' on evidence' if end == 'rolled back' else ''}"
        if end == scene.wrong:
            yield Row(what, 100 * share, "%", goal=f"at most {100 * allowed:g} %", met=share <= allowed)
        else:
            yield Row(what, 100 * share, "%")
    if found.requests is not None:
        yield Row(f"{scene.what}: its requests until then, median", found.requests)
