"""Users, passwords, sessions and review codes."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from infra.postgres.connections import connect
from monitoring.desk import accounts, sessions
from monitoring.desk.accounts import AccountError
from monitoring.desk.sessions import SignInRefused, TooManyAttempts
from tests.worlds.desk import cheap_hashes

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery"
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashes(monkeypatch)


@pytest.fixture
def users(database: str) -> Iterator[psycopg.Connection]:
    """A connection to a database that knows one analyst of the feed, Ada."""
    with connect(database, autocommit=True) as connection:
        accounts.add_user(connection, "ada", PASSWORD, role="analyst", surface="feed")
        yield connection


def sign_in(
    connection: psycopg.Connection,
    name: str = "ada",
    password: str = PASSWORD,
    *,
    address: str = "10.0.0.1",
    now: datetime = NOW,
) -> str:
    return sessions.sign_in(connection, name, password, address=address, now=now)[1]


def test_neither_passwords_nor_cookies_nor_codes_can_be_read_from_the_database(users: psycopg.Connection) -> None:
    token = sign_in(users)
    code = accounts.make_code(users, "ada", NOW, 10 * MINUTE)
    stored = "".join(
        str(users.execute(f"SELECT t::text FROM {table} t").fetchall())
        for table in ("people", "sessions", "review_codes", "sign_ins")
    )
    assert "$argon2id$" in stored
    for secret in (PASSWORD, token, code, code.replace("-", "")):
        assert secret not in stored


def test_a_password_costs_what_is_recommended_and_an_older_cost_is_raised(
    users: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    cost = accounts.hasher()
    assert (cost.type.name, cost.memory_cost, cost.time_cost, cost.parallelism) == ("ID", 64 << 10, 3, 4)
    sign_in(users)
    stored = users.execute("SELECT password FROM people").fetchone()
    assert stored is not None
    assert "m=65536,t=3,p=4" in stored[0]
    sign_in(users)


def test_a_role_holds_those_before_it_and_only_on_its_surface(users: psycopg.Connection) -> None:
    accounts.add_user(users, "olga", PASSWORD, role="operator", surface="*")
    accounts.add_user(users, "vera", PASSWORD, role="viewer", surface="feed")
    allowed = {
        name: [accounts.may_decide(users, name, surface) for surface in ("feed", "search")]
        + [accounts.may_operate(users, name, "feed")]
        for name in ("ada", "olga", "vera", "nobody")
    }
    assert allowed == {
        "ada": [True, False, False],
        "olga": [True, True, True],
        "vera": [False, False, False],
        "nobody": [False, False, False],
    }
    vera = accounts.grant(users, "vera", role="analyst", surface="*")
    assert vera.grants == {"feed": "viewer", "*": "analyst"}
    assert vera.role("feed") == "analyst"  # the higher of the two
    assert accounts.revoke(users, "vera", surface="*").role("search") is None
    with pytest.raises(AccountError, match="holds no role on ads"):
        accounts.revoke(users, "vera", surface="ads")


@pytest.mark.parametrize("name", ["gate", "watch", "deadline", "Ada", "", "a b", "-x", "a" * 65, "ada\n"])
def test_a_name_that_will_not_do_is_refused(users: psycopg.Connection, name: str) -> None:
    with pytest.raises(AccountError, match="will not do"):
        accounts.add_user(users, name, PASSWORD, role="viewer", surface="feed")


def test_a_name_is_taken_once_and_a_password_has_a_length(users: psycopg.Connection) -> None:
    with pytest.raises(AccountError, match="already a user ada"):
        accounts.add_user(users, "ada", PASSWORD, role="operator", surface="*")
    for password in ("too short", "x" * 257):
        with pytest.raises(AccountError, match="it takes 12 to 256"):
            accounts.add_user(users, "ben", password, role="viewer", surface="feed")
    assert [person.name for person in accounts.people(users)] == ["ada"]
    with pytest.raises(AccountError, match="no user 'ben'"):
        accounts.set_password(users, "ben", PASSWORD)


def test_who_signed_in_is_known_until_they_sign_out(users: psycopg.Connection) -> None:
    token = sign_in(users, "ADA ")
    session = sessions.resume(users, token, now=NOW)
    assert session is not None
    assert session.person.name == "ada"
    assert sessions.resume(users, token + "x", now=NOW) is None
    sessions.sign_out(users, token)
    assert sessions.resume(users, token, now=NOW) is None


def test_a_session_ends_when_it_is_not_used_and_after_a_working_day(users: psycopg.Connection) -> None:
    token = sign_in(users)
    assert sessions.resume(users, token, now=NOW + sessions.IDLE) is None
    used = NOW
    while used + 50 * MINUTE < NOW + sessions.LONGEST:
        used += 50 * MINUTE
        assert sessions.resume(users, token, now=used) is not None
    assert sessions.resume(users, token, now=NOW + sessions.LONGEST) is None


def test_another_password_or_being_disabled_ends_sessions_and_codes_at_once(users: psycopg.Connection) -> None:
    token, code = sign_in(users), accounts.make_code(users, "ada", NOW, 10 * MINUTE)
    accounts.set_password(users, "ada", "another long password")
    assert sessions.resume(users, token, now=NOW) is None
    assert not accounts.use_code(users, "ada", code, NOW)
    with pytest.raises(SignInRefused):
        sign_in(users)
    token = sign_in(users, password="another long password")
    accounts.disable(users, "ada", now=NOW)
    assert sessions.resume(users, token, now=NOW) is None
    assert not accounts.may_decide(users, "ada", "feed")
    with pytest.raises(SignInRefused):
        sign_in(users, password="another long password")
    with pytest.raises(AccountError, match="is disabled"):
        accounts.make_code(users, "ada", NOW, MINUTE)
    accounts.enable(users, "ada")
    sign_in(users, password="another long password")


def test_a_stranger_learns_nothing_of_who_has_an_account(users: psycopg.Connection) -> None:
    messages = set()
    for name in ("ada", "nobody"):
        with pytest.raises(SignInRefused) as refused:
            sign_in(users, name, "a wrong password")
        messages.add(str(refused.value))
    assert messages == {"The name or the password is wrong."}
    for name in ("ada", "nobody"):  # nor by where the brake takes hold
        for _ in range(sessions.BY_NAME_AND_ADDRESS - 1):
            with pytest.raises(SignInRefused, match="wrong"):
                sign_in(users, name, "a wrong password")
        with pytest.raises(TooManyAttempts):
            sign_in(users, name, "a wrong password")


def test_guessing_is_braked_and_lets_go_and_locks_nobody_out_from_elsewhere(users: psycopg.Connection) -> None:
    for _ in range(sessions.BY_NAME_AND_ADDRESS):
        with pytest.raises(SignInRefused, match="wrong"):
            sign_in(users, password="a wrong password")
    with pytest.raises(TooManyAttempts, match="15 minutes"):
        sign_in(users)  # the right one is not looked at any more
    sign_in(users, address="10.0.0.2")
    sign_in(users, now=NOW + sessions.LOCKED_FOR + MINUTE)


def test_who_guesses_a_name_from_everywhere_is_braked_and_its_owner_gets_in_where_they_did_before(
    users: psycopg.Connection,
) -> None:
    sign_in(users, address="10.0.0.1", now=NOW - timedelta(days=30))
    for place in range(sessions.BY_NAME):
        with pytest.raises(SignInRefused):
            sign_in(users, password="a wrong password", address=f"203.0.113.{place}")
    with pytest.raises(TooManyAttempts):
        sign_in(users, password="a wrong password", address="198.51.100.1")
    sign_in(users, address="10.0.0.1")
    with pytest.raises(TooManyAttempts):
        sign_in(users, address="10.0.0.2")  # nowhere they have been; for a quarter of an hour
    sign_in(users, address="10.0.0.2", now=NOW + sessions.LOCKED_FOR)


def test_the_right_password_clears_what_was_mistyped(users: psycopg.Connection) -> None:
    for _ in range(3):
        for _ in range(sessions.BY_NAME_AND_ADDRESS - 1):
            with pytest.raises(SignInRefused, match="wrong"):
                sign_in(users, password="a wrong password")
        sign_in(users)


def test_one_address_cannot_try_many_names(users: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "BY_ADDRESS", 4)  # else 25 hashes
    for place in range(4):
        with pytest.raises(SignInRefused, match="wrong"):
            sign_in(users, f"name{place}", "a wrong password")
    with pytest.raises(TooManyAttempts):
        sign_in(users, "yet-another", "a wrong password")


def test_many_guesses_at_once_get_no_further_than_one_after_another(users: psycopg.Connection, database: str) -> None:
    looked_at: list[type[Exception]] = []
    barrier = threading.Barrier(12)

    def guess() -> None:
        with connect(database, autocommit=True) as connection:
            barrier.wait()
            try:
                sign_in(connection, password="a wrong password")
            except SignInRefused as refused:
                looked_at.append(type(refused))

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looked_at) == 12
    assert looked_at.count(SignInRefused) <= sessions.BY_NAME_AND_ADDRESS


def test_a_review_code_is_good_once_for_its_user_in_its_time(users: psycopg.Connection) -> None:
    accounts.add_user(users, "ben", PASSWORD, role="viewer", surface="feed")
    code = accounts.make_code(users, "ada", NOW, 10 * MINUTE)
    assert not accounts.use_code(users, "ada", "2345-6789-ABCD", NOW)
    assert not accounts.use_code(users, "ada", code, NOW + 10 * MINUTE)
    assert accounts.use_code(users, "ada", f" {code.lower().replace('-', '')} ", NOW + 9 * MINUTE)
    assert not accounts.use_code(users, "ada", code, NOW + 9 * MINUTE)
    misused = accounts.make_code(users, "ada", NOW, 10 * MINUTE)
    assert not accounts.use_code(users, "ben", misused, NOW)
    assert not accounts.use_code(users, "ada", misused, NOW), (
        "whoever reads it in the form that was refused is too late"
    )


def test_a_password_typed_on_another_keyboard_is_the_same(users: psycopg.Connection) -> None:
    accounts.set_password(users, "ada", "Zo\N{LATIN SMALL LETTER E WITH DIAERESIS} and the mill")
    sign_in(users, password="Zoe\N{COMBINING DIAERESIS} and the mill")
