"""The home of an installation: the folder of the embedded stack's state, its owner's alone."""

import contextlib
import fcntl
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from infra.errors import StackError
from infra.postgres import server as postgres
from infra.settings import Settings
from infra.stack import begin

LOCK_FILE = "up.lock"
"""The file that keeps two starts or stops of one home apart."""


def expect_home(settings: Settings) -> Path:
    """The home's absolute path. Raises StackError where another user's, or no folder, is in its place."""
    home = settings.home.resolve()
    try:
        found = home.stat()
    except (FileNotFoundError, NotADirectoryError):
        return home
    except OSError as error:
        raise StackError(f"MILLRACE_HOME={home} cannot be used: {error.strerror}; name a folder of yours") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StackError(f"MILLRACE_HOME={home} is no folder; name another, or move away what is there")
    if os.geteuid() not in (0, found.st_uid):
        raise StackError(
            f"MILLRACE_HOME={home} belongs to {_user(found.st_uid)}, and you are {_user(os.geteuid())};"
            " run this as its owner, or name a folder of yours"
        )
    return home


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def prepare_home(settings: Settings) -> Path:
    """Make the folders of the home; return its absolute path. Raises StackError where they cannot be made."""
    home = expect_home(settings)
    try:
        for folder in (home, home / "logs", home / "work", home / "artifacts", begin.run_folder(home)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_others(home)
        (home / LOCK_FILE).touch(mode=0o600)
    except OSError as error:
        raise StackError(
            f"MILLRACE_HOME={home} cannot be used: {error.strerror} ({error.filename}); name a folder that you own"
        ) from error
    return home


def _close_to_others(home: Path) -> None:
    """Keep others out of the home: databases, logs, the journal and configuration are its owner's business.

    Root's PostgreSQL runs as another user, whose group may pass through. Raises StackError where the folder is shared.
    """
    mode = stat.S_IMODE(home.stat().st_mode)
    if mode & stat.S_IWOTH:
        raise StackError(f"MILLRACE_HOME={home} is open to everybody; name a folder of its own")
    passing = stat.S_IXGRP if postgres.may_pass(home) else 0
    if mode & 0o077 & ~passing:
        home.chmod(mode & (0o700 | passing))


@contextlib.contextmanager
def lock(home: Path) -> Iterator[None]:
    """Keep two starts or stops of one home apart; freed by the system however the holder ends."""
    try:
        opened = (home / LOCK_FILE).open("w")
    except OSError as error:
        raise StackError(f"MILLRACE_HOME={home} cannot be used: {error.strerror} ({error.filename})") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"another millrace up or down is at work in {home}; wait for it to end") from error
        yield
