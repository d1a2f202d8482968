"""``millrace key …``, on a real database."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.key_commands import ScopeName, app
from infra.errors import MillraceError
from infra.postgres.connections import connect
from models.serving.access import keys, secrets
from models.serving.access.callers import Access
from models.serving.access.keys import SCOPES

Run = Callable[..., Result]


@pytest.fixture
def key(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``millrace key …``; what a person can mend is raised."""
    monkeypatch.setenv("MILLRACE_DATABASE_URL", database)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments))
        if isinstance(done.exception, MillraceError):
            raise done.exception
        assert done.exit_code == code, done.output
        return done

    return run


def test_the_scopes_of_the_command_are_those_of_keys() -> None:
    assert tuple(ScopeName) == SCOPES


def test_a_key_is_printed_once_opens_what_it_says_and_is_listed_without_itself(key: Run, database: str) -> None:
    assert key("list").stdout.startswith("There is no key yet: millrace key add")
    options = ("--surface", "feed", "--per-second", "200", "--expires-days", "90")
    made = key("add", "app", "--scope", "feedback", "--scope", "rank", *options)
    text = made.stdout.strip()
    assert made.stdout == f"{text}\n", "a script takes it from there"
    assert "rank, feedback on feed, 200 requests a second, until" in made.stderr
    now = datetime.now(UTC).timestamp()
    with connect(database) as connection:
        access = Access(open_without_keys=False)
        access.use(keys.every(connection))
    caller = access.caller(f"Bearer {text}".encode(), now)
    assert (caller.may("rank", "feed"), caller.may("rank", "ads"), caller.may("events", "feed")) == (True, False, False)
    key("add", "ops", "--scope", "admin")
    line = next(line for line in key("list").stdout.splitlines() if line.startswith("app"))
    for word in ("active", "feed", "rank, feedback", "200", text.split("_")[1]):
        assert word in line
    for shown in (key("list").output, key("list", "--json").output):
        assert text.split("_", 2)[2] not in shown
        assert "sha256" not in shown


def test_a_key_is_revoked_by_name_or_id_and_its_state_says_so(key: Run, database: str) -> None:
    text = key("add", "app", "--scope", "rank").stdout
    key("add", "ops", "--scope", "admin")
    with connect(database, autocommit=True) as connection:
        past = "created_at = now() - interval '2 days', expires_at = now() - interval '1 day'"
        connection.execute(f"UPDATE api_keys SET {past} WHERE name = 'ops'".encode())
    assert "(" + text.split("_")[1] + ") is revoked" in key("revoke", text.split("_")[1]).stdout
    found = {one["name"]: one["state"] for one in json.loads(key("list", "--json").stdout)["keys"]}
    assert found == {"app": "revoked", "ops": "expired"}
    key("revoke", "ops")
    table = key("list").stdout
    assert table.count("revoked") == 2


def test_another_secret_is_made_and_the_first_stays(key: Run, database: str) -> None:
    with connect(database, autocommit=True) as connection:
        first = secrets.ensure(connection, (), 0.0)
        assert "signs in 30 seconds" in key("rotate-signing").stdout
        assert secrets.every(connection)[0] == first[0]
        assert len(secrets.every(connection)) == 2


def test_what_cannot_be_done_says_what_to_do(key: Run) -> None:
    key("add", "app", "--scope", "rank")
    for wrong, words in (
        (("add", "app", "--scope", "rank"), "millrace key revoke app"),
        (("add", "The App", "--scope", "rank"), "'The App'"),
        (("add", "ben", "--scope", "rank", "--surface", "moon"), "surface 'moon'"),
        (("add", "ben", "--scope", "rank", "--per-second", "0"), "--per-second is 0"),
        (("revoke", "ben"), "millrace key list"),
    ):
        with pytest.raises(MillraceError, match=words) as refused:
            key(*wrong)
        assert refused.value.exit_code == 2 or "moon" in words
    assert "Missing option" in key("add", "ben", code=2).output
    assert "'root' is not one of" in key("add", "ben", "--scope", "root", code=2).output
    assert "--expires-days" in key("add", "ben", "--scope", "rank", "--expires-days", "0", code=2).output
