"""API keys: what is stored, what a header opens, how fast, and what a process knows while the database is away."""

import math
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.postgres.connections import connect
from models.serving.access import keys, secrets
from models.serving.access.callers import (
    ANYBODY,
    Access,
    AccessRefused,
    Forbidden,
    KeysUnknown,
    TooMany,
    Unauthorized,
)
from models.serving.access.copies import Copies, KnownSecrets
from models.serving.access.follow import AccessFollower
from models.serving.access.guard import Need, needed
from models.serving.access.keys import SCOPES, ApiKey, KeyRefused, MadeKey
from models.serving.access.signing import SETTLES_S, Signer
from models.serving.durable.database import Database
from tests.worlds.waiting import eventually

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = NOW.timestamp()
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def add(connection: psycopg.Connection, name: str = "app", **changes: Any) -> MadeKey:
    asked: dict[str, Any] = {"scopes": ["rank", "feedback"], "surface": "feed", "now": NOW} | changes
    return keys.add(connection, name, **asked)


def header(made: MadeKey) -> bytes:
    return b"Bearer " + made.text.encode()


def access_of(*found: ApiKey) -> Access:
    access = Access(open_without_keys=False)
    access.use(found)
    return access


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_key_is_stored_as_its_hash_alone(connection: psycopg.Connection) -> None:
    made = add(connection, expires_at=NOW + timedelta(days=90), requests_per_second=200.0)
    prefix, key_id, secret = made.text.split("_", 2)
    assert (prefix, key_id, len(secret)) == ("mr", made.key.key_id, 43)
    stored = connection.execute("SELECT api_keys::text FROM api_keys").fetchall()
    assert len(stored) == 1
    assert secret not in stored[0][0]
    assert keys.digest(secret.encode()).hex() in stored[0][0]
    assert keys.every(connection) == [made.key]
    assert add(connection, "other").text != made.text


