"""The table a bench ends in: what was measured, beside a peer's figure and the goal, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Row:
    """One measured line: a figure (or a word such as a verdict), the peer's figure, and the goal it is held to.

    `met` is None where there is no goal: such a row informs and cannot fail a bench.
    """

    what: str
    ours: float | str | None
    unit: str = ""
    peer: str | None = None
    theirs: float | None = None
    goal: str | None = None
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        """`ours` / `theirs`; None unless both are numbers and the peer's is not zero."""
        if isinstance(self.ours, str) or self.ours is None or not self.theirs:
            return None
        return float(self.ours) / float(self.theirs)

    def as_json(self) -> dict[str, object]:
        """The row as plain values, the ratio included."""
        return {
            "what": self.what,
            "ours": self.ours,
            "unit": self.unit,
            "peer": self.peer,
            "theirs": self.theirs,
            "ratio": self.ratio,
            "goal": self.goal,
            "met": self.met,
        }


@dataclass(frozen=True)
class Table:
    """The rows of one bench and the machine they were measured on (`machine`: plain facts, such as cores)."""

    name: str
    machine: Mapping[str, object]
    rows: Sequence[Row]

    @property
    def missed(self) -> list[Row]:
        """The rows whose goal was not met."""
        return [row for row in self.rows if row.met is False]

    def as_json(self) -> dict[str, object]:
        """`{"name", "machine", "rows"}` of plain values."""
        return {"name": self.name, "machine": dict(self.machine), "rows": [row.as_json() for row in self.rows]}

    def text(self) -> str:
        """The table as one line of JSON."""
        return json.dumps(self.as_json(), allow_nan=False)

    def rendered(self) -> RichTable:
        """The table for a terminal: figures to the right, a missed goal in words and not in colour alone."""
        from rich.table import Table as RichTable
        from rich.text import Text

        drawn = RichTable(title=f"{self.name} on {', '.join(f'{k} {v}' for k, v in self.machine.items())}")
        peers = any(row.peer is not None for row in self.rows)
        drawn.add_column("what")
        drawn.add_column("ours", justify="right")
        if peers:
            drawn.add_column("peer", justify="right")
            drawn.add_column("ratio", justify="right")
        drawn.add_column("goal")
        drawn.add_column("met")
        for row in self.rows:
            cells = [Text(row.what), Text(figure(row.ours, row.unit))]
            if peers:
                theirs = "" if row.peer is None else f"{row.peer} {figure(row.theirs, row.unit)}"
                cells += [Text(theirs), Text("" if row.ratio is None else f"{row.ratio:.2f}")]
            met = {None: Text(""), True: Text("yes", style="green"), False: Text("MISSED", style="bold red")}[row.met]
            drawn.add_row(*cells, Text(row.goal or ""), met)
        return drawn


def machine() -> dict[str, object]:
    """Facts of this machine that a figure depends on: cores this process may use, the processor, versions."""
    import os
    import platform

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "processor": _processor(), "python": platform.python_version()}


def _processor() -> str:
    """The processor's name where the system has it, else its architecture."""
    import platform
    from pathlib import Path

    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def figure(value: float | str | None, unit: str) -> str:
    """One figure with its unit: four significant digits, thousands grouped, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    shown = f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.4g}"
    return f"{shown} {unit}".strip()
