"""What a drill found, as a table for a terminal and as JSON."""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from flows.drill.clean import NIGHT, WEEKEND, Clean
from flows.drill.drill import Drilled, Planted

if TYPE_CHECKING:
    from rich.console import RenderableType

IN_WORDS = {NIGHT: "At night", WEEKEND: "At weekends"}


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
        "not_planted": [
            {"fault": found.fault, "strength": found.strength, "reason": found.reason} for found in done.not_planted
        ],
        "clean": [
            {
                "every": clean.every,
                "windows": clean.windows,
                "held": clean.held,
                "thin": clean.thin,
                "rejected": clean.rejected,
                "parts": {name: {"windows": part.windows, "held": part.held} for name, part in clean.parts.items()},
                "stopped": [
                    {
                        "window": one.window,
                        "verdict": one.verdict,
                        "codes": list(one.codes),
                        "reasons": list(one.reasons),
                        "thin": one.thin,
                    }
                    for one in clean.stopped
                ],
            }
            for clean in done.clean
        ],
    }


def rendered(done: Drilled) -> "RenderableType":
    """A row a fault, then what could not be planted, then what became of clean windows, and why. Where nothing could be
    planted for one reason, that alone."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    faults = Table("planted", "strength", "verdict", "by", box=None, pad_edge=False)
    for found in done.planted:
        colour = "green" if found.caught and found.named else "yellow" if found.caught else "red"
        faults.add_row(found.fault, found.strength, f"[{colour}]{outcome(found)}[/]", escape(_by(found)))
    reasons = {lacking.reason for lacking in done.not_planted}
    if not done.planted and len(reasons) == 1:
        return Group(f"No fault could be planted. {escape(reasons.pop())}", *chain(*map(_lines, done.clean)))
    for lacking in done.not_planted:
        faults.add_row(lacking.fault, lacking.strength or "any", "not planted", escape(lacking.reason))
    bad = [found for found in done.planted if not found.sound]
    sound = [found for found in done.planted if found.sound]
    lines = [f"{sum(found.caught for found in bad)} of {len(bad)} planted faults are caught."]
    if sound:
        lines.append(f"{sum(found.caught for found in sound)} of {len(sound)} that are sound pass.")
    for clean in done.clean:
        lines += _lines(clean)
        lines += [f"  {one.window}: {one.verdict}: {escape(one.reasons[0])}" for one in clean.stopped]
    return Group(faults, "", *lines)


def _lines(clean: Clean) -> Iterator[str]:
    """What became of clean windows of one cadence; by night and at weekends a line each."""
    thin = f" ({clean.thin} of them too thin to judge by)" if clean.thin else ""
    windows = f"Of {clean.windows:,} clean windows, one every {clean.every}"
    yield f"{windows}, {clean.held} held{thin}, {clean.rejected} rejected."
    for name, part in clean.parts.items():
        yield f"  {IN_WORDS[name]}: {part.windows:,} windows, {part.held} held but for thinness."


def outcome(found: Planted) -> str:
    """``reject``, ``hold, not named``, ``promote: slips through``; of what is sound ``passes``, or that it should."""
    if found.sound:
        word = {"hold": "held", "reject": "rejected"}.get(found.verdict)
        return "passes" if word is None else f"{word}, and should pass"
    if not found.caught:
        return f"{found.verdict}: slips through" if found.verdict == "promote" else f"{found.verdict}, not as it should"
    return found.verdict if found.named else f"{found.verdict}, not named"


def _by(found: Planted) -> str:
    """The findings that decided."""
    return ", ".join(found.codes[:2]) if found.verdict != "promote" else ""
