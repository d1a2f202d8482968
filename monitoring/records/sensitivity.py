"""The table ``limit_trials``: what replaying a log and planting faults gave (`monitoring.gate.sensitivity.Trial`).
Written once, never changed; the newest of a surface is shown.

JSON has no infinity: a window that no limit lets pass needs ``null``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from monitoring.gate.sensitivity import PastNeeds, PlantedFault, Strength, Trial


@dataclass(frozen=True)
class WrittenTrial:
    """A trial, and when it was made."""

    trial: Trial
    measured_at: datetime


def write(connection: psycopg.Connection, surface: str, trial: Trial) -> None:
    """Add a trial, in the caller's transaction."""
    connection.execute(
        "INSERT INTO limit_trials (surface, log, measured) VALUES (%s, %s, %s)",
        [surface, trial.log, Jsonb(as_json(trial))],
    )


def newest(connection: psycopg.Connection, surface: str) -> WrittenTrial | None:
    """The last trial of a surface."""
    found = connection.execute(
        "SELECT log, measured, measured_at FROM limit_trials WHERE surface = %s ORDER BY trial_id DESC LIMIT 1",
        [surface],
    ).fetchone()
    if found is None:
        return None
    log, measured, measured_at = found
    return WrittenTrial(from_json(log, measured), measured_at)


def as_json(trial: Trial) -> dict[str, Any]:
    """A trial but for its log's name."""
    return {
        "windows": [
            {"end": window.end.isoformat(), "state": window.state, "needs": _finite(window.needs)}
            for window in trial.windows
        ],
        "scene": _finite(trial.scene),
        "faults": [
            {
                "fault": fault.name,
                "before": None if fault.before is None else _finite(fault.before),
                "strengths": [{"strength": step.words, "needs": _finite(step.needs)} for step in fault.strengths],
            }
            for fault in trial.faults
        ],
    }


def from_json(log: str, measured: Mapping[str, Any]) -> Trial:
    """The same back."""
    return Trial(
        log,
        tuple(
            PastNeeds(datetime.fromisoformat(window["end"]), _known(window["needs"]), state=window["state"])
            for window in measured["windows"]
        ),
        _known(measured["scene"]),
        tuple(
            PlantedFault(
                fault["fault"],
                tuple(Strength(step["strength"], _known(step["needs"])) for step in fault["strengths"]),
                None if fault["before"] is None else _known(fault["before"]),
            )
            for fault in measured["faults"]
        ),
    )


def _finite(needs: Mapping[str, float]) -> dict[str, float | None]:
    return {code: need if math.isfinite(need) else None for code, need in needs.items() if not math.isnan(need)}


def _known(needs: Mapping[str, float | None]) -> dict[str, float]:
    return {code: math.inf if need is None else need for code, need in needs.items()}
