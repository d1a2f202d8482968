"""numba, with a cache folder: ``from features.compiled import numba``.

numba caches what it compiled beside the source or in the user's cache, and refuses to compile where it can write to
neither, as with a read-only installation and a user without a home.
"""

import tempfile
from os import getuid
from pathlib import Path

import numba

__all__ = ["numba"]


def _probe() -> None:
    """To see whether numba finds a folder for its cache."""


def private_folder() -> Path:
    """A folder that only this user writes to: what lies in it is unpickled."""
    known = Path(tempfile.gettempdir()) / f"millrace-numba-{getuid()}"
    try:
        known.mkdir(mode=0o700, exist_ok=True)
        found = known.lstat()
        if found.st_uid == getuid() and found.st_mode & 0o170077 == 0o040000:
            return known
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="millrace-numba-"))


def _choose_cache() -> None:
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError:  # "no locator available"
        numba.config.CACHE_DIR = str(private_folder())  # type: ignore[attr-defined]  # set as numba is imported


_choose_cache()  # here, since functions are compiled as their modules are imported
