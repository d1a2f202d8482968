"""What the benches measured: ``RESULTS.md``, a section a bench, each with its date, machine, command and plots.

    record(Path("benchmarks"), table, command="python -m benchmarks gate", at=datetime.now(UTC))

A bench rewrites its own section and leaves the others as they are. Its plots are the pictures in the same folder whose
names start with the bench's.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.table import Row, Table, figure

FILE = "RESULTS.md"

PREFACE = """# Measured

Each section is written by the command it names, and says when and on which machine. `ratio` is ours over the peer's,
both measured in the same run.
"""

SECTION = re.compile(r"^## (?P<name>\S+)\n", re.MULTILINE)


def record(folder: Path, table: Table, *, command: str, at: datetime) -> Path:
    """Write the bench's section into the folder's file and return that; it is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    sections = parsed(path.read_text(encoding="utf-8")) if path.exists() else {}
    pictures = sorted(picture.name for picture in folder.glob(f"{table.name}-*.svg"))
    sections[table.name] = section(table, pictures, command=command, at=at)
    parts = [PREFACE, *(f"## {name}\n\n{body}\n" for name, body in sections.items())]
    written = path.with_suffix(".md.new")
    written.write_text("\n".join(parts), encoding="utf-8")
    written.replace(path)
    return path


def parsed(text: str) -> dict[str, str]:
    """The bodies of the sections there are, by bench, in their order."""
    pieces = SECTION.split(text)[1:]
    return {name: body.strip("\n") for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


def section(table: Table, pictures: Sequence[str], *, command: str, at: datetime) -> str:
    """A bench's section without its heading."""
    machine = ", ".join(f"{name} {value}" for name, value in table.machine.items())
    peers = any(row.peer is not None for row in table.rows)
    head = ["what", "ours", *(["peer", "ratio"] if peers else []), "goal", "met"]
    lines = [
        f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC. {machine}.",
        "",
        "```console",
        command,
        "```",
        "",
        _line(head),
        _line(["---", "---:", *(["---", "---:"] if peers else []), "---", "---"]),
        *(_line(cells(row, peers)) for row in table.rows),
    ]
    for name in pictures:
        lines += ["", f"![{Path(name).stem.replace('-', ', ', 1)}]({name})"]
    return "\n".join(lines)


def cells(row: Row, peers: bool) -> list[str]:
    """A row of a table, as texts."""
    theirs = [] if row.peer is None else [row.peer, figure(row.theirs, row.unit)]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {None: "", True: "yes", False: "**missed**"}[row.met]
    return [row.what, figure(row.ours, row.unit), *([" ".join(theirs), ratio] if peers else []), row.goal or "", met]


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
