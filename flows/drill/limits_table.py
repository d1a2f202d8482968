"""What a surface's limits do on a log, as lines and a table for a terminal and as JSON."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.drill.sensitivity import Sensitivity
from monitoring.checks.limits import SMALLEST
from monitoring.desk.limits_shown import number, smallest
from monitoring.desk.words import span
from monitoring.gate.sensitivity import Tradeoff

if TYPE_CHECKING:
    from rich.console import RenderableType

ONE_IN_FIFTY = 1 / 50


def as_json(measured: Sensitivity, limits: Sequence[Tradeoff]) -> dict[str, Any]:
    """For programs."""
    life, trained = measured.life, measured.trained
    return {
        "surface": life.surface.name,
        "log": measured.trial.log,
        "life": {
            "days": life.days,
            "impressions_a_day": life.impressions_a_day,
            "labels_a_day": life.labels_a_day,
            "updates": life.updates,
            "update_every_s": life.update_every.total_seconds(),
            "impressions_an_update": vars(life.per_update),
            "labels_an_update": vars(life.labels_per_update),
            "requests_an_update": vars(life.requests_per_update),
            "users_an_update": vars(life.users_per_update),
            "first_model_s": None if trained.first_model is None else trained.first_model.total_seconds(),
            "requests_to_show_not_worse": life.requests_to_show(trained),
            "updates_to_show_not_worse": life.updates_to_show(trained),
            "impressions_trained_a_second": trained.impressions_per_s,
        },
        "sentences": life.sentences(trained),
        "advice": life.advice(trained),
        "windows": len(measured.trial.windows),
        "limits": [
            {
                "code": limit.of.code,
                "figure": limit.of.figure,
                "limit": limit.limit,
                "source": limit.source,
                "windows": limit.windows,
                "stopped": len(limit.stopped(limit.limit)),
                "stopped_without_a_fault": limit.speaks_of_nothing(limit.limit),
                "smallest": [{"fault": fault, "strength": words} for fault, words in limit.caught(limit.limit)],
                "stops_none": _finite(limit.stopping(0)),
                "stops_one_in_fifty": _finite(limit.stopping(ONE_IN_FIFTY)),
            }
            for limit in limits
        ],
    }


def rendered(measured: Sensitivity, limits: Sequence[Tradeoff]) -> "RenderableType":
    """The surface's life, what does not fit, and a row for each limit that was measured."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    life, trained = measured.life, measured.trained
    table = Table(box=None, pad_edge=False)
    for heading in ("check or guardrail", "limit", "from", "stopped", "smallest fault caught", "stops none", "1 in 50"):
        table.add_column(heading, justify="right" if heading in ("limit", "stops none", "1 in 50") else "left")
    for limit in limits:
        if not limit.windows and not limit.faults:
            continue
        stopped = len(limit.stopped(limit.limit))
        table.add_row(
            escape(limit.of.name),
            number(limit.limit),
            escape(limit.source),
            f"[yellow]{stopped}[/] of {limit.windows}" if stopped else f"0 of {limit.windows}",
            escape(smallest(limit) or "–"),
            *(_limit(limit.stopping(share)) for share in (0, ONE_IN_FIFTY)),
        )
    lines = [
        *(escape(line) for line in life.sentences(trained)),
        *(f"[yellow]{escape(line)}[/]" for line in life.advice(trained)),
    ]
    windows = f"{len(measured.trial.windows)} windows of {span(measured.cadence)}"
    planted = "faults planted into one near the end" if measured.trial.faults else "no fault could be planted"
    return Group(*lines, "", f"On {windows}, {planted}:", "", table)


def _limit(value: float | None) -> str:
    return "–" if value is None else "none does" if math.isinf(value) else number(0.0 if value <= SMALLEST else value)


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
