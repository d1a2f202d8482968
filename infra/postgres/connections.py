"""PostgreSQL: connections, databases, migrations."""

from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from infra.addresses import SESSION, conninfo, database_name, with_database
from infra.errors import DatabaseOfAnotherVersion, SessionRefused

MIGRATIONS = Path(__file__).parents[1] / "migrations"

FIXED = {"session_replication_role": "origin", "transaction_timeout": "0", "server_encoding": "UTF8"}
"""Settings that no session may have otherwise and that we cannot pin: by right, or since an older server lacks them."""

READ_SETTINGS = "SELECT lower(name), setting, source FROM pg_settings WHERE lower(name) = ANY(%s)"

# A record is a table that refuses change. It stays with the role that migrates, so that the role that runs can neither
# switch its triggers off nor drop it; all else goes to the role that runs, which makes partitions of it.
HAND_OVER = """
DO $$
DECLARE
    relation record;
    runs text := current_setting('millrace.runs');
BEGIN
    FOR relation IN
        SELECT c.oid::regclass AS name, c.relkind AS kind, c.relname = 'migrations' OR EXISTS (
                   SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                   WHERE t.tgrelid = c.oid AND p.proname = 'refuse_change') AS kept
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = current_user::regrole
          AND (c.relkind IN ('r', 'p') OR c.relkind = 'S' AND NOT EXISTS (  -- but those of a table's own columns
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('i', 'a')))
    LOOP
        IF relation.kept THEN
            EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', relation.name, runs);
            EXECUTE format('GRANT SELECT ON %s TO %I', relation.name, runs);
            IF relation.name <> 'migrations'::regclass THEN
                EXECUTE format('GRANT INSERT ON %s TO %I', relation.name, runs);
            END IF;
        ELSE
            EXECUTE format('ALTER TABLE %s OWNER TO %I', relation.name, runs);
        END IF;
    END LOOP;
END $$
"""

DISCONNECT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' AND pg_has_role(usesysid, 'USAGE')
"""

TRANSIENT = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""What the same transaction, tried again, may not meet."""

LACKING = (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory, psycopg.errors.ConfigurationLimitExceeded)
"""What the server lacks while it answers: room on its disk, memory, locks."""


def connect(url: str, *, autocommit: bool = False, timeout_s: float | None = None) -> psycopg.Connection:
    """A connection whose session runs under :data:`SESSION`, whatever a role, a database or the address sets.

    Raises psycopg.OperationalError when there is none to be had, within ``timeout_s`` (whole seconds, at least 2).
    """
    timeout = None if timeout_s is None else max(2, round(timeout_s))
    return psycopg.connect(conninfo(url), autocommit=autocommit, connect_timeout=timeout)


def explain(error: BaseException) -> str:
    """What a database error is and what to do, in one line: that the server does not answer is said of nothing else."""
    message = " ".join(str(error).split())
    if isinstance(error, psycopg.errors.OutOfMemory) and "max_locks_per_transaction" in message:
        return (
            f"the database is out of locks ({message}); drop old partitions with MILLRACE_RETENTION_DAYS, or raise"
            " max_locks_per_transaction on the server"
        )
    if isinstance(error, psycopg.errors.DiskFull):
        return f"the database's disk is full ({message}); make room there"
    if isinstance(error, LACKING):
        return f"the database lacks memory or is at a limit ({message}); see its log"
    if isinstance(error, TRANSIENT):
        return f"the database undid a transaction that another one blocked ({message}); try again"
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return f"the database did not get to it in time ({message}); look at what else it is doing"
    if is_absent(error):
        remedy = "start the stack with millrace up, or check MILLRACE_DATABASE_URL"
        return f"the database does not answer ({message}); {remedy}"
    return f"the database refused ({message})"


def is_absent(error: BaseException) -> bool:
    """Whether there is no connection to be had, or it was lost: libpq gives no code of an error of its own."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P")) or error.sqlstate == "53300"


def create_database(url: str) -> bool:
    """Create the database that ``url`` names; False when it is already there."""
    name = database_name(url)
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return found is None


def drop_database(url: str) -> None:
    """Drop the database that ``url`` names, with whoever is still connected to it."""
    name = database_name(url)
    with connect(with_database(url, "postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            return
        # Not WITH (FORCE): while autovacuum is at work there, that is allowed to superusers alone.
        with suppress(psycopg.errors.InvalidCatalogName):  # another was quicker
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
            connection.execute(DISCONNECT, [name])
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def migrate(url: str, *, runs_as: str | None = None) -> list[str]:
    """Apply the migrations the database has not seen, in order, each in its own transaction.

    ``runs_as``: the address of the role that will use the tables, where that is another than ``url``'s: it gets all
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
        if runs_as is not None:
            with connect(runs_as) as user:
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
        connection.execute("SELECT set_config('millrace.runs', %s, true)", [role])
        connection.execute(HAND_OVER)