def test_a_revoked_key_frees_its_name_and_stays_in_the_list(connection: psycopg.Connection) -> None:
    first = add(connection)
    with pytest.raises(KeyRefused, match=r"already a key 'app'.*millrace key revoke app"):
        add(connection)
    assert keys.revoke(connection, "app", now=NOW).state(NOW) == "revoked"
    second = add(connection, now=NOW + timedelta(seconds=1))
    assert keys.revoke(connection, second.key.key_id, now=NOW).key_id == second.key.key_id
    assert [key.key_id for key in keys.every(connection)] == [first.key.key_id, second.key.key_id]
    for name in ("app", first.key.key_id):
        with pytest.raises(KeyRefused, match="is revoked already, since 2026-03-01 12:00 UTC"):
            keys.revoke(connection, name, now=NOW)
    with pytest.raises(KeyRefused, match=r"no key 'none'; millrace key list"):
        keys.revoke(connection, "none", now=NOW)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Two Words"}, "'Two Words'.*lower-case"),
        ({"scopes": []}, "--scope is none: give"),
        ({"scopes": ["rank", "all"]}, "--scope is 'all': give at least one of rank, feedback"),
        ({"requests_per_second": 0.0}, "--per-second is 0: give"),
        ({"requests_per_second": math.inf}, "--per-second is inf"),
        ({"requests_per_second": math.nan}, "--per-second is nan"),
        ({"expires_at": NOW}, "2026-03-01 12:00 UTC, which is past"),
    ],
)
def test_a_key_that_cannot_be_made_says_why(
    connection: psycopg.Connection, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(KeyRefused, match=words):
        add(connection, **changes)
    assert keys.every(connection) == []


@pytest.mark.parametrize(
    "values",
    [
        "'0123456789ab', 'app', '\\x00', '*', '{rank}'",
        "'0123456789ab', 'app', sha256('x'), '*', '{}'",
        "'0123456789ab', 'app', sha256('x'), '*', '{rank,root}'",
        "'0123456789ab', 'app', sha256('x'), '*', '{NULL}'",
        "'0123456789AB', 'app', sha256('x'), '*', '{rank}'",
    ],
)
def test_the_table_refuses_what_is_no_key(connection: psycopg.Connection, values: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO api_keys (key_id, name, secret_sha256, surface, scopes, created_at)"
            f" VALUES ({values}, now())".encode()
        )


# --- a request's header ---------------------------------------------------------------------------------------------


def test_a_key_opens_what_its_scopes_and_its_surface_say(connection: psycopg.Connection) -> None:
    made, admin = add(connection), add(connection, "ops", scopes=["admin"], surface="*")
    caller = access_of(made.key, admin.key).caller(header(made), AT)
    assert [scope for scope in SCOPES if caller.may(scope, "feed")] == ["rank", "feedback"]
    assert not caller.may("rank", "ads")
    assert not caller.may("rank", "*")
    assert caller.may("rank")
    with pytest.raises(Forbidden, match="key app lacks the scope 'events', it has: rank, feedback"):
        caller.require("events", "feed")
    with pytest.raises(Forbidden, match=r"key app is of the surface 'feed' alone: .*'ads'"):
        caller.require("rank", "ads")
    operator = access_of(made.key, admin.key).caller(header(admin), AT)
    assert all(operator.may(scope, surface) for scope in SCOPES for surface in ("feed", "ads", "*"))


def test_what_is_no_good_key_is_refused_with_the_remedy(connection: psycopg.Connection) -> None:
    made = add(connection, expires_at=NOW + timedelta(days=1))
    access, day = access_of(made.key), timedelta(days=1).total_seconds()
    other = add(connection, "other")
    access.use([made.key, replace(other.key, revoked_at=NOW)])
    swapped = f"mr_{made.key.key_id}_{other.text.split('_', 2)[2]}"
    for sent, at, words in (
        (None, AT, "no API key was sent"),
        (b"", AT, "no API key"),
        (b"Basic " + made.text.encode(), AT, "is no API key"),
        (b"Bearer", AT, "is no API key"),
        (b"Bearer mr_" + made.key.key_id.encode(), AT, "is no API key"),
        (b"Bearer xx" + made.text.encode(), AT, "is no API key"),
        (b"Bearer mr_000000000000_" + made.text.split("_", 2)[2].encode(), AT, "is not known"),
        (header(made)[:-1], AT, "is not known"),
        (header(made) + b"x", AT, "is not known"),
        (b"Bearer " + swapped.encode(), AT, "is not known"),
        (b"Bearer mr_\xff\xfe_\x00", AT, "is not known"),
        (header(other), AT, "key other is revoked"),
        (header(made), AT + day, "key app expired at 2026-03-02 12:00 UTC"),
    ):
        with pytest.raises(Unauthorized, match=rf"{words}.*") as refused:
            access.caller(sent, at)
        assert refused.value.headers == {"www-authenticate": "Bearer"}
        assert "millrace key add" in str(refused.value)
    assert access.caller(header(made), AT + day - 1).name == "app"
    assert access.caller(header(made).replace(b"Bearer", b"bearer"), AT).name == "app"


def test_a_key_is_taken_at_its_rate_and_told_when_to_come_back(connection: psycopg.Connection) -> None:
    made, free = add(connection, requests_per_second=10.0), add(connection, "free")
    slow = add(connection, "slow", requests_per_second=0.1)
    access = access_of(made.key, free.key, slow.key)

    def taken(many: int, at: float, sent: bytes = header(made)) -> int:
        count = 0
        for _ in range(many):
            try:
                access.caller(sent, at)
            except TooMany:
                continue
            count += 1
        return count

    assert taken(50, AT) == 10, "a second's worth at once"
    assert taken(50, AT + 0.55) == 5
    assert taken(50, AT + 1000.0) == 10, "never more"
    assert taken(50, AT + 999.0) == 0, "a clock that was set back gives nothing"
    assert taken(50, AT + 1000.05) == 10, "and takes nothing"
    assert taken(50, AT, header(free)) == 50
    access.use([made.key, free.key, slow.key])
    assert taken(50, AT + 1000.05) == 0, "it is looked at every two seconds, and no bucket fills by that"
    access.caller(header(slow), AT)
    with pytest.raises(TooMany, match=r"key slow may send 0\.1 requests a second") as refused:
        access.caller(header(slow), AT + 4.0)
    assert refused.value.headers == {"retry-after": "6"}
    with pytest.raises(Unauthorized):
        access.caller(header(made)[:-1], AT + 1000.05)  # who has no key takes nothing from who has one


def test_without_a_key_serving_is_open_or_shut() -> None:
    for known in (None, ()):
        opened, shut = Access(open_without_keys=True), Access(open_without_keys=False)
        if known is not None:
            opened.use(known)
            shut.use(known)
        assert opened.caller(None, AT) is ANYBODY
        with pytest.raises(KeysUnknown) as refused:
            shut.caller(None, AT)
        assert refused.value.status == 503
        assert ("millrace key add" if known == () else "database") in str(refused.value)


def test_the_first_key_shuts_an_open_server_though_it_be_revoked(connection: psycopg.Connection) -> None:
    access = Access(open_without_keys=True)
    add(connection)
    access.use([keys.revoke(connection, "app", now=NOW)])
    with pytest.raises(AccessRefused):
        access.caller(None, AT)


@pytest.mark.parametrize(
    ("path", "need"),
    [
        ("/healthz", None),
        ("/readyz", None),
        ("/v1/feedback", Need("feedback", None)),
        ("/v1/feed/rank", Need("rank", "feed")),
        ("/v1/feed/recommend", Need("rank", "feed")),
        ("/v1/feed/events", Need("events", "feed")),
        ("/v1/feed/items", Need("items", "feed")),
        *(
            (path, Need("admin", "*"))
            for path in (
                *("/metrics", "/openapi.json", "/", "", "/docs", "/healthz/", "/healthz/x", "//healthz", "/readyz\n"),
                *("/v1", "/v1/feed", "/v1/feed/", "/v1/feed/rank/", "/v1/feed/rank\n", "/v2/feed/rank"),
                *("/v1/feed/new", "v1/feed/rank", "/v1/feedback/", "/v1/a/b/rank", "//v1/feed/rank"),
            )
        ),
    ],
)
def test_every_path_needs_something_and_what_nobody_named_needs_admin(path: str, need: Need | None) -> None:
    assert needed(path) == need


# --- secrets --------------------------------------------------------------------------------------------------------


def test_of_many_who_come_first_one_makes_the_secret(database: str) -> None:
    barrier = threading.Barrier(8)

    def come(_: int) -> list[bytes]:
        with connect(database, autocommit=True) as connection:
            barrier.wait()
            return [one.secret for one in secrets.ensure(connection, (), AT)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(come, range(8)))
    assert len(found[0]) == 1
    assert all(one == found[0] for one in found)


def test_a_secret_that_was_made_alone_joins_the_others_and_both_stay(connection: psycopg.Connection) -> None:
    first = secrets.ensure(connection, (), AT)
    own = secrets.new(AT)
    both = secrets.ensure(connection, [own], AT)
    assert both == [*first, own]
    assert secrets.ensure(connection, [own], AT) == both, "once"
    secrets.rotate(connection, now=AT + 1.0)
    assert secrets.every(connection)[:2] == both
    assert len(secrets.every(connection)) == 3
    for change in ("UPDATE signing_secrets SET made_at = now()", "DELETE FROM signing_secrets"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), connection.transaction():
            connection.execute(change.encode())


# --- following ------------------------------------------------------------------------------------------------------


def follower_of(database: str, folder: Path, clock: float = AT) -> tuple[AccessFollower, Access, Signer]:
    access, signer = Access(open_without_keys=False), Signer()
    return AccessFollower(access, signer, folder, Database(database), lambda: clock, 0.05), access, signer


def test_a_key_counts_within_moments_and_so_does_its_end(database: str, tmp_path: Path) -> None:
    follower, access, signer = follower_of(database, tmp_path / "serving")
    follower.start()
    stopping = threading.Event()
    thread = threading.Thread(target=follower.follow, args=(stopping,))
    thread.start()

    def opens(made: MadeKey) -> bool:
        try:
            access.caller(header(made), AT)
        except AccessRefused:
            return False
        return True

    try:
        assert not follower.behind()
        with connect(database, autocommit=True) as connection:
            made = add(connection)
            eventually(lambda: opens(made), "the key counts")
            keys.revoke(connection, "app", now=NOW)
            eventually(lambda: not opens(made), "it is revoked")
            before = signer.impression_ids("feed", "u", "r", ["a"])
            secrets.rotate(connection, now=AT - 2 * SETTLES_S)
            eventually(lambda: signer.impression_ids("feed", "u", "r", ["a"]) != before, "another secret signs")
            assert signer.surface_of(before[0]) == "feed"
    finally:
        stopping.set()
        thread.join()


def test_a_restart_while_the_database_is_away_knows_keys_and_secrets(database: str, tmp_path: Path) -> None:
    with connect(database, autocommit=True) as connection:
        made = add(connection, expires_at=NOW + timedelta(days=1), requests_per_second=5.0)
        keys.revoke(connection, add(connection, "gone").key.key_id, now=NOW)
    before, _, signed = follower_of(database, tmp_path / "serving")
    before.start()
    ids = signed.impression_ids("feed", "u", "r", ["a"])

    after, access, signer = follower_of(NOWHERE, tmp_path / "serving")
    after.start()
    assert after.behind()
    assert access.caller(header(made), AT).may("rank", "feed")
    with pytest.raises(Unauthorized, match="expired"):
        access.caller(header(made), AT + 86_400.0)
    assert signer.impression_ids("feed", "u", "r", ["a"]) == ids
    with connect(database) as connection:
        assert Copies(tmp_path / "serving").keys() == keys.every(connection)
    files = sorted((tmp_path / "serving").iterdir())
    assert [file.name for file in files] == ["api_keys.json", "signing_secrets.json"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert made.text.split("_", 2)[2] not in files[0].read_text()


def test_a_first_start_without_the_database_signs_and_the_database_gets_the_secret(
    database: str, tmp_path: Path
) -> None:
    alone, access, signer = follower_of(NOWHERE, tmp_path / "serving")
    alone.start()
    ids = signer.impression_ids("feed", "u", "r", ["a"])
    with pytest.raises(KeysUnknown):
        access.caller(None, AT)
    with connect(database, autocommit=True) as connection:
        others = secrets.ensure(connection, (), AT - 100.0)
    again, _, later = follower_of(database, tmp_path / "serving")
    again.start()
    with connect(database) as connection:
        assert len(secrets.every(connection)) == len(others) + 1
    assert later.surface_of(ids[0]) == "feed"
    elsewhere, _, other = follower_of(database, tmp_path / "elsewhere")
    elsewhere.start()
    assert other.surface_of(ids[0]) == "feed"
    assert Copies(tmp_path / "serving").secrets().own == []


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"keys": [{"key_id": "x"}], "stored": [{"secret": "eA=="}]}'])
def test_a_damaged_copy_is_none(tmp_path: Path, damaged: str) -> None:
    for name in ("api_keys.json", "signing_secrets.json"):
        (tmp_path / name).write_text(damaged)
    assert Copies(tmp_path).keys() is None
    assert Copies(tmp_path).secrets() == KnownSecrets()
    follower, access, signer = follower_of(NOWHERE, tmp_path)
    follower.start()
    with pytest.raises(KeysUnknown):
        access.caller(None, AT)
    assert signer.surface_of(signer.impression_ids("feed", "u", "r", ["a"])[0]) == "feed"


def test_a_database_that_is_not_migrated_is_not_taken_for_away(
    database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE api_keys")
    access, own = Access(open_without_keys=False), Database(database)
    AccessFollower(access, Signer(), tmp_path, own, lambda: AT, 0.05).start()
    assert own.available
    assert "millrace up" in caplog.text
    with pytest.raises(KeysUnknown):
        access.caller(None, AT)
