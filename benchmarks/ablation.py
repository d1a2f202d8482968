"""What each part is worth: the surface's model over a stream, with one part taken away or put in at a time.

    millrace bench ablation --log clicks.parquet --items items.parquet --until 2017-10-05

Every arm is updated every hour, and scored on all that comes after the warm-up before it learns from it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from benchmarks.designs import with_fields
from benchmarks.pictures import bars
from benchmarks.prequential import Arm, Run, follow
from benchmarks.stream import HOUR, Features, Replay, Stream, folded
from benchmarks.table import Row, Table, machine
from models.learning.design import Design
from models.learning.options.replay import ExperienceReplay
from models.networks.shape import Ftrl


@dataclass(frozen=True)
class Part:
    """A part of the whole, and how it is taken away or, where the whole does without it, put in."""

    name: str

    off: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the design without it. Those that the whole has already mean that it does without."""

    on: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the design with it, where the whole does without."""

    arm: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the arm without it."""

    features: Features = "live"
    """What the arm is given."""


def instead(what: str, **fields: Any) -> Part:
    """Another choice, and what the whole's own is worth beside it."""
    return Part(f"rather than {what}", off=fields)


AVERAGING, REPLAY = {"averaging": 0.99}, {"replay": ExperienceReplay(20_000, share=0.5)}
CROSSES = {"crosses": (("item", "referrer"), ("item", "region"), ("item", "last_section"), ("section", "last_section"))}

PARTS = (
    Part("features that move at all", features="frozen"),
    Part("features live, not refreshed hourly", features="hourly"),
    Part("features", arm={"numbers": False}),
    Part("learning on, with live features", arm={"every": None}),
    Part("ids", off={"crosses": ()}, arm={"ids": False}),
    Part("the user's last items", arm={"history": False}),
    Part("history attention", off={"attention": 0}, on={"attention": 8}),
    Part("cross layers", off={"cross_layers": 0}, on={"cross_layers": 3}),
    Part("deep part", off={"hidden": ()}, on={"hidden": (64,)}),
    Part("hashed crosses of ids", off={"crosses": ()}, on=CROSSES),
    Part("replay", off={"replay": None}, on=REPLAY),
    Part("warm-up of the rates", off={"warm_up_steps": 0}, on={"warm_up_steps": 2}),
    Part("averaging of the weights", off={"averaging": 0.0}, on=AVERAGING),
    Part("distillation from the champion", off={"distillation": 0.0}, on={"distillation": 0.2}),
    instead("Adam", optimiser="adam", rate=1.5e-3),
    instead("SGD", optimiser="sgd", rate=0.2),
    instead("Adagrad", optimiser="adagrad", rate=0.01),
    instead("FTRL-proximal", optimiser=Ftrl(rate=0.1)),
    instead("passive-aggressive", optimiser="passive_aggressive", rate=3e-2),
    instead("SGD, for the rows", table_optimiser="sgd", table_rate=1.0),
    instead("row-wise Adagrad, for the rows", table_optimiser="rowwise_adagrad", table_rate=0.05),
    instead("Adam, for the rows", table_optimiser="adam", table_rate=3e-3),
    instead("FTRL-proximal, for the rows", table_optimiser=Ftrl(rate=0.05)),
    instead("passive-aggressive, for the rows", table_optimiser="passive_aggressive", table_rate=1e-2),
    instead("deep-and-cross", ranker="cross"),
    instead("logistic with crosses", ranker="logistic", **CROSSES),
    instead("popularity", ranker="popularity"),
)


@dataclass(frozen=True)
class Plan(Replay):
    """What to run."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the whole; how far they lie apart is what chance makes. Each part is run with the first."""

    every: timedelta = HOUR
    parts: tuple[Part, ...] = PARTS


Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Ablated:
    """A part, and the run of its arm."""

    part: Part
    run: Run

    added: bool
    """Whether the arm has the part and the whole does without, and not the other way."""

    @property
    def title(self) -> str:
        """Of the arm."""
        if self.part.name.startswith("rather than "):
            return self.part.name.replace("rather than", "with")
        return f"{'with' if self.added else 'without'} {self.part.name}"

    def gain(self, whole: Run, measure: str) -> float:
        """What having the part is worth."""
        gain = whole.measures[measure] - self.run.measures[measure]
        return -gain if self.added else gain


