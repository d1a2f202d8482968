"""What another user of this machine, somebody without the password, and the role that processes run as cannot do."""

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.addresses import database_name, embedded, parameters, passfile, with_database
from infra.errors import StackError
from infra.postgres import server as postgres
from infra.postgres.connections import connect, create_database, drop_database
from infra.postgres.migrations import MIGRATIONS, migrate
from infra.settings import OWNER_ROLE, USER_ROLE, Settings
from infra.stack.home import prepare_home
from infra.stack.lifecycle import start_stack, stop_stack
from infra.stack.services import Service, every_service
from infra.stack.supervision import leftovers
from tests.commands import millrace
from tests.conftest import free_port
from tests.worlds.loop import with_user
from tests.worlds.rows import back

ROLES = (USER_ROLE, OWNER_ROLE, postgres.ADMINISTERS)


@pytest.fixture(scope="module")
def installation() -> Iterator[Settings]:
    """A running stack: PostgreSQL, and a process that has written into its log, its folder and the home."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-protected-"))
    settings = Settings(home=folder / "home", postgres_port=free_port())
    port = free_port()
    program = (
        "import pathlib, http.server; pathlib.Path('written.txt').write_text('an event');"
        "print('started', flush=True);"
        f"http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='127.0.0.1')"
    )
    address = f"http://127.0.0.1:{port}"
    pages = Service("pages", address, address, (sys.executable, "-c", program), port)
    database = next(service for service in every_service(settings) if service.name == "postgres")
    try:
        start_stack(settings, (database, pages))
        yield settings
    finally:
        stop_stack(settings)
        shutil.rmtree(folder)


def passwords(settings: Settings) -> dict[str, str]:
    lines = passfile(settings.home / "postgres").read_text().splitlines()
    return dict(line.split(":")[3:] for line in lines if not line.startswith("#"))  # type: ignore[misc]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("given", [{}, {"password": "postgres"}, {"password": ""}])
def test_without_the_password_nobody_is_let_in(installation: Settings, role: str, given: dict[str, str]) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"password|no encryption"):
        psycopg.connect(host="127.0.0.1", port=installation.postgres_port, user=role, dbname="millrace", **given)


def test_no_file_of_the_home_is_readable_for_others(installation: Settings) -> None:
    home = installation.home
    assert stat.S_IMODE(home.stat().st_mode) & 0o067 == 0
    if os.geteuid() == 0:  # PostgreSQL's user passes through, by a group of its own
        assert home.stat().st_gid == pwd.getpwnam(postgres.SYSTEM_USER).pw_gid
    else:
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    files = [path for path in home.rglob("*") if home / "postgres" not in path.parents]
    names = {path.name for path in files}
    assert {"written.txt", "pages.log", "postgres.log", "postgres.pgpass", "supervisord.conf"} <= names
    assert [(p.name, oct(p.stat().st_mode)) for p in files if p.stat().st_mode & 0o077] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_local_user_reads_nothing_and_is_not_let_in(installation: Settings) -> None:
    home, port = installation.home, installation.postgres_port
    attacks = [
        ["ls", str(home)],
        ["cat", str(passfile(home / "postgres"))],
        ["cat", str(home / "logs" / "pages.log")],
        ["cat", str(home / "work" / "written.txt")],
        ["ls", str(home / "postgres")],
    ]
    for attack in attacks:
        done = subprocess.run(attack, user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True)
        assert done.returncode != 0, attack
        assert "Permission denied" in done.stderr
    psql = postgres._binaries() / "psql"
    for role in ROLES:
        done = subprocess.run(
            [psql, "-w", "-h", "127.0.0.1", "-p", str(port), "-U", role, "-d", "postgres", "-c", "SELECT 1"],
            user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, cwd="/",
        )  # fmt: skip
        assert done.returncode != 0
        assert "no password supplied" in done.stderr


def test_a_password_stands_in_no_log_argument_or_address(installation: Settings) -> None:
    secrets = passwords(installation).values()
    assert len(set(secrets)) == len(ROLES)
    assert all(len(secret) >= 24 for secret in secrets)
    holder = passfile(installation.home / "postgres")
    texts = {str(path): path.read_bytes() for path in installation.home.rglob("*") if path.is_file() and path != holder}
    started = leftovers(installation.home)
    texts |= {f"arguments of {process.pid}": " ".join(process.cmdline()).encode() for process in started}
    texts |= {f"environment of {process.pid}": repr(process.environ()).encode() for process in started}
    texts["addresses"] = " ".join(str(service) for service in every_service(installation)).encode()
    assert len(started) > 3
    assert [where for where, text in texts.items() if any(secret.encode() in text for secret in secrets)] == []


@pytest.mark.parametrize(
    "attack",
    [
        "COPY items FROM PROGRAM 'id'",
        "COPY items TO PROGRAM 'cat'",
        "COPY items FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SET session_replication_role = replica",
        "ALTER ROLE current_user SUPERUSER",
        "CREATE ROLE other SUPERUSER",
        "SET ROLE millrace_owner",
        "SET ROLE postgres",
        "ALTER SYSTEM SET password_encryption = md5",
        "SELECT rolpassword FROM pg_authid",
        "CREATE FUNCTION shell(text) RETURNS int LANGUAGE c AS 'libc.so.6', 'system'",
    ],
)
def test_the_role_that_runs_is_no_superuser(guarded: str, attack: str) -> None:
    with connect(guarded, autocommit=True) as connection:
        assert connection.info.user == USER_ROLE
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFile)):
            connection.execute(attack)


RECORDS = {
    **dict.fromkeys(("evidence", "update_history", "decisions", "promotions", "holds"), "surface"),
    **dict.fromkeys(("limit_choices", "limit_trials", "canaries", "stopped_variants"), "surface"),
    "canary_looks": "word",
    "canary_ends": "reason",
    "signing_secrets": "secret",
}
"""With a column of each."""


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE {record} SET {column} = 'x'",
        "DELETE FROM {record}",
        "TRUNCATE {record} CASCADE",
        "TRUNCATE updates CASCADE",
        "DROP TABLE {record} CASCADE",
        "ALTER TABLE {record} DISABLE TRIGGER ALL",
        "ALTER TABLE {record} RENAME TO gone",
        "ALTER TABLE {record} SET SCHEMA feast",
        "ALTER TABLE {record} ALTER COLUMN {column} TYPE text USING 'x'",
        "DROP TRIGGER {record}_append_only ON {record}",
        "DROP FUNCTION refuse_change() CASCADE",
        "DROP FUNCTION require_backing() CASCADE",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER mine BEFORE INSERT ON {record} EXECUTE FUNCTION refuse_change()",
        "CREATE RULE mine AS ON INSERT TO {record} DO INSTEAD NOTHING",
        "DROP SCHEMA public CASCADE",
        "DROP OWNED BY millrace_owner",
        "INSERT INTO migrations (name) VALUES ('9999_never')",
    ],
)
def test_the_role_that_runs_cannot_touch_a_record(guarded: str, attack: str) -> None:
    with connect(guarded) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS feast")
        for record, column in RECORDS.items():
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(attack.format(record=record, column=column))


def test_the_role_that_runs_cannot_drop_the_database(guarded: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        drop_database(guarded)


@pytest.mark.parametrize("record", RECORDS)
def test_records_refuse_the_superuser_too_as_a_replica(guarded: str, record: str) -> None:
    with connect(with_user(guarded, postgres.ADMINISTERS)) as connection:
        connection.execute("SET session_replication_role = replica")
        for attack in (f"UPDATE {{}} SET {RECORDS[record]} = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), connection.transaction():
                connection.execute(attack.format(record))


def test_a_promotion_is_not_backed_by_a_temporary_table(guarded: str) -> None:
    with connect(guarded) as connection:
        rejected = back(connection, verdict="reject", action="reject")
        connection.execute(
            "CREATE TEMP TABLE decisions AS SELECT %s::bigint AS decision_id, 'feed' AS surface,"
            " %s::bigint AS update_id, 1::bigint AS evidence_id, 'promote' AS action,"
            " 'ann' AS decided_by, 'x' AS evidence_checksum",
            [rejected.decision_id, rejected.update_id],
        )
        connection.execute(
            "CREATE TEMP TABLE evidence AS SELECT 1::bigint AS evidence_id, 'feed' AS surface, %s::bigint AS update_id,"
            " 'x' AS checksum, 'promote' AS verdict",
            [rejected.update_id],
        )
        with pytest.raises(psycopg.errors.CheckViolation, match="not backed"):
            connection.execute(
                "INSERT INTO public.promotions (surface, version, artifact_uri, update_id, decision_id, learned_to)"
                " VALUES ('feed', '1', 'file:///', %s, %s, now())",
                [rejected.update_id, rejected.decision_id],
            )


def test_a_new_table_of_records_is_out_of_reach_of_the_role_that_runs(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a later migration adds: records stay with the owner, all else goes to the role that runs."""
    shutil.copytree(MIGRATIONS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "9999_later.sql").write_text(
        "CREATE TABLE verdicts (verdict_id bigint GENERATED ALWAYS AS IDENTITY, note text);"
        "CREATE TRIGGER verdicts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON verdicts"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();"
        "CREATE TABLE notes (note_id bigserial, note text) PARTITION BY LIST (note);"
        "CREATE TABLE notes_any PARTITION OF notes DEFAULT;"
        "ALTER TABLE updates ADD COLUMN later text;"
    )
    monkeypatch.setattr("infra.postgres.migrations.MIGRATIONS", tmp_path)
    assert migrate(with_user(guarded, OWNER_ROLE), user_url=guarded) == ["9999_later"]
    with connect(guarded) as connection:
        connection.execute("INSERT INTO verdicts (note) VALUES ('hold')")
        connection.execute("INSERT INTO notes (note) VALUES ('a')")
        connection.execute("DELETE FROM notes_any")
        connection.execute("DROP TABLE notes")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DROP TABLE verdicts")


