"""Limits that people choose, in force from the next update on; what ``millrace surface check --log`` says of them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from features.ingest.simulate import simulate
from flows.drill import sensitivity
from flows.drill.faults import FAULTS, Fault
from flows.drill.life import Trained, life_of
from flows.drill.logs import Log
from flows.drill.sensitivity import ladder
from flows.review.decisions import Decisions
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from monitoring.gate.hypotheses import requests_to_show
from monitoring.records import limits_known
from monitoring.records import sensitivity as trials
from monitoring.records.review import Refused
from monitoring.statistics.sequential import Moments
from tests.worlds.loop import START, SURFACES, Loop, after, run_update

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

VOLUME, SHARE = "check/volume", "check/one user's share"


# --- chosen, and in force -------------------------------------------------------------------------------------------


def decisions(loop: Loop) -> Decisions:
    return Decisions(loop.settings, lambda _: loop.surface, clock=lambda: datetime.now(UTC))


@pytest.mark.slow
def test_a_chosen_limit_is_in_force_from_the_next_update_on_and_its_reason_says_who_chose_it(served_loop: Loop) -> None:
    loop = served_loop
    choose = partial(decisions(loop).choose_limit, "feed", SHARE, person="ada", through="command line")
    done = choose(at_most=0.02, reason="to see it")
    assert "is 0.02 from the next update on" in done.sentence
    with loop.world() as world:
        held = run_update(world, after(17))
    assert held.verdict.verdict == "hold"
    assert held.verdict.codes[0] == SHARE
    assert 'Set by Limits.at["one user\'s share"] = 0.02, chosen by ada on ' in held.verdict.reasons[0]
    with connect(loop.url) as connection:
        known = limits_known.read(connection, "feed", loop.surface.policy, loop.surface.limits)
    assert known.of_updates
    assert known.windows[0].needs[SHARE] > 0.02

    with pytest.raises(Refused, match="already"):
        choose(at_most=0.02, reason="once more")
    with pytest.raises(Refused, match="ada has set the limit of one user's share since you looked"):
        choose(at_most=0.3, reason="late", seen=0)
    choose(at_most=None, reason="seen")
    with loop.world() as world:
        assert SHARE not in run_update(world, after(18)).verdict.codes
    rows = loop.query(
        "SELECT at_most, chosen_by, reason, through, windows, stopped_after FROM limit_choices ORDER BY choice_id"
    )
    assert [row[:4] for row in rows] == [
        (0.02, "ada", "to see it", "command line"),
        (None, "ada", "seen", "command line"),
    ]
    with pytest.raises(Refused, match="as the file declares it already"):
        choose(at_most=None, reason="again")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"code": "check/nothing"}, "no limit to set"),
        ({"at_most": 0.5}, "above 1"),
        ({"reason": " "}, "wants a reason"),
        ({"person": "gate"}, "nobody's"),
        ({"through": "desk"}, "wants the role analyst"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_and_nothing_is_written(
    changes: Mapping[str, Any], why: str, loop: Loop
) -> None:
    given: dict[str, Any] = {
        "code": VOLUME,
        "at_most": 4.0,
        "person": "ada",
        "reason": "So.",
        "through": "command line",
    }
    given |= changes
    with pytest.raises(Refused, match=why):
        decisions(loop).choose_limit("feed", given.pop("code"), **given)
    assert loop.query("SELECT * FROM limit_choices") == []


# --- the life of a surface on a log ---------------------------------------------------------------------------------


def log_of(impressions_a_day: int, span: timedelta, label_rate: float = 0.1, per_request: int = 5) -> Log:
    """An even stream of impressions."""
    count = round(impressions_a_day * (span / DAY))
    number = np.arange(count)
    shown = pl.DataFrame(
        {
            "request_id": [f"r{place}" for place in number // per_request],
            "user_id": [f"u{place}" for place in number // (3 * per_request)],
            "shown_at": START
            + pl.Series(number * (span / timedelta(microseconds=1) / count)).cast(pl.Int64).cast(pl.Duration("us")),
            "clicked": np.random.default_rng(0).random(count) < label_rate,
        }
    )
    return Log("even", shown, {})


def test_a_small_site_is_told_how_seldom_an_update_comes_and_what_says_so() -> None:
    life = life_of(FEED, log_of(200, 39 * DAY))
    assert life.updates == 15
    assert timedelta(days=2.4) < life.update_every < timedelta(days=2.8)
    assert life.per_update.median == pytest.approx(500, abs=10)
    [slow, *_] = life.advice(Trained())
    assert "An update comes every 2 days" in slow
    assert "every=timedelta(days=1) says what happens" in slow


def test_a_large_site_has_a_sensible_life_without_advice() -> None:
    life = life_of(FEED, log_of(20_000_000, timedelta(minutes=31)))
    assert life.updates == 3
    assert life.update_every == pytest.approx(timedelta(minutes=10), abs=timedelta(minutes=1))
    assert life.per_update.median == pytest.approx(138_889, abs=2)
    trained = Trained(HOUR, 0, Moments(10_000, 0.001, 0.02), impressions_per_s=20_000.0)
    assert life.advice(trained) == []
    assert any("trains in" in line for line in life.sentences(trained))
    slow = Trained(HOUR, 0, Moments(10_000, 0.001, 0.02), impressions_per_s=200.0)
    [advice] = life.advice(slow)
    assert "every=timedelta(minutes=30) leaves it time" in advice


def test_few_labels_and_a_long_wait_are_said_with_what_would_help() -> None:
    life = life_of(FEED, log_of(2_000, 20 * DAY, label_rate=0.004))
    found = " ".join(life.advice(Trained(gains=Moments(5_000, 0.0, 1.0))))
    assert "labels: little can be said" in found
    assert "fewest=" in found
    assert "Policy(margin=0.02)" in found


def test_a_log_without_an_update_says_how_long_one_takes() -> None:
    life = life_of(FEED, log_of(200, DAY))
    assert life.updates == 0
    assert "No update in this log" in life.sentences(Trained())[1]


def test_requests_to_show_are_those_at_which_the_record_shows_it() -> None:
    from monitoring.gate.hypotheses import TUNED_FOR
    from monitoring.statistics.sequential import lower

    needed = requests_to_show(0.016, margin=0.01)
    assert needed is not None
    assert lower(Moments(needed, 0.0, 0.016), 0.05, TUNED_FOR) > -0.01
    assert lower(Moments(round(needed * 0.97), 0.0, 0.016), 0.05, TUNED_FOR) <= -0.01
    assert requests_to_show(0.016, margin=0.02) < needed  # type: ignore[operator]
    assert requests_to_show(1e12, margin=0.01) is None


# --- windows and strengths ------------------------------------------------------------------------------------------


PLANTED = [fault for fault in FAULTS if isinstance(fault, Fault) and "promote" not in fault.expected]


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_every_fault_has_rising_strengths_in_words_of_their_own(fault: Any) -> None:
    found = ladder(fault)
    assert 3 <= len(found) <= 5
    assert list(found.values()) == sorted(found.values())
    assert max(found.values()) <= max(fault.strengths.values())


@pytest.mark.parametrize(
    ("named", "value", "words"),
    [
        ({"10 % of the requests": 0.1, "2 % of the requests": 0.02}, 0.005, "0.5 % of the requests"),
        ({"10 % of the requests": 0.1, "2 % of the requests": 0.02}, 0.02, "2 % of the requests"),
        ({"all of them": 1.0, "half of them": 0.5}, 0.25, "25 % of them"),
        ({"everywhere": 1.0, "on a third of the rows": 1 / 3}, 0.12, "on 12 % of the rows"),
        ({"x 100": 100.0, "x 2.54": 2.54}, 1.2, "x 1.2"),
        ({"clicks after 15 min": 15.0, "after 6 min": 6.0}, 1.5, "clicks after 1.5 min"),
        ({"by 4 sd": 4.0, "by 1.5 sd": 1.5}, 0.375, "by 0.38 sd"),
    ],
)
def test_a_strength_without_a_name_is_said_as_those_that_have_one(
    named: Mapping[str, float], value: float, words: str
) -> None:
    assert sensitivity.strength_in_words(value, named) == words


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    folder = tmp_path_factory.mktemp("limits")
    log, items, _ = simulate(seed=0, start=START, days=1.0, users=600, items_per_day=50, requests_per_day=1_500)
    log.write_parquet(folder / "log.parquet")
    items.write_parquet(folder / "items.parquet")
    return "--log", str(folder / "log.parquet"), "--items", str(folder / "items.parquet")


def command(loop: Loop, *words: str) -> Any:
    """The command line over the loop's database, with few windows and two faults."""
    from flows.cli.main import app

    chosen = [fault for fault in FAULTS if fault.name in ("a feature stuck at zero", "items under new ids")]
    with pytest.MonkeyPatch.context() as patched:
        for name, value in settings_environment(loop.settings).items():
            patched.setenv(name, value)
        patched.setenv("MILLRACE_SURFACES", str(SURFACES))
        patched.setattr(sensitivity, "Plan", partial(sensitivity.Plan, windows=14, faults=tuple(chosen)))
        done = CliRunner().invoke(app, ["surface", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.mark.slow
def test_a_check_with_a_log_says_both_ways_in_which_each_limit_is_wrong_and_keeps_it_for_the_desk(
    files: Sequence[str], loop: Loop
) -> None:
    found = json.loads(command(loop, "check", "feed", *files, "--json").stdout)
    assert found["life"]["updates"] > 20
    assert found["life"]["first_model_s"] is not None
    assert found["windows"] >= 6
    limits = {limit["code"]: limit for limit in found["limits"]}
    narrowed, renamed = limits["check/features narrowed"], limits["check/new items"]
    assert narrowed["windows"] == found["windows"]
    assert "a feature stuck at zero" in {fault["fault"] for fault in narrowed["smallest"]}
    assert "items under new ids" in {fault["fault"] for fault in renamed["smallest"]}
    assert limits["slices"]["source"] == "declared"
    with connect(loop.url) as connection:
        kept = trials.newest(connection, "feed")
        known = limits_known.read(connection, "feed", loop.surface.policy, loop.surface.limits)
    assert kept is not None
    assert [fault.name for fault in kept.trial.faults] == ["a feature stuck at zero", "items under new ids"]
    assert len(known.windows) == found["windows"], "while no update has been judged"
    assert not known.of_updates


def test_a_limit_can_be_set_without_a_browser(loop: Loop) -> None:
    done = command(loop, "limit", "feed", "volume", "4", "--why", "News breaks.", "--as", "ada")
    assert "The limit of volume is 4 from the next update on" in done.stdout
    assert loop.query("SELECT code, at_most, chosen_by, through FROM limit_choices") == [
        (VOLUME, 4.0, "ada", "command line")
    ]


def test_a_surface_is_named_with_its_log() -> None:
    from flows.cli.arguments import BadArgument
    from flows.cli.surface_commands import check

    for words in ([], ["feed", "search"]):
        with pytest.raises(BadArgument, match="name one surface"):
            check(words, logged=True)
    with pytest.raises(BadArgument, match="does not exist"):
        check([str(Path(SURFACES) / "feed.py")], log="nowhere.parquet")


def test_limits_of_a_surface_are_those_of_its_file_where_nobody_chose() -> None:
    from flows.chosen_limits import with_limits

    declared: Surface = FEED
    assert with_limits(declared, {}) is declared
