"""The benches, one command each.

    python -m benchmarks quality --log clicks.parquet --items items.parquet --json

Each ends in one table, for people or as ``--json``: ``{"name", "machine", "rows": [{"what", "ours", "unit", "peer",
"theirs", "ratio", "goal", "met"}]}``. ``--record FOLDER`` writes it into the folder's RESULTS.md too. The exit code is
1 when a goal was missed, 2 for an argument that cannot be used.

A command imports its bench when it runs, so that ``--help`` stays quick; the bench holds its config and what it does.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, get_args

import typer

from benchmarks.run import Output, expect_extra, run_bench
from flows.cli.arguments import (
    AsJson,
    BadArgument,
    Items,
    argument_errors,
    duration,
    expect_files,
    find_surface,
    load_settings,
    optional_instant,
)

if TYPE_CHECKING:
    from benchmarks.logs import LogConfig

N = TypeVar("N", int, float)

app = typer.Typer(
    name="benchmarks",
    help="Measure on this machine what the program promises, peers beside it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Log = Annotated[str | None, typer.Option(help="A click log, as millrace import takes it; else a seeded one.")]
Until = Annotated[str | None, typer.Option(help="Leave out what was shown from this time on, UTC.")]
Warmup = Annotated[str, typer.Option(help="What the first model trains on, before any test: 1d, 6h.")]
Surface = Annotated[str, typer.Option(help="The surface whose features, learner and gate are measured.")]
Seed = Annotated[int, typer.Option(help="Of whatever is drawn.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small sizes, for a first look: the goals are not meant for it.")]
Record = Annotated[Path | None, typer.Option(help="Folder whose RESULTS.md gets the table, and the plots.")]


def log_config(
    seeded: "LogConfig", log: str | None, items: str | None, until: str | None, *, seed: int = 0
) -> "LogConfig":
    """The log that a person names, or else the bench's seeded one. Raises BadArgument for a file that is not there."""
    expect_files(log, items)
    return replace(seeded, path=log, items=items, until=optional_instant(until), seed=seed)


def numbers(option: str, text: str, of: type[N]) -> tuple[N, ...]:
    """What a person lists with commas. Raises BadArgument where one is no number."""
    try:
        return tuple(of(part) for part in text.split(","))
    except ValueError as error:
        raise BadArgument(f"{option} {text}: give numbers with commas between them") from error


