"""``millrace user …``, on a real database."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.user_commands import app
from infra.errors import MillraceError
from infra.postgres.connections import connect
from monitoring.desk import accounts
from tests.worlds.desk import PASSWORD, cheap_hashes

Run = Callable[..., str]


@pytest.fixture
def user(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``millrace user …`` and gives what it says; what a person can mend is raised."""
    cheap_hashes(monkeypatch)
    monkeypatch.setenv("MILLRACE_DATABASE_URL", database)
    monkeypatch.setenv("MILLRACE_DESK_URL", "https://desk.test/")

    def run(*arguments: str, given: str = "") -> str:
        done = CliRunner().invoke(app, list(arguments), input=given)
        if isinstance(done.exception, MillraceError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


def add(user: Run, name: str = "ada", **changes: Any) -> str:
    options = {"--role": "analyst", "--surface": "feed"} | changes
    return user(
        "add", name, *(part for pair in options.items() for part in pair), "--password-stdin", given=f"{PASSWORD}\n"
    )


def test_a_user_is_made_granted_and_listed(user: Run, database: str) -> None:
    assert user("list").startswith("There is nobody yet")
    assert add(user) == "ada: analyst on feed. They sign in at https://desk.test\n"
    assert user("grant", "ada", "--role", "viewer", "--surface", "*") == "ada: viewer on *, analyst on feed.\n"
    assert user("revoke", "ada", "--surface", "feed") == "ada: viewer on *.\n"
    user("disable", "ada")
    assert user("list") == "ada: viewer on * (disabled).\n"
    assert json.loads(user("list", "--json")) == {
        "users": [{"name": "ada", "grants": {"*": "viewer"}, "disabled": True}]
    }
    user("enable", "ada")
    user("password", "ada", "--password-stdin", given="another long password\n")
    with connect(database, autocommit=True) as connection:
        assert accounts.password_holds(connection, "ada", "another long password") is not None
        assert accounts.password_holds(connection, "ada", PASSWORD) is None


def test_a_code_is_shown_once_and_works_once(user: Run, database: str) -> None:
    add(user)
    code = user("code", "ada", "--minutes", "5").split()[0]
    with connect(database, autocommit=True) as connection:
        assert accounts.use_code(connection, "ada", code, datetime.now(UTC))
        assert not accounts.use_code(connection, "ada", code, datetime.now(UTC))


def test_what_cannot_be_done_says_what_to_do(user: Run) -> None:
    add(user)
    for wrong, words in (
        (("add", "ada", "--role", "viewer", "--surface", "feed", "--password-stdin"), "millrace user grant ada"),
        (("add", "ben", "--role", "viewer", "--surface", "moon", "--password-stdin"), "surface 'moon'"),
        (("add", "gate", "--role", "viewer", "--surface", "feed", "--password-stdin"), "the program itself"),
        (("add", "ben", "--role", "viewer", "--surface", "feed"), "--password-stdin"),
        (("code", "ben"), "millrace user list"),
        (("password", "ben", "--password-stdin"), "millrace user list"),
    ):
        with pytest.raises(MillraceError, match=words):
            user(*wrong, given=f"{PASSWORD}\n")
    with pytest.raises(MillraceError, match="12 to 256"):
        user("add", "ben", "--role", "viewer", "--surface", "feed", "--password-stdin", given="short\n")
