"""The drill: its updates in memory are Prefect's on PostgreSQL, and what its policy catches of what is planted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulate import simulate
from flows.drill import drill
from flows.drill.drill import Clean, Drilled, Planted, Stopped
from flows.drill.faults import FAULTS, Fault
from flows.drill.in_memory import InMemory, JudgedWindow
from flows.drill.logs import MICROSECOND, Log, read_log, rows_of, simulated, spans
from flows.drill.windows import Folding, LogWindow
from flows.steps.history import recall_past
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from infra.stack.environment import settings_environment
from models.retrieval.towers import TowerDesign
from models.versions import promotions
from monitoring.evaluation.history import Recalled
from monitoring.gate.policy import Limit, Policy
from tests.worlds.designs import but
from tests.worlds.loop import NOW, START, SURFACES, Loop, after, copied, run_update, write_log

if TYPE_CHECKING:
    from flows.update import Outcome

HOUR = timedelta(hours=1)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


# --- the pair: an update run by Prefect on PostgreSQL, and the same in memory ---------------------------------------


@dataclass(frozen=True, eq=False)
class Pair:
    """An update of one window, run both ways; and what each recalled."""

    by_prefect: "Outcome"
    recalled: Recalled
    in_memory: JudgedWindow
    recalled_in_memory: Recalled

    @property
    def differences(self) -> list[str]:
        """Where the two differ, but for what the clock measured."""
        ours, theirs = (replace(evidence, cost=None) for evidence in (self.evidence, self.in_memory.evidence))
        found = [*differences(ours, theirs, "evidence")]
        found += differences(without_cost(self.recalled), without_cost(self.recalled_in_memory), "recalled")
        return [*found, *differences(self.by_prefect.verdict, self.in_memory.verdict, "verdict")]

    @property
    def evidence(self) -> Any:
        return self.by_prefect.judged.evidence


def without_cost(recalled: Recalled) -> Recalled:
    """Without what the evidence is compared without: the clock's figure of cost, and the file's."""
    needed = {code: values for code, values in recalled.needed.items() if code not in ("scoring_time", "size")}
    return replace(recalled, needed=needed)


def differences(one: object, other: object, where: str) -> Iterator[str]:
    """Fields that are not exactly equal, by their path; NaN is NaN."""
    if is_dataclass(one) and type(one) is type(other):
        for field in fields(one):
            yield from differences(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, Mapping) and isinstance(other, Mapping) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for place, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from differences(first, second, f"{where}[{place}]")
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if not np.array_equal(one, other, equal_nan=True):
            yield f"{where}: {one} and {other}"
    elif one != other and not (one != one and other != other):
        yield f"{where}: {one!r} and {other!r}"


def pairs(loop: Loop, log: Log, updates: Sequence[tuple[float, Surface]]) -> Iterator[Pair]:
    """Successive updates as of these hours, both ways, each by the surface as it is then."""
    surface = updates[0][1]
    folding, memory = Folding(surface.features), InMemory(surface)
    start = log.shown["shown_at"][0] - MICROSECOND
    with replace(loop, surface=surface).world() as world:
        for hour, declared in updates:
            world.surface = memory.surface = declared
            as_of = after(hour) - MICROSECOND  # a tick of the fold ends there
            champion = promotions.current(world.connection, declared.name)
            outcome = run_update(world, as_of)
            recalled = recall_past(world.connection, declared.judging, outcome.claimed, champion)
            end = as_of - declared.attribution
            shown = rows_of(log, start, end)
            judged = memory.judge(LogWindow(start, end, folding.fold(shown, end), shown))
            history = memory.history(judged.checks.window)
            memory.follow(judged)
            yield Pair(outcome, recalled, judged, history.recalled)
            start = end


@pytest.fixture(scope="module")
def shipped(site: Loop, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Three updates of the small site, by the policy and the limits of the surface that ships."""
    surface = replace(site.surface, policy=FEED.policy, limits=FEED.limits)
    log = read_log("small", Files(*write_log(tmp_path_factory.mktemp("log"))), now=NOW)
    return list(pairs(copied(site), log, [(hour, surface) for hour in (14, 17, 20)]))


def test_an_update_run_by_prefect_on_postgresql_and_the_in_memory_run_of_the_same_window_give_the_same_evidence(
    shipped: list[Pair],
) -> None:
    assert [pair.differences for pair in shipped] == [[], [], []]
    last = shipped[-1]
    assert last.evidence.comparison.against_champion
    assert last.evidence.process_after.updates == 2
    assert (last.evidence.drift, last.evidence.in_sample) != (None, None)
    assert len(last.recalled.windows) == 2
    assert last.recalled.profiles


