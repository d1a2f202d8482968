"""What a drill found, as a table for a terminal and as JSON."""

from typing import TYPE_CHECKING, Any

from flows.drill.drill import Drilled, Planted

if TYPE_CHECKING:
    from rich.console import RenderableType


def as_json(done: Drilled) -> dict[str, Any]:
    """For programs."""
    return {
        "log": done.log,
        "passed": done.passed,
        "faults": [
            {
                "fault": found.fault,
                "strength": found.strength,
                "verdict": found.verdict,
                "expected": sorted(found.expected),
                "caught": found.caught,
                "named": found.named,
                "codes": list(found.codes),
                "reasons": list(found.reasons),
            }
            for found in done.planted
        ],
        "clean": [
            {
                "every": clean.every,
                "windows": clean.windows,
                "held": clean.held,
                "rejected": clean.rejected,
                "stopped": [
                    {
                        "window": one.window,
                        "verdict": one.verdict,
                        "codes": list(one.codes),
                        "reasons": list(one.reasons),
                    }
                    for one in clean.stopped
                ],
            }
            for clean in done.clean
        ],
    }


def rendered(done: Drilled) -> "RenderableType":
    """A row a fault, then what became of clean windows, and why."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    faults = Table("planted", "strength", "verdict", "by", box=None, pad_edge=False)
    for found in done.planted:
        colour = "green" if found.caught and found.named else "yellow" if found.caught else "red"
        faults.add_row(found.fault, found.strength, f"[{colour}]{outcome(found)}[/]", escape(_by(found)))
    caught = sum(found.caught for found in done.planted)
    lines = [f"{caught} of {len(done.planted)} planted faults are caught."]
    for clean in done.clean:
        lines.append(
            f"Of {clean.windows:,} clean windows of an {clean.every}, {clean.held} held, {clean.rejected} rejected."
            if clean.every == "hour"
            else f"Of {clean.windows:,} clean windows of {clean.every}, {clean.held} held, {clean.rejected} rejected."
        )
        lines += [f"  {one.window}: {one.verdict}: {escape(one.reasons[0])}" for one in clean.stopped]
    return Group(faults, "", *lines)


def outcome(found: Planted) -> str:
    """``reject``, ``hold, not named``, ``promote: slips through``."""
    if not found.caught:
        return f"{found.verdict}: slips through" if found.verdict == "promote" else f"{found.verdict}, not as it should"
    return found.verdict if found.named else f"{found.verdict}, not named"


def _by(found: Planted) -> str:
    """The findings that decided."""
    return ", ".join(found.codes[:2]) if found.verdict != "promote" else ""