def bench(plan: Plan, *, clock: Callable[[], float], say: Say) -> Table:
    """Run every part. ``clock`` gives seconds; ``say`` is told each arm as it ends."""
    log = plan.read()
    found = list[Ablated]()
    for features in ("frozen", "hourly"):
        parts = [part for part in plan.parts if part.features == features]
        if parts:
            found += ablated(plan, parts, folded(log, plan.surface, warmup=plan.warmup, features=features), clock, say)
    stream = folded(log, plan.surface, warmup=plan.warmup)
    wholes = [
        told(follow(whole(plan, f"all of it, seed {seed}", seed), stream, fewest=plan.surface.fewest, clock=clock), say)
        for seed in plan.seeds
    ]
    found += ablated(plan, [part for part in plan.parts if part.features == "live"], stream, clock, say)
    ordered = sorted(found, key=lambda each: plan.parts.index(each.part))
    if plan.pictures is not None:
        gains = {each.part.name: each.gain(wholes[0], "auc") for each in ordered}
        bars(
            plan.pictures / "ablation-gains.svg", gains, spread(wholes, "auc"), title="gain in AUC (log scale outside)"
        )
    return Table("ablation", machine(), rows(stream, wholes, ordered))


def whole(plan: Plan, name: str, seed: int) -> Arm:
    """The surface's model as it is."""
    return Arm(name, plan.surface.design, plan.every, seed=seed)


def ablated(
    plan: Plan, parts: Sequence[Part], stream: Stream, clock: Callable[[], float], say: Say
) -> Iterator[Ablated]:
    """The arm of each of these parts; one that is the whole itself is left out."""
    for part in parts:
        design, added = changed(plan.surface.design, part)
        if design == plan.surface.design and part.features == "live" and not part.arm:
            say(f"{part.name}: the surface's own choice")
            continue
        arm = replace(whole(plan, part.name, plan.seeds[0]), design=design, **part.arm)
        yield Ablated(part, told(follow(arm, stream, fewest=plan.surface.fewest, clock=clock), say), added)


def changed(design: Design, part: Part) -> tuple[Design, bool]:
    """The design of the part's arm, and whether it is one with the part that the whole does without."""
    without = with_fields(design, **part.off)
    if part.on and without == design:
        return with_fields(design, **part.on), True
    return without, False


def told(run: Run, say: Say) -> Run:
    """Tell how a run ended."""
    say(f"{run.name}: AUC {run.auc:.4f}, MRR {run.mrr:.4f}, {run.cpu_s:.1f} CPU s")
    return run


def spread(runs: Sequence[Run], measure: str) -> float:
    """Largest less smallest."""
    values = [run.measures[measure] for run in runs]
    return max(values) - min(values)


def rows(stream: Stream, wholes: Sequence[Run], found: Sequence[Ablated]) -> list[Row]:
    """The whole, then each arm beside it with what its part gains."""
    titles = {"auc": "AUC", "mrr": "MRR"}
    first = wholes[0]
    table = [Row(f"impressions scored, {stream.name}", len(stream.scored), f"of {len(stream.examples):,}")]
    for measure, title in titles.items():
        table.append(Row(f"{title}, all of it", first.measures[measure]))
        table.append(Row(f"{title}, all of it: largest less smallest of {len(wholes)} seeds", spread(wholes, measure)))
    for each in found:
        for measure, title in titles.items():
            alone = f"{each.title.partition(' ')[0]}: {each.run.measures[measure]:.4f}"
            table.append(Row(f"{each.part.name}: gain in {title} ({alone})", each.gain(first, measure)))
    return table