@app.command()
def gate(
    log: Log = None,
    items: Items = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of public logs, by their files' names.")] = None,
    surface: Surface = "feed",
    days: Annotated[float, typer.Option(help="How much of feeds and large shops is replayed.")] = 4.0,
    from_: Annotated[str | None, typer.Option("--from", help="Of --log: leave out what was shown up to this.")] = None,
    only: Annotated[str, typer.Option(help="Logs to run, by name: globo,shop-1000; else all.")] = "",
    seed: Annotated[int, typer.Option(help="Of seeded logs, faults and simulations; 0 to 2 chose the limits.")] = 3,
    judging: Annotated[str | None, typer.Option(help="progressive or tail, instead of the surfaces' own.")] = None,
    simulate: Annotated[bool, typer.Option(help="Run the simulations too.")] = True,
    why: Annotated[bool, typer.Option(help="Print progress on standard error, and the gate's reasons.")] = False,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """The gate: its speed, planted faults, clean windows, simulations, on unlike logs; without any on seeded ones."""
    from benchmarks.gate import GateConfig, bench
    from benchmarks.gate_logs import Logs
    from monitoring.evaluation.terms import Judging

    known: tuple[Judging, ...] = get_args(Judging)
    chosen = next((name for name in known if name == judging), None)
    if judging is not None and chosen is None:
        raise BadArgument(f"--judging {judging}: use {' or '.join(known)}")
    expect_files(log, items)
    if folder is not None and not folder.is_dir():
        raise BadArgument(f"--folder {folder}: there is no such folder")
    wanted = tuple(name.strip() for name in only.split(",") if name.strip())
    logs = Logs(log, items, optional_instant(from_), folder, days, seed=seed, only=wanted)
    config = GateConfig(logs, judging=chosen, simulate=simulate)
    run_bench(partial(bench, find_surface(surface), config), Output(record, as_json), verbose=why)


@app.command()
def canary(
    log: Annotated[str | None, typer.Option(help="Real experiments too: the ASOS dataset as a parquet file.")] = None,
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Simulated canaries, how each ends; real experiments, a plain z-test beside ours after every snapshot."""
    from benchmarks.canary import CanaryConfig, bench

    expect_files(log)
    sizes = CanaryConfig.quick() if quick else CanaryConfig()
    config = replace(sizes, log=Path(log) if log else None, seed=seed)
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def quality(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    warmup: Warmup = "1d",
    surface: Surface = "feed",
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Quality over the stream at several cadences, and per CPU second, beside Vowpal Wabbit."""
    from benchmarks.quality import QualityConfig, bench

    expect_extra("vowpalwabbit", *(("matplotlib",) if record else ()))
    config = QualityConfig(
        find_surface(surface), log_config(QualityConfig.log, log, items, until), duration(warmup), pictures=record
    )
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def cold(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    surface: Surface = "feed",
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """The first impressions of a surface: its learner beside the base rate, logistic regression, LightGBM and VW."""
    from benchmarks.cold import ColdConfig, bench

    expect_extra("sklearn", "lightgbm", "vowpalwabbit")
    config = ColdConfig(find_surface(surface), log_config(ColdConfig.log, log, items, until))
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def breadth(
    folder: Annotated[Path | None, typer.Option(help="Folder of public logs, by their files' names.")] = None,
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """One rule's counters on unlike logs, beside Vowpal Wabbit and LightGBM; without --folder on a seeded shop."""
    from benchmarks.breadth import BreadthConfig, bench

    expect_extra("lightgbm", "vowpalwabbit")
    if folder is not None and not folder.is_dir():
        raise BadArgument(f"--folder {folder}: there is no such folder")
    sizes = BreadthConfig(lists_per_day=400) if quick else BreadthConfig()
    run_bench(partial(bench, replace(sizes, folder=folder, seed=seed)), Output(record, as_json))


@app.command()
def ablation(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    warmup: Warmup = "1d",
    surface: Surface = "feed",
    only: Annotated[str, typer.Option(help="Parts to run, by name: ids,position term; else all.")] = "",
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """What each part of features and learner is worth, one left out or put in at a time."""
    from benchmarks.ablation import ABLATION_PARTS, AblationConfig, bench

    expect_extra(*(("matplotlib",) if record else ()))
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    if strange := wanted.difference(part.name for part in ABLATION_PARTS):
        raise BadArgument(f"--only {only}: there is no part {', '.join(sorted(strange))}")
    config = AblationConfig(
        find_surface(surface),
        log_config(AblationConfig.log, log, items, until),
        duration(warmup),
        pictures=record,
        parts=tuple(part for part in ABLATION_PARTS if not wanted or part.name in wanted),
    )
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def retrieval(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    warmup: Warmup = "1d",
    surface: Surface = "feed",
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Two towers: recall of the next click, beside popularity and co-clicks."""
    from benchmarks.retrieval import RetrievalConfig, bench

    config = RetrievalConfig(
        find_surface(surface),
        log_config(RetrievalConfig.log, log, items, until, seed=seed),
        duration(warmup),
        seed=seed,
    )
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def fold(
    log: Log = None,
    items: Items = None,
    until: Until = None,
    surface: Surface = "feed",
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Events a second on one core that the fold makes features of; and the same log cut in two ways."""
    from benchmarks.fold import FoldConfig, bench
    from flows.cli.embedded import running_database

    settings = load_settings()
    config = FoldConfig(find_surface(surface), log_config(FoldConfig.log, log, items, until), url=settings.database)
    with running_database(settings):
        run_bench(partial(bench, config), Output(record, as_json))


@app.command("import")
def import_bench(
    rows: Annotated[int, typer.Option(help="Of the log; 10000000 for the goal of memory.", min=1000)] = 1_000_000,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Rows a second from a parquet and a CSV file into the event log, and the memory of it."""
    from benchmarks.imports import ImportConfig, bench
    from flows.cli.embedded import running_database

    settings = load_settings()
    with running_database(settings):
        run_bench(partial(bench, ImportConfig(settings.database, rows)), Output(record, as_json))


@app.command()
def frame(
    scale: Annotated[float, typer.Option(help="Of the sizes of the goal.")] = 1.0,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Seconds of a point-in-time frame of a team's own views, beside plain SQL and Feast's own store."""
    from benchmarks.frame import FrameConfig, bench
    from flows.cli.embedded import running_database

    settings = load_settings()
    config = FrameConfig(url=settings.database, scale=scale, seed=seed)
    with running_database(settings):
        run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def update(
    device: Annotated[str, typer.Option(help="cpu, or cuda where there is one.")] = "cpu",
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Examples a second that an update trains on, beside torch's own ways, on the same network and losses."""
    from benchmarks.update import bench
    from benchmarks.update_workload import UpdateConfig

    sizes = UpdateConfig.quick() if quick else UpdateConfig()
    config = replace(sizes, device=device, seed=seed)
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def size(quick: Quick = False, seed: Seed = 0, record: Record = None, as_json: AsJson = False) -> None:
    """What an update costs with a large table, against a small one. Takes 10 GB of memory."""
    from benchmarks.size import SizeConfig, bench

    config = replace(SizeConfig.quick() if quick else SizeConfig(), seed=seed)
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def delta(
    folder: Annotated[Path | None, typer.Option(help="Folder on the disk to measure; else a temporary one.")] = None,
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Seconds and bytes of what an update changed, written and synced, against the whole model. Takes 6 GB of disk."""
    from benchmarks.delta import DeltaConfig, bench

    config = replace(DeltaConfig.quick() if quick else DeltaConfig(), folder=folder, seed=seed)
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def score(quick: Quick = False, seed: Seed = 0, record: Record = None, as_json: AsJson = False) -> None:
    """Milliseconds to score the candidates of a request, and rows a second in bulk."""
    from benchmarks.score import ScoreConfig, bench

    config = replace(ScoreConfig.quick() if quick else ScoreConfig(), seed=seed)
    run_bench(partial(bench, config), Output(record, as_json))


@app.command()
def serve(
    candidates: Annotated[str, typer.Option(help="Of a request on one connection, beside 20 and 200.")] = "",
    connections: Annotated[str, typer.Option(help="At once with 200 candidates, beside 1 and 8.")] = "",
    rates: Annotated[str, typer.Option(help="Requests of 200 candidates that arrive a second.")] = "",
    impressions: Annotated[int, typer.Option(help="Logged first, beside those the champion learns from.", min=0)] = 0,
    peers: Annotated[str, typer.Option(help="all: MLflow's model server too.")] = "",
    workers: Annotated[int, typer.Option(help="Serving processes behind the port.", min=1)] = 1,
    swapped: Annotated[int, typer.Option(help="Requests while versions are swapped.", min=200)] = 100_000,
    folder: Annotated[Path | None, typer.Option(help="Folder on the disk to measure; else a temporary one.")] = None,
    quick: Quick = False,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Serving over HTTP as it ships, from request to answer, beside Starlette and FastAPI around a bare network."""
    from benchmarks.serve import bench
    from benchmarks.serve_workload import EVERY_PEER, ServeConfig

    expect_extra(*(("matplotlib",) if record else ()))
    if peers not in ("", "all"):
        raise BadArgument(f"--peers {peers}: use all, or leave it out")
    sizes = ServeConfig.quick() if quick else ServeConfig()
    with argument_errors():
        config = replace(
            sizes,
            candidates=numbers("--candidates", candidates, int) if candidates else sizes.candidates,
            connections=numbers("--connections", connections, int) if connections else sizes.connections,
            rates=numbers("--rates", rates, float) if rates else sizes.rates,
            log=replace(sizes.log, more=impressions, seed=seed),
            peers=EVERY_PEER if peers else sizes.peers,
            workers=workers,
            swapped=sizes.swapped if quick else swapped,
            folder=folder,
            pictures=record,
            seed=seed,
        )
    run_bench(partial(bench, config), Output(record, as_json))


@app.command("off-policy")
def off_policy(
    log: Annotated[Path, typer.Option(help="The Open Bandit data: impressions of two policies, with propensities.")],
    samples: Annotated[int, typer.Option(help="Drawn from each campaign's log.", min=1)] = 10,
    seed: Seed = 0,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """How far off-policy values are from what the other policy earned, beside the Open Bandit Pipeline's figures."""
    from benchmarks.off_policy import OffPolicyConfig, bench

    expect_files(str(log), None)
    run_bench(partial(bench, OffPolicyConfig(log, samples, seed)), Output(record, as_json))


@app.command()
def text(
    search: Annotated[
        Path | None, typer.Option(help="Rated pairs as a parquet file: query, title, relevance from 1 to 3.")
    ] = None,
    queries: Annotated[
        bool, typer.Option("--queries", help="Searches by HTTP, as they ship: how long one takes.")
    ] = False,
    stream: Annotated[bool, typer.Option(help="Clicks drawn from them, with queries whose meaning turns.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="The encoder in int8: its time, and what that costs.")] = False,
    workers: Annotated[int, typer.Option(help="Serving processes, with --queries.", min=1)] = 1,
    surfaces: Annotated[int, typer.Option(help="Surfaces on the one encoder, with --queries.", min=1)] = 1,
    headlines: Annotated[
        Path | None, typer.Option(help="Tested headlines instead, as the Upworthy Research Archive has them, parquet.")
    ] = None,
    quick: Quick = False,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Updates of a pretrained text encoder: what they find for queries never trained on, beside it as it comes; or
    which headlines they say will be clicked more."""
    from benchmarks import text, text_headlines, text_precision, text_queries, text_stream

    output = Output(record, as_json)
    if headlines is not None:
        if search is not None or stream or queries or int8:
            raise BadArgument("--headlines is measured by itself: leave out --search, --stream, --queries and --int8")
        expect_extra("sklearn")
        expect_files(str(headlines), None)
        tested = text_headlines.WordingsConfig
        run_bench(partial(text_headlines.bench, (tested.quick if quick else tested)(headlines)), output)
        return
    expect_extra("bm25s")
    expect_files(None if search is None else str(search), None)
    if queries:
        file = None if search is None else str(search.resolve())
        wanted = text_queries.QueriesConfig.quick() if quick else text_queries.QueriesConfig()
        seeded = replace(wanted.seeded, search=file, int8=int8, more_surfaces=surfaces - 1)
        run_bench(partial(text_queries.bench, replace(wanted, seeded=seeded, workers=workers)), output)
        return
    if search is None:
        raise BadArgument("nothing to measure: give --search or --headlines, a parquet file (--queries goes without)")
    if stream:
        asked = text_stream.StreamConfig.quick(search) if quick else text_stream.StreamConfig(search)
        run_bench(partial(text_stream.bench, asked), output)
    elif int8:
        small = text_precision.PrecisionConfig.quick(search) if quick else text_precision.PrecisionConfig(search)
        run_bench(partial(text_precision.bench, small), output)
    else:
        config = text.TextConfig.quick(search) if quick else text.TextConfig(search)
        run_bench(partial(text.bench, config), output)


@app.command()
def headlines(quick: Quick = False, record: Record = None, as_json: AsJson = False) -> None:
    """Headlines shown by each way to choose, on a seeded world: the best, what is lost, what is stopped."""
    from benchmarks.headlines import HeadlineConfig, bench

    run_bench(partial(bench, HeadlineConfig.quick() if quick else HeadlineConfig()), Output(record, as_json))


@app.command()
def memory(
    folder: Annotated[Path | None, typer.Option(help="Folder on the disk to use; else a temporary one.")] = None,
    quick: Quick = False,
    record: Record = None,
    as_json: AsJson = False,
) -> None:
    """Memory of each process of an installation at rest, and of serving by user and by key."""
    from benchmarks.memory import MemoryConfig, bench

    config = replace(MemoryConfig.quick() if quick else MemoryConfig(), folder=folder)
    run_bench(partial(bench, config), Output(record, as_json))


if __name__ == "__main__":
    from flows.cli.main import run

    run(app)