def test_the_policy_that_ships_promotes_updates_of_a_small_site(shipped: list[Pair]) -> None:
    verdicts = [pair.by_prefect.verdict for pair in shipped]
    assert [verdict.verdict for verdict in verdicts] == ["promote"] * 3, [verdict.reasons for verdict in verdicts]
    assert [verdict.codes[0] for verdict in verdicts] == ["better_than_base_rate", "not_worse", "not_worse"]


HOLD = Policy(requests=1_000_000)
REJECT = replace(FEED.policy, megabytes=Limit(0.0, breach="reject"))
TOWERS = TowerDesign(attributes=("section",), context=("device", "region"), embedding=16, hidden=16, batch=64)

Changes = Mapping[str, Any]
CASES: Mapping[str, tuple[Changes, Sequence[tuple[float, Changes]]]] = {
    "held": ({}, [(14, {}), (17, {"policy": HOLD}), (18, {}), (20, {})]),
    "rejected": ({}, [(14, {}), (17, {"policy": REJECT}), (18, {}), (20, {})]),
    "judged by the tail": (
        {"judging": "tail"},
        [(14, {}), (19, {"policy": HOLD}), (20, {}), (21, {"policy": REJECT}), (22, {}), (23, {})],
    ),
    "towers": ({"towers": TOWERS}, [(14, {}), (17, {}), (20, {})]),
    "a new design": (
        {},
        [(14, {}), (17, {"policy": REJECT}), (19, {}), (21, {"embedding": 4}), (23, {"rate": 1e-3})],
    ),
    "explored": ({}, [(14, {}), (17, {}), (20, {})]),
    "days": ({}, [(14, {}), (20, {}), (23.9, {}), (26, {"policy": REJECT}), (30, {}), (47.9, {}), (50, {})]),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
def test_so_do_both_whatever_becomes_of_windows_and_however_they_are_judged(
    case: str, loop: Loop, database: str, tmp_path: Path
) -> None:
    changes, updates = CASES[case]
    surface = replace(loop.surface, policy=FEED.policy, **changes)
    files = write_log(tmp_path, days=2.2 if case == "days" else 1)
    if case == "explored":
        explore(files[0])
    import_log(database, "feed", Files(files[0], items=files[1]), times=FileTimes(NOW))
    with open_store(database, "feed") as store:
        store.apply()
    found = list(
        pairs(
            replace(loop, url=database),
            read_log("small", Files(*files), now=NOW),
            [(hour, changed(surface, **change)) for hour, change in updates],
        )
    )
    assert [pair.differences for pair in found] == [[]] * len(updates)
    if case == "explored":
        assert found[-1].evidence.ranking_value.refused is None
    if case == "days":
        assert found[-1].evidence.forgetting is not None
        assert found[-1].evidence.references[0].name == "a day ago"
        seasons = [pair.evidence.season_drift for pair in found]
        against = {season.against for season in seasons if season is not None}
        assert against == {"the same hours of earlier days", "the windows before"}


def changed(surface: Surface, **change: Any) -> Surface:
    """The surface with some of its own fields, or of its design's, changed."""
    design = {name: change.pop(name) for name in ("embedding", "rate") if name in change}
    return replace(surface, design=but(surface.design, **design), **change)


def explore(log: Path) -> None:
    """Rewrite a log: each request's items stand as chance put them, and each has a time of its own, so that requests
    overlap."""
    rows = pl.read_parquet(log).sort("request_id", "impression_id")
    drawn = pl.Series(np.random.default_rng(0).permutation(len(rows)))
    rows = (
        rows.with_columns(drawn.alias("drawn"))
        .select(
            pl.exclude("drawn", "position"),
            (pl.col("drawn").rank("ordinal").over("request_id") - 1).cast(rows.schema["position"]).alias("position"),
            (1 / pl.len().over("request_id")).alias("propensity"),
        )
        .with_columns((pl.col("shown_at") + pl.duration(milliseconds=pl.col("position") * 700)).alias("shown_at"))
    )
    clicked_at = pl.max_horizontal("clicked_at", "shown_at")
    rows.with_columns(pl.when("clicked").then(clicked_at).alias("clicked_at")).sort("shown_at").write_parquet(log)


# --- what it finds ---------------------------------------------------------------------------------------------------


FINDINGS = {
    "labels shuffled": "check/labels agree",
    "stuck at zero": "check/features narrowed",
    "a bot": "check/labels by user",
    "logged twice": "check/retries",
    "new ids": "check/new items",
}
"""Faults that are planted, each at its first strength, and the finding that each leads to."""


def planted() -> tuple[Fault, ...]:
    faults = (fault for name in FINDINGS for fault in FAULTS if name in fault.name)
    return tuple(replace(fault, strengths=dict([next(iter(fault.strengths.items()))])) for fault in faults)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log of readers and articles enough for what a day and a half of a small site shows."""
    folder = tmp_path_factory.mktemp("drill")
    log, items, _ = simulate(seed=0, start=START, days=1.55, users=1_500, items_per_day=75, requests_per_day=3_000)
    log.write_parquet(folder / "log.parquet")
    items.write_parquet(folder / "items.parquet")
    return folder / "log.parquet", folder / "items.parquet"


@contextmanager
def commanded(settings: Mapping[str, str]) -> Iterator[pytest.MonkeyPatch]:
    """The command line of a small surface whose drill plants few faults and cuts no window short."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in settings.items():
            patched.setenv(name, value)
        patched.setenv("MILLRACE_SURFACES", str(SURFACES))
        patched.setattr(drill, "Plan", partial(drill.Plan, tens=timedelta(0), faults=planted()))
        yield patched


def found_by(*words: str, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `millrace drill --json` prints."""
    from flows.cli.main import app

    with commanded(settings or {}):
        done = CliRunner().invoke(app, ["drill", "--surface", "feed", "--json", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (0 if found["passed"] else 1)
    return found


@pytest.fixture(scope="module")
def found(files: tuple[Path, Path]) -> dict[str, Any]:
    return found_by("--log", str(files[0]), "--items", str(files[1]))


@pytest.mark.parametrize("name", FINDINGS)
def test_a_planted_fault_is_caught_and_named(name: str, found: dict[str, Any]) -> None:
    [fault] = [fault for fault in found["faults"] if name in fault["fault"]]
    assert fault["caught"], fault["reasons"]
    assert fault["named"], fault["reasons"]
    assert FINDINGS[name] in fault["codes"]


def test_clean_windows_are_promoted_once_the_process_has_shown_itself(found: dict[str, Any]) -> None:
    [clean] = found["clean"]
    assert clean["every"] == "hour"
    assert clean["rejected"] == 0
    assert clean["windows"] > 2 * clean["held"]
    assert {code for stopped in clean["stopped"] for code in stopped["codes"]} <= {"not_yet_shown"}


@pytest.mark.slow  # the same drill once more
def test_a_drill_of_what_the_installation_has_logged_finds_the_same(
    found: dict[str, Any], files: tuple[Path, Path], site: Loop, database: str
) -> None:
    import_log(database, "feed", Files(files[0], items=files[1]), times=FileTimes(NOW))
    own = found_by(settings=settings_environment(replace(site, url=database).settings))
    assert own.pop("log") == "feed"
    assert own == {name: part for name, part in found.items() if name != "log"}


def test_a_drill_passes_where_all_faults_are_caught_and_named_and_few_clean_windows_held() -> None:
    expected: frozenset[Any] = frozenset({"hold", "reject"})
    named = Planted("a fault", "all of it", "hold", expected, ("check/volume",), ("So.",), named=True)
    held, rejected = (Stopped("an hour", word, (), ("So.",)) for word in ("hold", "reject"))

    def passes(*planted: Planted, stopped: Sequence[Stopped] = ()) -> bool:
        return Drilled("log", list(planted), hourly=Clean("hour", 100, list(stopped))).passed

    assert passes(named)
    assert passes(named, stopped=[held, held])
    assert not passes(named, stopped=[held, held, held])
    assert not passes(named, stopped=[rejected])
    assert not passes(named, replace(named, named=False))
    assert not passes(named, replace(named, verdict="promote"))
    assert not passes(), "nothing was planted"


def test_where_the_site_sleeps_faults_are_planted_into_the_last_window_before() -> None:
    log = simulated(seed=2, days=1.6, requests_per_day=300)
    every = spans(log, HOUR)
    usual = every[-1][1] - 3 * HOUR
    assert drill.scene_end(log, every) == usual
    asleep = pl.col("shown_at").is_between(usual - 2 * HOUR, usual, closed="right")
    assert drill.scene_end(replace(log, shown=log.shown.filter(~asleep)), every) == usual - 2 * HOUR


def test_a_click_after_the_last_impression_is_read_with_the_rest(tmp_path: Path) -> None:
    shown = [NOW - timedelta(hours=2), NOW - timedelta(hours=1)]
    rows: dict[str, list[Any]] = {
        "impression_id": ["a", "b"],
        "request_id": ["q", "r"],
        "user_id": ["u", "u"],
        "item_id": ["i", "j"],
    }
    rows |= {"position": [0, 0], "shown_at": shown, "clicked": [False, True]}
    rows |= {"clicked_at": [None, shown[1] + timedelta(seconds=9)]}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    log = read_log("last", Files(tmp_path / "log.parquet"), now=NOW)
    assert log.shown["clicked"].to_list() == [False, True]
