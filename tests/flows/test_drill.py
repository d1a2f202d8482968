"""The drill: its updates in memory are Prefect's on PostgreSQL, and what its policy catches of what is planted."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulate import simulate
from features.ingest.simulated_movies import simulate_movies
from flows.cli.arguments import BadArgument
from flows.drill import drill
from flows.drill.cadence import Cadence, cadence_of, scene_of, schedule, words_of
from flows.drill.clean import NIGHT, WEEKEND, Clean, PartsOfTime, Stopped, is_thin
from flows.drill.drill import Drilled, NotPlanted, Planted
from flows.drill.faults import FAULTS, Fault, Met, Scene, Story
from flows.drill.faults.fault import relabelled
from flows.drill.in_memory import InMemory, JudgedWindow
from flows.drill.logs import MICROSECOND, Log, LogTooShort, read_log, rows_of, simulated, simulated_shop, spans
from flows.drill.table import as_json, outcome, rendered
from flows.drill.windows import Folding, LogWindow
from flows.steps.history import recall_past
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from flows.surfaces.movies import SURFACE as MOVIES
from flows.surfaces.shop import SURFACE as SHOP
from infra.stack.environment import settings_environment
from models.retrieval.tower_design import TowerDesign
from models.versions import promotions
from monitoring.evaluation.history import Recalled
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Limit, Policy
from tests.worlds.designs import but
from tests.worlds.loop import NOW, START, SURFACES, Loop, after, copied, run_update, small_feed, write_log

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


def first_strength(*names: str) -> tuple[Fault | Story, ...]:
    """Faults by their names, each at its first strength alone."""
    faults = (fault for name in names for fault in FAULTS if name in fault.name)
    return tuple(replace(fault, strengths=dict([next(iter(fault.strengths.items()))])) for fault in faults)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log of readers and articles enough for what a day and a half of a small site shows."""
    folder = tmp_path_factory.mktemp("drill")
    log, items, _ = simulate(seed=0, start=START, days=1.55, users=3_000, items_per_day=75, requests_per_day=6_000)
    log.write_parquet(folder / "log.parquet")
    items.write_parquet(folder / "items.parquet")
    return folder / "log.parquet", folder / "items.parquet"


