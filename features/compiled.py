"""numba, with a cache folder: ``from features.compiled import numba``.

numba keeps what it compiled for as long as the file of the function stays as it is, though another function that was
compiled into it may have changed; a server would then read its features by one formula and the fold by another. So the
cache of every version of the compiled code is a folder of its own: beside the source, or where that is not writable, in
the temporary folder.
"""

import tempfile
from hashlib import sha256
from os import W_OK, access, getuid
from pathlib import Path

import numba

__all__ = ["numba"]

COMPILED = b"numba.njit"
"""Is in each file that has compiled code."""


def version(*folders: Path) -> str:
    """A checksum of all files below these folders that have compiled code, and of numba's version."""
    found = sha256(numba.__version__.encode())
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        source = path.read_bytes()
        if COMPILED in source:
            found.update(path.name.encode() + b"\0" + sha256(source).digest())
    return found.hexdigest()[:12]


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


def cache_folder(root: Path) -> Path:
    """Where numba keeps what it compiled of the code below ``root``."""
    beside = root / "features" / "__pycache__"
    folder = beside if access(beside if beside.exists() else beside.parent, W_OK) else private_folder()
    return folder / f"compiled-{version(root / 'features', root / 'models')}"


# Here, since functions are compiled as their modules are imported.
numba.config.CACHE_DIR = str(cache_folder(Path(__file__).parent.parent))  # type: ignore[attr-defined]
