"""The files in which surfaces are declared: read, checked as a whole, each on its own.

    files = read_folder(settings.surfaces)
    files.surfaces["shop"].surface          # what surfaces/shop.py declares
    files.broken                            # and why others declare nothing

A file holds one surface, called ``SURFACE``. It is the team's program and may import what it likes; it is run anew each
time it is read. Those that come with Millrace (``flows/surfaces``) are examples: commands know them by name where the
team's folder has none of that name, and ``millrace surface add`` copies one there.
"""

import difflib
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType, TracebackType

from features.declare.views import RESERVED_VIEWS
from flows.surface import Surface
from infra.errors import MillraceError

EXAMPLES = Path(__file__).parent / "surfaces"

CALLED = "SURFACE"
"""What a file calls its surface."""

TAKE_AN_EXAMPLE = "begin with an example: millrace surface add feed"
"""What to do where nothing is declared."""


class BadSurface(MillraceError):
    """A file that declares no surface: the message names it, its line, what is wrong and what to do."""

    exit_code = 2


@dataclass(frozen=True)
class SurfaceFile:
    """A surface and the file that declares it."""

    surface: Surface
    path: Path
    source: bytes = field(repr=False)
    version: str
    """A checksum of the file: a surface that runs by another is not the one declared there."""


@dataclass(frozen=True)
class SurfaceFiles:
    """What a folder holds."""

    surfaces: Mapping[str, SurfaceFile] = field(default_factory=dict)
    """By name, in the order of the names."""

    broken: Mapping[Path, str] = field(default_factory=dict)
    """Why a file declares nothing."""


def read_folder(folder: Path) -> SurfaceFiles:
    """Every file of the folder that ends in ``.py``, but those that begin with ``_``; a folder that is not there is
    empty."""
    found, broken = dict[str, SurfaceFile](), dict[Path, str]()
    try:
        paths = sorted(folder.glob("*.py"))
    except FileNotFoundError:  # cleared away while it was listed
        paths = []
    for path in paths:
        if path.name.startswith("_"):
            continue
        try:
            one = read_file(path)
        except BadSurface as error:
            broken[path] = str(error)
            continue
        clash = next((why for other in found.values() if (why := _clash(one.surface, other))), None)
        if clash is None:
            found[one.surface.name] = one
        else:
            broken[path] = f"{path}: {clash}"
    return SurfaceFiles({name: found[name] for name in sorted(found)}, broken)


def _clash(surface: Surface, other: SurfaceFile) -> str | None:
    """Why both cannot be; None where they can."""
    if surface.name == other.surface.name:
        return f"the surface {surface.name!r} is declared in {other.path} already; rename one"
    shared = _feast_names(surface) & _feast_names(other.surface)
    if shared:
        return f"name {surface.name!r}: {other.path} has a view that Feast calls {min(shared)} too; rename one"
    return None


def _feast_names(surface: Surface) -> set[str]:
    return {f"{surface.name}_{view}" for view in (*RESERVED_VIEWS, *(view.name for view in surface.views))}


def read_file(path: Path) -> SurfaceFile:
    """The surface that a file declares. Raises BadSurface."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise BadSurface(f"{path} cannot be read ({error.strerror}); see who may read it") from error
    module = ModuleType(f"surface_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 - it is the team's own program
    except (Exception, SystemExit) as error:  # whatever the team's program does, the others go on
        raise BadSurface(_explained(path, error)) from error
    declared = vars(module).get(CALLED)
    if not isinstance(declared, Surface):
        what = "declares no surface" if declared is None else f"has a {CALLED} that is {type(declared).__name__}"
        raise BadSurface(f"{path} {what}: write {CALLED} = Surface(name=..., features=...)")
    return SurfaceFile(declared, path, source, sha256(source).hexdigest()[:12])


def find(folder: Path, name: str) -> SurfaceFile:
    """The surface of that name, of the team's folder or else of the examples. Raises BadSurface."""
    own = read_folder(folder)
    if name in own.surfaces:
        return own.surfaces[name]
    named = next((why for path, why in own.broken.items() if path.stem == name), None)
    if named is not None:
        raise BadSurface(named)
    examples = read_folder(EXAMPLES).surfaces
    if name in examples:
        return examples[name]
    there = ", ".join(own.surfaces) or "nothing yet"
    raise BadSurface(
        f"surface {name!r}: {folder} declares {there}, and the examples are {', '.join(examples)}; {TAKE_AN_EXAMPLE}"
    )


def add(folder: Path, name: str) -> tuple[SurfaceFile, bool]:
    """The surface of that name in the team's folder, where an example of it is written first if it has none; and
    whether it was. Raises BadSurface."""
    found = find(folder, name)
    if found.path.parent != EXAMPLES:
        return found, False
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / found.path.name
    path.write_bytes(found.path.read_bytes())
    return read_file(path), True


def _explained(path: Path, error: Exception | SystemExit) -> str:
    """Where the file goes wrong, why, and what to do."""
    if isinstance(error, SyntaxError):
        return f"{path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"{path}, line {lines[-1]}" if lines else str(path)
    if isinstance(error, TypeError):
        return f"{where}: {_of_call(error)}"
    if isinstance(error, ValueError):
        return f"{where}: {error}"
    return f"{where}: {type(error).__name__}: {error}"


UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")


def _of_call(error: TypeError) -> str:
    """A call with a field that is not there, with those that are."""
    found = UNEXPECTED.search(str(error))
    called = None if found is None else _called(found[1], error.__traceback__)
    if found is None or called is None:
        return str(error)
    known = [each.name for each in fields(called) if each.init]
    near = difflib.get_close_matches(found[2], known, 1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{found[1]} has no field {found[2]!r}; {guess}it has {', '.join(known)}"


def _called(name: str, trace: TracebackType | None) -> type | None:
    """The dataclass of that name, as the file that failed knows it."""
    while trace is not None:
        known = trace.tb_frame.f_globals.get(name)
        if isinstance(known, type) and is_dataclass(known):
            return known
        trace = trace.tb_next
    return None