@contextmanager
def commanded(settings: Mapping[str, str]) -> Iterator[pytest.MonkeyPatch]:
    """The command line of a small surface whose drill plants few faults, and no window at the surface's own pace."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in settings.items():
            patched.setenv(name, value)
        patched.setenv("MILLRACE_SURFACES", str(SURFACES))
        patched.setattr(drill, "Plan", partial(drill.Plan, own_pace=timedelta(0), faults=first_strength(*FINDINGS)))
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
        return Drilled("log", list(planted), clean=[Clean("hour", 100, list(stopped))]).passed

    assert passes(named)
    assert passes(named, stopped=[held, held])
    assert passes(named, stopped=[held, held, *[replace(held, thin=True)] * 9])
    assert not passes(named, stopped=[held, held, held])
    assert not passes(named, stopped=[rejected])
    assert not passes(named, replace(named, named=False))
    assert not passes(named, replace(named, verdict="promote"))
    assert not passes(), "nothing was planted"


def test_what_could_not_be_planted_and_what_is_sound_are_reported_in_words_and_as_json() -> None:
    sound = Planted("a breaking story", "weak", "promote", frozenset({"promote"}), (), ("Fine.",), named=True)
    stopped = replace(sound, verdict="hold", codes=("check/volume",), reasons=("So.",))
    lacking = NotPlanted("traffic lost", None, "The update would wait.")
    clean = Clean("hour", 3)
    done = Drilled("log", [sound, stopped], [lacking], [clean])
    assert (outcome(sound), outcome(stopped)) == ("passes", "held, and should pass")
    assert not done.passed
    assert Drilled("log", [sound], [lacking], [clean]).passed
    console = Console(width=200, record=True, file=StringIO())
    console.print(rendered(done))
    text = console.export_text()
    assert "The update would wait." in text
    assert "1 of 2 that are sound pass." in text
    nothing = Drilled("log", [], [lacking, replace(lacking, fault="items under new ids")], [clean])
    console.print(rendered(nothing))
    assert console.export_text() == (
        "No fault could be planted. The update would wait.\nOf 3 clean windows, one every hour, 0 held, 0 rejected.\n"
    )
    assert as_json(done)["not_planted"] == [
        {"fault": "traffic lost", "strength": None, "reason": "The update would wait."}
    ]


def test_a_finding_names_a_column_by_the_whole_word() -> None:
    verdict = partial(Verdict, "hold")
    says = partial(Finding, "check/drift", "hold")
    by = [
        says({"name": "drift", "detail": detail, "limit": "", "rows": ""}) for detail in ("Most closed.", "os drifted.")
    ]
    assert not drill.names(verdict((by[0],)), Met(("os",)))
    assert drill.names(verdict((by[1],)), Met(("OS",)))
    assert drill.names(verdict((by[0],)), Met(())), "there is nothing to name"


def test_a_hold_is_thin_where_no_other_finding_decided() -> None:
    thin, other = Finding("few_requests", "hold", {"requests": "3", "least": "20"}), Finding("stopped_early", "hold")
    better = Finding("no_losses", "promote", {"gains": "none"})
    assert is_thin(Verdict("hold", (thin, better)))
    assert is_thin(Verdict("hold", (Finding("unmeasured/calibration", "hold", {"figure": "calibration"}),)))
    assert not is_thin(Verdict("hold", (thin, other)))
    assert not is_thin(Verdict("promote", (better,)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--days", "0"], "--days 0: give a number of days above 0, or all"),
        (["--days", "some"], "--days some"),
        (["--every", "5s"], "--every 5s: give a minute or more"),
        (["--warmup", "a week"], "'a week' is no length of time"),
        (["--feedback", __file__], "belong to a --log"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(words: list[str], said: str) -> None:
    from flows.cli.main import app

    with commanded({}), pytest.raises(BadArgument, match=re.escape(said)):
        CliRunner().invoke(app, ["drill", "--surface", "feed", *words], catch_exceptions=False)


# --- how a log is cut ------------------------------------------------------------------------------------------------


def test_a_window_below_the_fewest_is_joined_with_the_next_and_so_is_one_without_anybody() -> None:
    log = simulated(seed=2, days=1.6, requests_per_day=600)
    first = spans(log, HOUR)[0][0]
    asleep = pl.col("shown_at").is_between(first + 26 * HOUR, first + 30 * HOUR, closed="right")
    log = replace(log, shown=log.shown.filter(~asleep))
    surface = replace(FEED, fewest=150)
    warm_up, *updates = schedule(log, surface, Cadence(HOUR, 24 * HOUR))
    assert (warm_up.start, warm_up.end) == (first, first + 24 * HOUR)
    assert all(update.impressions >= 150 for update in updates[1:])
    assert all(before.end == after.start for before, after in pairwise([warm_up, *updates]))
    assert any(update.end - update.start > HOUR for update in updates)
    (over,) = [update for update in updates if update.start <= first + 26 * HOUR and update.end > first + 30 * HOUR]
    assert over.end - over.start > 4 * HOUR, "nobody came for so long"
    assert sum(update.impressions for update in updates) > 0.9 * (len(log.shown) - warm_up.impressions)
    for update in updates:
        shown = rows_of(log, update.start, update.end)
        assert (update.impressions, update.labels) == (len(shown), shown["clicked"].sum())


def test_faults_are_planted_into_a_late_window_that_is_full_and_has_most_labels() -> None:
    log = simulated(seed=2, days=2.5, requests_per_day=2_000)
    _, *updates = schedule(log, replace(FEED, fewest=1), Cadence(HOUR, 24 * HOUR))
    scene = scene_of(updates, log, timedelta(minutes=5))
    median = np.median([update.impressions for update in updates])
    late = updates[-round(len(updates) / 4) :]
    assert updates[scene] in late
    assert updates[scene].impressions >= median
    assert updates[scene].labels == max(update.labels for update in late if update.impressions >= median)
    night = [replace(update, labels=9_999 if update.impressions < median else 5) for update in updates]
    assert night[scene_of(night, log, timedelta(minutes=5))].labels == 5
    last = [*updates[:-1], replace(updates[-1], impressions=9_999, labels=9_999)]
    assert scene_of(last, log, timedelta(minutes=5)) < len(updates) - 1, "its labels were not all known"


def spread_out(days: float, a_day: int) -> Log:
    """A log of so many days with so many impressions a day."""
    log, count = simulated(seed=2, days=0.1, requests_per_day=1_000), round(days * a_day)
    rows = log.shown[np.resize(np.arange(len(log.shown)), count)]
    at = START + pl.Series(np.linspace(0, days * 86400e6, count).astype(np.int64)).cast(pl.Duration("us"))
    return replace(log, shown=rows.with_columns(at.cast(pl.Datetime("us", "UTC")).alias("shown_at")))


@pytest.mark.parametrize(
    ("days", "a_day", "every", "warmup"),
    [
        (4, 24_000, HOUR, timedelta(days=1)),
        (4, 1_000, HOUR, timedelta(days=1)),  # hours are too short, and six of them leave too few windows
        (21, 1_000, timedelta(hours=6), timedelta(days=1)),
        (6_000, 13, timedelta(days=30), timedelta(days=2_000)),
    ],
)
def test_windows_are_as_long_as_their_impressions_take(
    days: float, a_day: int, every: timedelta, warmup: timedelta
) -> None:
    surface = replace(FEED, fewest=500 if days < 1_000 else 300)
    found = cadence_of(surface, spread_out(days, a_day))
    assert found.every == every
    assert found.warmup == pytest.approx(warmup, abs=timedelta(hours=1))
    assert found.every % found.step == timedelta(0)
    assert found.step <= timedelta(days=1)


def test_a_length_that_is_named_is_taken_and_none_is_shorter_than_the_surfaces_own() -> None:
    log = spread_out(40, 24_000)
    assert cadence_of(FEED, log, every=timedelta(minutes=30), warmup=3 * HOUR) == Cadence(HOUR / 2, 3 * HOUR)
    assert cadence_of(replace(FEED, every=timedelta(days=1)), log).every == timedelta(days=1)
    assert [words_of(length) for length in (HOUR, HOUR / 6, timedelta(days=90))] == ["hour", "10 minutes", "90 days"]


def test_nights_are_the_hours_with_the_fewest_impressions_and_weekends_are_weekends() -> None:
    log = simulated(seed=2, days=2.0, requests_per_day=3_000)
    of = PartsOfTime(log).of
    busy = log.shown["shown_at"].dt.hour().value_counts().sort("count")["shown_at"]

    def at(day: int, hour: int, length: timedelta = HOUR) -> list[str]:
        start = log.shown["shown_at"][0].replace(day=day, hour=hour, minute=0, second=0, microsecond=0)
        return of(LogWindow(start, start + length, None, log.shown))  # type: ignore[arg-type]

    assert at(5, busy[0]) == at(5, busy[5]) == [NIGHT]
    assert at(5, busy[6]) == at(5, busy[23]) == []
    assert at(10, busy[0]) == [NIGHT, WEEKEND]
    assert at(10, 0, timedelta(days=7)) == []


def test_a_log_too_short_is_refused_by_name() -> None:
    log = simulated(seed=2, days=1.1, requests_per_day=12_000)
    with pytest.raises(
        LogTooShort, match="seeded has enough for 2 updates after its warm-up, one every hour; a drill takes 8"
    ):
        drill.drill(FEED, log, drill.Plan(), clock=lambda: 0.0, progress=lambda line: None)


# --- stories, and other surfaces -------------------------------------------------------------------------------------


def turning(scene: Scene, growth: float, random: np.random.Generator) -> Iterator[Met]:
    """The windows as they were, the labels of the third on flipped."""
    for place, window in enumerate([*scene.run_up, scene.window]):
        label = window.frame.examples.label if place < 2 else 1 - window.frame.examples.label
        yield Met(("expects",), relabelled(window, label[:, None], scene.features.labels))


@pytest.mark.slow
def test_windows_of_a_story_are_judged_and_followed_in_order_until_one_is_caught() -> None:
    seen: list[datetime] = []

    def counted(scene: Scene, growth: float, random: np.random.Generator) -> Iterator[Met]:
        for met in turning(scene, growth, random):
            assert met.window is not None
            seen.append(met.window.end)
            yield met

    story = Story("labels turned over", {"slowly": 1.0}, frozenset({"hold", "reject"}), counted)
    plan = drill.Plan(own_pace=timedelta(0), faults=(story,))
    log = simulated(seed=3, days=1.6, requests_per_day=3_000)
    done = drill.drill(small_feed(), log, plan, clock=time.perf_counter, progress=lambda line: None)
    [found] = done.planted
    assert found.caught, found.reasons
    assert found.named, found.reasons
    assert len(seen) == 3
    assert seen == sorted(seen)
    assert done.clean[0].rejected == 0, "what was planted is not met by the clean windows that follow"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_shop_of_several_labels_is_drilled_and_says_what_it_cannot_plant() -> None:
    surface = replace(SHOP, fewest=200)
    log = simulated_shop(seed=3, days=1.6, impressions_per_day=12_000)
    faults = first_strength("stuck", "one context", "client version", "slow drift", "traffic lost")
    plan = drill.Plan(own_pace=timedelta(0), faults=faults)
    done = drill.drill(surface, log, plan, clock=time.perf_counter, progress=lambda line: None)
    assert {found.fault for found in done.planted} >= {"a feature stuck at zero", "values of a new client version"}
    assert {"a slow drift over two days", "traffic lost"} <= {lacking.fault for lacking in done.not_planted}
    assert all(lacking.reason.endswith(".") for lacking in done.not_planted)
    assert len({*(found.fault for found in done.planted), *(each.fault for each in done.not_planted)}) == len(faults)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_movies_are_drilled_by_months_or_longer_over_all_their_years(tmp_path: Path) -> None:
    made = simulate_movies(
        seed=5, start=datetime(2012, 1, 1, tzinfo=UTC), days=1_500, users=300, movies=150, ratings_per_day=8
    )
    for name, rows in (("log", made.ratings), ("items", made.movies)):
        rows.write_parquet(tmp_path / f"{name}.parquet")
    files = Files(tmp_path / "log.parquet", tmp_path / "items.parquet")
    log = read_log("movies", files, now=datetime.now(UTC), mapping=MOVIES.log, label="rating")
    surface = replace(MOVIES, fewest=200)
    cadence = cadence_of(surface, log)
    assert cadence.every == timedelta(days=30)
    faults = first_strength("stuck", "one context", "market", "slow drift")
    done = drill.drill(surface, log, drill.Plan(faults=faults), clock=time.perf_counter, progress=lambda line: None)
    assert "a feature stuck at zero" in {found.fault for found in done.planted}
    assert {"a market switched on", "a slow drift over two days"} <= {lacking.fault for lacking in done.not_planted}
    assert [clean.every for clean in done.clean] == ["30 days", "day"] or [clean.every for clean in done.clean] == [
        "30 days"
    ]


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
