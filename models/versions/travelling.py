"""The code that a registered version brings along, so that it is loaded where Millrace is not installed.

    package = write_code(Path("mlflow_ranker.py"), to)      # `to/<package>/models/examples.py` and so on

It is a copy of the modules that an entry file imports, all the way down, below a package of their own. Their names
would meet others where the version is loaded: many a project has a folder ``models`` or ``features``.
"""

import ast
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]

OURS = re.compile(r"^(\s*from )((?:features|models|infra)[.\w]*)(?= import )", re.MULTILINE)


def write_code(entry: Path, to: Path) -> str:
    """Write the package and, beside it, ``entry`` as it is with the package's imports. Returns the package's name,
    which is another for other code: two versions in one process each have their own."""
    modules = {path.relative_to(ROOT): path.read_text() for path in sorted(_needed(entry))}
    digest = sha256("".join(modules.values()).encode()).hexdigest()[:8]
    package = f"millrace_ranker_{digest}"
    for place, text in modules.items():
        written = to / package / place
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(_renamed(text, package))
    (to / package / "__init__.py").touch()
    (to / entry.name).write_text(_renamed(entry.read_text(), package))
    return package


def _renamed(text: str, package: str) -> str:
    return OURS.sub(rf"\g<1>{package}.\g<2>", text)


def _needed(entry: Path) -> set[Path]:
    """The files of the modules, and of the packages they lie in, that ``entry`` needs."""
    found, left = set[Path](), [entry]
    while left:
        new = {file for module in _imported(left.pop()) for file in _files(module)} - found
        found |= new
        left.extend(new)
    return found


def _files(module: str) -> Iterator[Path]:
    """Of a module and the packages around it."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:depth])
        yield place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _imported(file: Path) -> Iterator[str]:
    """Our modules that a file imports as it runs."""
    tree = ast.parse(file.read_text())
    checked = {
        id(node)
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None or id(node) in checked:
            continue
        if node.module.partition(".")[0] in ("features", "models", "infra"):
            yield node.module
            for name in node.names:  # which may be a module itself
                if ROOT.joinpath(*node.module.split("."), f"{name.name}.py").exists():
                    yield f"{node.module}.{name.name}"