def test_a_role_of_ones_own_for_migrations_in_production(postgres_server: str) -> None:
    """One role makes the tables, another, which may make no database, runs: as docs/operating.md has it."""
    names = {"owner": f"o_{os.getpid()}", "runs": f"r_{os.getpid()}"}
    with connect(postgres_server, autocommit=True) as admin:
        for name in names.values():
            admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        admin.execute(f"GRANT {names['runs']} TO {names['owner']}")
        admin.execute(f"CREATE DATABASE prod_{os.getpid()} OWNER {names['owner']}")
    at = parameters(postgres_server)
    base = f"127.0.0.1:{at['port']}/prod_{os.getpid()}"
    settings = Settings(
        database_url=f"postgresql://{names['runs']}:pw@{base}",
        database_owner_url=f"postgresql://{names['owner']}:pw@{base}",
    )
    try:
        migrate(settings.database_owner, user_url=settings.database)
        with connect(settings.database) as connection:
            connection.execute("INSERT INTO items (surface, item_id) VALUES ('feed', 'a')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("ALTER TABLE evidence DISABLE TRIGGER ALL")
    finally:
        drop_database(with_database(postgres_server, database_name(settings.database)))


def test_lost_passwords_are_made_anew_and_the_data_stay(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path(tempfile.mkdtemp(prefix="millrace-lost-"))
    data, port = home / "postgres", free_port()
    url = embedded(home, "127.0.0.1", port, USER_ROLE, "kept")
    try:
        postgres.start(data, "127.0.0.1", port)
        create_database(url)
        before = passfile(data).read_text()
        passfile(data).unlink()
        with pytest.raises(StackError, match="millrace down, then up"):
            postgres.initialise(data)
        postgres.stop(data)
        (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")  # somebody thought it easier
        postgres.start(data, "127.0.0.1", port)
        assert passfile(data).read_text() != before
        assert stat.S_IMODE(passfile(data).stat().st_mode) == 0o600
        connect(url).close()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=port, user=postgres.ADMINISTERS, dbname="postgres")
    finally:
        postgres.stop(data)
        shutil.rmtree(home)


def test_two_that_make_the_server_at_once_make_one() -> None:
    home = Path(tempfile.mkdtemp(prefix="millrace-twice-"))
    try:
        failed: list[BaseException] = []

        def make() -> None:
            try:
                postgres.initialise(home / "postgres")
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=make) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert sorted(p.name for p in home.iterdir()) == ["postgres", "postgres.lock", "postgres.pgpass"]
    finally:
        shutil.rmtree(home)


def test_a_home_that_stood_open_is_closed_and_a_shared_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    home = prepare_home(Settings(home=tmp_path / "home"))
    assert stat.S_IMODE(home.stat().st_mode) & 0o067 == 0
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(StackError, match="open to everybody"):
        prepare_home(Settings(home=shared))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_a_program_that_took_the_port_is_not_sent_the_password(tmp_path: Path) -> None:
    """A server that asks for the password in clear gets none."""
    import socket
    import struct

    home = tmp_path / "home"
    home.mkdir()
    passfile(home / "postgres").write_text(f"*:*:*:{USER_ROLE}:the-secret\n")
    passfile(home / "postgres").chmod(0o600)
    heard = b""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def pretend() -> None:
            nonlocal heard
            while True:
                client, _ = listener.accept()
                with client:
                    client.settimeout(10)
                    while (length := struct.unpack("!I", client.recv(4))[0]) == 8:  # no TLS, no GSS
                        client.recv(4)
                        client.sendall(b"N")
                    client.recv(length)
                    client.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
                    heard += client.recv(100)
                    return

        thread = threading.Thread(target=pretend)
        thread.start()
        with pytest.raises(psycopg.OperationalError, match="authentication method requirement"):
            connect(embedded(home, "127.0.0.1", port, USER_ROLE, "millrace"), timeout_s=5)
        thread.join(20)
    assert b"the-secret" not in heard


def test_status_and_errors_show_no_password(installation: Settings) -> None:
    environment = os.environ | {
        "MILLRACE_HOME": str(installation.home),
        "MILLRACE_DATABASE_URL": "postgresql://ann:s3cr%40t@127.0.0.1:1/feed",
        "MILLRACE_MLFLOW_TRACKING_URI": "http://bob:hush@127.0.0.1:1",
        "MILLRACE_PREFECT_API_URL": "http://eve:mum@127.0.0.1:1/api",
    }
    for command in (["status"], ["status", "--json"], ["user", "list"], ["up", "--detach"]):
        done = millrace(*command, environment=environment)
        for secret in ("s3cr", "hush", "mum"):
            assert secret not in done.stdout + done.stderr, command
    for broken in (
        "postgresql://ann:s3cr/t@127.0.0.1/feed",
        "postgresql://ann:s3cr%t@h/feed",
        "postgresql://ann:s3cr@h",
    ):
        done = millrace("status", environment=environment | {"MILLRACE_DATABASE_URL": broken})
        assert done.returncode == 2
        assert re.match(r"millrace: MILLRACE_DATABASE_URL=\*\*\*: [^\n]+\n$", done.stderr), done.stderr
        assert "s3cr" not in done.stderr
