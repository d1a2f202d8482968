"""What each part is worth: the surface's model over a stream, with one part taken away or put in at a time.

    python -m benchmarks ablation --log clicks.parquet --items items.parquet --until 2017-10-05

Every variant is updated every hour, and tested on all that comes after the warm-up before it trains on it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from benchmarks.bench import Clock, Progress
from benchmarks.designs import with_fields
from benchmarks.logs import SEEDED_LOG, LogConfig
from benchmarks.pictures import bars
from benchmarks.prequential import StreamResult, Variant, prequential, reported
from benchmarks.stream import HOUR, Refresh, Stream, folded
from benchmarks.table import Row, Table, machine
from flows.surface import Surface
from models.learning.design import Design
from models.learning.options.replay import ExperienceReplay
from models.networks.shape import Ftrl
from monitoring.measures import BY_KEY, Measure

AUC, MRR = BY_KEY["auc"], BY_KEY["mrr"]


def same_design(design: Design) -> Design:
    return design


def same_variant(variant: Variant) -> Variant:
    return variant


@dataclass(frozen=True)
class Part:
    """A part of the whole, and how it is taken away or, where the whole does without it, put in."""

    name: str

    off: Callable[[Design], Design] = same_design
    """The design without it. Where that is the whole's own, the whole does without."""

    on: Callable[[Design], Design] = same_design
    """The design with it, where the whole does without."""

    variant: Callable[[Variant], Variant] = same_variant
    """The variant without it."""

    refresh: Refresh = "live"
    """How old its features are."""

    replaces: bool = False
    """It is another choice, and what it is compared with is the whole's own."""

    @property
    def title(self) -> str:
        return f"rather than {self.name}" if self.replaces else self.name


def instead(what: str, design: Callable[[Design], Design]) -> Part:
    """Another choice, and what the whole's own is worth beside it."""
    return Part(what, off=design, replaces=True)


REPLAY = ExperienceReplay(20_000, share=0.5)
CROSSES = (("item", "referrer"), ("item", "region"), ("item", "last_section"), ("section", "last_section"))

ABLATION_PARTS = (
    Part("features that move at all", refresh="frozen"),
    Part("features live, not refreshed hourly", refresh="hourly"),
    Part("features", variant=lambda v: replace(v, numbers=False)),
    Part("learning on, with live features", variant=lambda v: replace(v, every=None)),
    Part("ids", off=lambda d: with_fields(d, crosses=()), variant=lambda v: replace(v, ids=False)),
    Part("the user's last items", variant=lambda v: replace(v, history=False)),
    Part("history attention", off=lambda d: with_fields(d, attention=0), on=lambda d: with_fields(d, attention=8)),
    Part("cross layers", off=lambda d: with_fields(d, cross_layers=0), on=lambda d: with_fields(d, cross_layers=3)),
    Part("deep part", off=lambda d: with_fields(d, hidden=()), on=lambda d: with_fields(d, hidden=(64,))),
    Part(
        "hashed crosses of ids", off=lambda d: with_fields(d, crosses=()), on=lambda d: with_fields(d, crosses=CROSSES)
    ),
    Part("replay", off=lambda d: with_fields(d, replay=None), on=lambda d: with_fields(d, replay=REPLAY)),
    Part("position term", off=lambda d: with_fields(d, position_term=False)),
    Part(
        "warm-up of the rates",
        off=lambda d: with_fields(d, warm_up_steps=0),
        on=lambda d: with_fields(d, warm_up_steps=2),
    ),
    Part(
        "averaging of the weights",
        off=lambda d: with_fields(d, averaging=0.0),
        on=lambda d: with_fields(d, averaging=0.99),
    ),
    Part(
        "distillation from the champion",
        off=lambda d: with_fields(d, distillation=0.0),
        on=lambda d: with_fields(d, distillation=0.2),
    ),
    instead("Adam", lambda d: with_fields(d, optimiser="adam", rate=1.5e-3)),
    instead("SGD", lambda d: with_fields(d, optimiser="sgd", rate=0.2)),
    instead("Adagrad", lambda d: with_fields(d, optimiser="adagrad", rate=0.01)),
    instead("FTRL-proximal", lambda d: with_fields(d, optimiser=Ftrl(rate=0.1))),
    instead("passive-aggressive", lambda d: with_fields(d, optimiser="passive_aggressive", rate=3e-2)),
    instead("SGD, for the rows", lambda d: with_fields(d, table_optimiser="sgd", table_rate=1.0)),
    instead(
        "row-wise Adagrad, for the rows", lambda d: with_fields(d, table_optimiser="rowwise_adagrad", table_rate=0.05)
    ),
    instead("Adam, for the rows", lambda d: with_fields(d, table_optimiser="adam", table_rate=3e-3)),
    instead("FTRL-proximal, for the rows", lambda d: with_fields(d, table_optimiser=Ftrl(rate=0.05))),
    instead(
        "passive-aggressive, for the rows",
        lambda d: with_fields(d, table_optimiser="passive_aggressive", table_rate=1e-2),
    ),
    instead("deep-and-cross", lambda d: with_fields(d, ranker="cross")),
    instead("logistic with crosses", lambda d: with_fields(d, ranker="logistic", crosses=CROSSES)),
    instead("popularity", lambda d: with_fields(d, ranker="popularity")),
)


