"""Times that a person names: what cannot be is refused in one line by every way in, before anything is claimed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from typer.testing import CliRunner

from flows.cli.main import app
from flows.ledger import CLOCKS_APART, ImpossibleTime, expect_time
from flows.services.live_watch import watch
from flows.update import update
from infra.errors import MillraceError
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from tests.worlds.loop import START, Loop, after, copied

YEAR_2099 = datetime(2099, 1, 1, tzinfo=UTC)
IMPOSSIBLE = {
    "the future": (YEAR_2099, "after now"),
    "the end of time": (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "after now"),
    "the end of time in the west": (datetime.fromisoformat("9999-12-31T23:59:59-14:00"), "after now"),
    "year 1": (datetime(1, 1, 1, tzinfo=UTC), "before the log of feed begins, 2026-03-01"),
    "year 1 in the east": (datetime.fromisoformat("0001-01-01T00:00:00+14:00"), "before the log of feed begins"),
    "before the log": (START - timedelta(hours=1), "before the log of feed begins"),
    "no zone": (after(2).replace(tzinfo=None), "names no zone"),
}


@pytest.fixture(scope="module")
def loop(site: Loop, prefect_server: str) -> Iterator[Loop]:
    """An installation whose log has never been learned from, as the environment names it."""
    assert prefect_server
    own = copied(site)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings_environment(own.settings).items():
            environment.setenv(name, value)
        yield own


@pytest.mark.parametrize("which", IMPOSSIBLE)
def test_a_time_that_cannot_be_is_refused_in_one_line(loop: Loop, which: str) -> None:
    moment, words = IMPOSSIBLE[which]
    with connect(loop.url) as connection, pytest.raises(ImpossibleTime, match=words) as refused:
        expect_time(connection, "feed", moment, datetime.now(UTC))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("flow", [update, watch], ids=["update", "watch"])
def test_a_run_as_of_a_time_that_cannot_be_claims_nothing(loop: Loop, flow: Callable[[str, datetime], object]) -> None:
    """As Prefect calls it: from its page, a deployment or a script."""
    moment, words = IMPOSSIBLE["the future"]
    with pytest.raises(ImpossibleTime, match=words):
        flow("feed", moment)
    assert loop.updates() == []


def test_a_run_as_of_no_time_at_all_is_refused_by_the_name_of_its_parameter(loop: Loop) -> None:
    run: Callable[..., Any] = update
    with pytest.raises(ParameterTypeError, match="as_of"):
        run("feed", as_of="yesterdayish")
    assert loop.updates() == []


@contextmanager
def refused(*words: str) -> Iterator[Callable[..., None]]:
    """Call the command line: it ends in one line with these words."""

    def call(*arguments: str) -> None:
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, MillraceError), done.output
        assert done.exception.exit_code == 2
        line = str(done.exception)
        assert "\n" not in line
        assert all(word in line for word in words), line

    yield call


@pytest.mark.parametrize(
    ("time", "word"),
    [
        ("2099-01-01", "after now"),
        ("2999-12-31T23:59:59+00:00", "after now"),
        ("2026-02-01", "before the log of feed begins"),
        ("1970-01-01T00:00:00+14:00", "before the log of feed begins"),
        ("0001-01-01", "no time of an event"),
        ("0001-01-01T00:00:00+14:00", "no time of an event"),
        ("9999-12-31T23:59:59-14:00", "no time of an event"),
        ("soon", "is no time"),
        ("", "is no time"),
    ],
)
def test_the_command_line_refuses_an_update_as_of_a_time_that_cannot_be(loop: Loop, time: str, word: str) -> None:
    with refused(time, word) as call:
        call("update", "--surface", "feed", "--as-of", time)
    assert loop.updates() == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--until", "0001-01-01T00:00:00+14:00"),
        ("--from", "9999-12-31T23:59:59-14:00"),
        ("--from", "31.12.2026"),
        ("--warmup", "999999999999d"),
        ("--every", "9" * 400 + "h"),
        ("--tick", "36526d"),
        ("--tick", "-1s"),
    ],
)
def test_a_backtest_with_a_time_beyond_any_clock_is_refused_before_it_starts(
    tmp_path: Path, option: str, value: str
) -> None:
    log = tmp_path / "log.parquet"
    log.touch()
    with refused(value) as call:
        call("backtest", "--log", str(log), "--surface", "feed", option, value)


def test_a_clock_a_little_ahead_of_ours_means_now(loop: Loop) -> None:
    now = after(12)
    with connect(loop.url) as connection:
        assert expect_time(connection, "feed", now + CLOCKS_APART, now) == now
        assert expect_time(connection, "feed", after(3), now) == after(3)
        with pytest.raises(ImpossibleTime):
            expect_time(connection, "feed", now + CLOCKS_APART + timedelta(microseconds=1), now)
        assert expect_time(connection, "nothing logged", after(3), now) == after(3)
