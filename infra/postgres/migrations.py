"""Migrations: the database's tables, step by step, and which role owns them."""

from pathlib import Path

import psycopg
from psycopg import sql

from infra.addresses import SESSION, database_name
from infra.errors import DatabaseOfAnotherVersion, SessionRefused
from infra.postgres.connections import connect

MIGRATIONS = Path(__file__).parents[1] / "migrations"

FIXED = {"session_replication_role": "origin", "transaction_timeout": "0", "server_encoding": "UTF8"}
"""Settings that no session may have otherwise and that we cannot pin: by right, or since an older server lacks them."""

READ_SETTINGS = "SELECT lower(name), setting, source FROM pg_settings WHERE lower(name) = ANY(%s)"

# A record is a table that refuses change. It stays with the role that migrates, so that the role of the processes can
# neither switch its triggers off nor drop it; all else goes to that role, which makes partitions of it.
HAND_OVER = """
DO $$
DECLARE
    relation record;
    user_role text := current_setting('millrace.user_role');
BEGIN
    FOR relation IN
        SELECT c.oid::regclass AS name, c.relkind AS kind, c.relname = 'migrations' OR EXISTS (
                   SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                   WHERE t.tgrelid = c.oid AND p.proname = 'refuse_change') AS guarded
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = current_user::regrole
          AND (c.relkind IN ('r', 'p') OR c.relkind = 'S' AND NOT EXISTS (  -- but those of a table's own columns
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('i', 'a')))
    LOOP
        IF relation.guarded THEN
            EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', relation.name, user_role);
            EXECUTE format('GRANT SELECT ON %s TO %I', relation.name, user_role);
            IF relation.name <> 'migrations'::regclass THEN
                EXECUTE format('GRANT INSERT ON %s TO %I', relation.name, user_role);
            END IF;
        ELSE
            EXECUTE format('ALTER TABLE %s OWNER TO %I', relation.name, user_role);
        END IF;
    END LOOP;
END $$
"""


def migrate(url: str, *, user_url: str | None = None) -> list[str]:
    """Apply the migrations the database has not seen, in order, each in its own transaction.

    ``user_url``: the address of the role that will use the tables, where that is another than ``url``'s: it gets all
    but the records, which it may read and append to. Returns the names of those applied. Safe to call from several
    processes at once. Raises SessionRefused where a session would not be what it must be, and DatabaseOfAnotherVersion
    where the database has seen migrations that are not ours.
    """
    applied: list[str] = []
    with connect(url, autocommit=True) as connection:
        check_session(connection)
        connection.execute("SELECT pg_advisory_lock(hashtext('millrace.migrations'))")
        if connection.execute("SELECT to_regclass('public.migrations') IS NULL").fetchone() == (True,):
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        seen = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        files = sorted(MIGRATIONS.glob("*.sql"))
        if unknown := seen - {file.stem for file in files}:
            raise DatabaseOfAnotherVersion(
                f"the database {database_name(url)} has migrations that this Millrace does not know"
                f" ({', '.join(sorted(unknown))}): a newer one has used it; run that one, or name another database"
            )
        for file in files:
            if file.stem in seen:
                continue
            with connection.transaction():
                connection.execute(file.read_text())
                connection.execute("INSERT INTO migrations (name) VALUES (%s)", [file.stem])
            applied.append(file.stem)
        if user_url is not None:
            with connect(user_url) as user:
                check_session(user)
                _hand_over(connection, user.info.user)
    return applied


def check_session(connection: psycopg.Connection) -> None:
    """Raise SessionRefused where the session is not what :data:`SESSION` asks, or acknowledges what it may lose."""
    wanted = {name: value.replace(",", ", ") for name, value in SESSION.items()} | FIXED
    rows = connection.execute(READ_SETTINGS, [[*wanted, "synchronous_commit"]]).fetchall()
    for name, setting, source in rows:
        right = setting != "off" if name == "synchronous_commit" else setting == wanted[name]
        if not right:
            ought = "on" if name == "synchronous_commit" else wanted[name]
            where = {"database": "by ALTER DATABASE", "user": "by ALTER ROLE", "database user": "by ALTER ROLE"}
            raise SessionRefused(
                f"the database {connection.info.dbname} runs the sessions of {connection.info.user} with {name} ="
                f" {setting} (set {where.get(source, f'by {source}')}), which must be {ought}: reset it there; a"
                " connection pool in between must pass on the parameter 'options'"
            )


def _hand_over(connection: psycopg.Connection, role: str) -> None:
    if role == connection.info.user:
        return
    with connection.transaction():
        connection.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                sql.Identifier(connection.info.dbname), sql.Identifier(role)
            )
        )
        connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(sql.Identifier(role)))
        connection.execute("SELECT set_config('millrace.user_role', %s, true)", [role])
        connection.execute(HAND_OVER)