@dataclass(frozen=True)
class AblationConfig:
    """What to run."""

    surface: Surface
    """Whose features and learner are measured."""

    log: LogConfig = SEEDED_LOG
    warmup: timedelta = timedelta(days=1)
    """What the first model trains on, before any test."""

    pictures: Path | None = None
    """Folder for the plot; none is drawn without one."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the whole; how far they lie apart is what chance makes. Each part is run with the first."""

    every: timedelta = HOUR
    parts: tuple[Part, ...] = ABLATION_PARTS


@dataclass(frozen=True, eq=False)
class Ablated:
    """A part, and the result of its variant."""

    part: Part
    result: StreamResult

    added: bool
    """Whether the variant has the part and the whole does without, and not the other way."""

    def gain(self, whole: StreamResult, measure: Measure) -> float:
        """What having the part is worth."""
        gain = whole.measures[measure.key] - self.result.measures[measure.key]
        return -gain if self.added else gain


def bench(config: AblationConfig, *, clock: Clock, progress: Progress) -> Table:
    """Run every part; ``progress`` gets each variant's outcome as it ends."""
    log, surface = config.log.read(), config.surface
    found = list[Ablated]()
    for refresh in ("frozen", "hourly"):
        parts = [part for part in config.parts if part.refresh == refresh]
        if parts:
            stale = folded(log, surface, warmup=config.warmup, refresh=refresh)
            found += ablated(config, parts, stale, clock, progress)
    stream = folded(log, surface, warmup=config.warmup)
    wholes = [
        reported(
            prequential(whole(config, f"all of it, seed {seed}", seed), stream, fewest=surface.fewest, clock=clock),
            progress,
        )
        for seed in config.seeds
    ]
    found += ablated(config, [part for part in config.parts if part.refresh == "live"], stream, clock, progress)
    ordered = sorted(found, key=lambda each: config.parts.index(each.part))
    if config.pictures is not None:
        gains = {each.part.title: each.gain(wholes[0], AUC) for each in ordered}
        path = config.pictures / "ablation-gains.svg"
        bars(path, gains, spread(wholes, AUC), title="gain in AUC (log scale outside)")
    return Table("ablation", machine(), rows(stream, wholes, ordered))


def whole(config: AblationConfig, name: str, seed: int) -> Variant:
    """The surface's model as it is."""
    return Variant(name, config.surface.design, config.every, seed=seed)


def ablated(
    config: AblationConfig, parts: Sequence[Part], stream: Stream, clock: Clock, progress: Progress
) -> Iterator[Ablated]:
    """The variant of each of these parts; one that is the whole itself is left out."""
    surface = config.surface
    for part in parts:
        design, added = changed(surface.design, part)
        unchanged = whole(config, part.title, config.seeds[0])
        variant = part.variant(replace(unchanged, design=design))
        if variant == unchanged and part.refresh == "live":
            progress(f"{part.title}: the surface's own choice")
            continue
        result = reported(prequential(variant, stream, fewest=surface.fewest, clock=clock), progress)
        yield Ablated(part, result, added)


def changed(design: Design, part: Part) -> tuple[Design, bool]:
    """The design of the part's variant, and whether it is one with the part that the whole does without."""
    without = part.off(design)
    if without == design and part.on is not same_design:
        return part.on(design), True
    return without, False


def spread(results: Sequence[StreamResult], measure: Measure) -> float:
    """Largest less smallest."""
    values = [result.measures[measure.key] for result in results]
    return max(values) - min(values)


def rows(stream: Stream, wholes: Sequence[StreamResult], found: Sequence[Ablated]) -> list[Row]:
    """The whole, then each variant beside it with what its part gains."""
    first, seeds = wholes[0], f"largest less smallest of {len(wholes)} seeds"
    table = [Row(f"impressions scored, {stream.name}", len(stream.test), f"of {len(stream.examples):,}")]
    for measure in (AUC, MRR):
        table.append(Row(f"{measure.name}, all of it", first.measures[measure.key]))
        table.append(Row(f"{measure.name}, all of it: {seeds}", spread(wholes, measure)))
    for each in found:
        how = "with" if each.added or each.part.replaces else "without"
        for measure in (AUC, MRR):
            alone = f"{how}: {each.result.measures[measure.key]:.4f}"
            table.append(Row(f"{each.part.title}: gain in {measure.name} ({alone})", each.gain(first, measure)))
    return table
