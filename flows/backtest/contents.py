"""What the page of a backtest shows, made from its summary: each value of the template and of its script."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from flows.backtest import findings
from flows.backtest.curves import WindowCharts, window_charts
from flows.backtest.findings import AUC, CONTRASTS, SHOWN_MEASURES, Contrast
from flows.backtest.summary import ARMS, OUTCOMES, Arm, ByArm, Summary, WindowSummary
from flows.backtest.texts import clock_format, format_seconds, format_span, over_years
from flows.backtest.updates import Costs, Timeline, UpdateCost, costs, timeline
from monitoring.measures import DIGITS, Measure


@dataclass(frozen=True)
class Worth:
    """What one contrast was worth in AUC."""

    contrast: Contrast
    gain: float | None

    ahead: int
    """Windows in which it was for the better."""

    windows: int
    """Windows that have the figure."""


@dataclass(frozen=True)
class CellChange:
    """A change, and whether it is for the better."""

    value: float | None
    better: bool | None


@dataclass(frozen=True)
class Cell:
    """One figure of an arm."""

    value: float | None
    best: bool
    change: CellChange | None
    """From the arm before; None for the first."""


@dataclass(frozen=True)
class MeasureRow:
    """A measure: its figure by arm, and its change by contrast."""

    measure: Measure
    cells: tuple[Cell, ...]
    changes: tuple[CellChange, ...]
    left_out: str | None
    """Why it has no figures."""


@dataclass(frozen=True)
class TimePart:
    """A part of the backtest's time."""

    name: str
    seconds: float
    percent: float


@dataclass(frozen=True)
class WindowFigures:
    """All windows for the script, column by column: a long log's page stays small."""

    when: list[str]
    start: list[int]
    end: list[int]
    """Seconds since 1970."""

    impressions: list[int]
    figures: list[list[list[float | None]]]
    """[windows][measures][arms]"""


@dataclass(frozen=True)
class ScriptData:
    """What the script shows under the pointer."""

    measures: list[str]
    arms: list[str]
    windows: WindowFigures
    steps: list[str]
    updates: list[UpdateCost]


@dataclass(frozen=True)
class Contents:
    """What the template shows."""

    surface: str
    headline: str
    without_model: str | None
    approvals: str | None
    worth: list[Worth]
    arms: tuple[Arm, ...]
    table: list[MeasureRow]
    evaluated: int
    period: str | None
    curves: WindowCharts | None
    timeline: Timeline | None
    costs: Costs | None
    facts: dict[str, str]
    parts: list[TimePart]
    script_data: dict[str, object]


def contents(summary: Summary, surface: str) -> Contents:
    """What the page shows of the summary."""
    spent = costs(summary.updates)
    data = ScriptData(
        [measure.name for measure in SHOWN_MEASURES],
        [arm.name for arm in ARMS],
        _window_figures(summary.windows),
        [step.name for step in spent.steps] if spent else [],
        list(spent.updates) if spent else [],
    )
    return Contents(
        surface=surface,
        headline=findings.headline(summary),
        without_model=findings.without_model(summary),
        approvals=findings.approvals(summary),
        worth=[
            Worth(contrast, findings.gain(summary.arms, contrast, AUC), *findings.windows_ahead(summary, contrast, AUC))
            for contrast in CONTRASTS
        ],
        arms=ARMS,
        table=[_row(summary.arms, measure) for measure in SHOWN_MEASURES],
        evaluated=summary.evaluated,
        period=_period(summary.windows),
        curves=window_charts(summary.windows),
        timeline=timeline(summary),
        costs=spent,
        facts=_facts(summary),
        parts=_parts(summary),
        script_data=asdict(data),
    )


def _row(arms: ByArm, measure: Measure) -> MeasureRow:
    best = findings.best(arms, measure)
    gains = [findings.gain(arms, contrast, measure) for contrast in CONTRASTS]
    changes = tuple(CellChange(gain, None if gain is None else findings.is_better(gain, measure)) for gain in gains)
    cells = [
        Cell(findings.figure(arms, arm, measure), arm == best, change)
        for arm, change in zip(ARMS, (None, *changes), strict=True)
    ]
    return MeasureRow(measure, tuple(cells), changes, findings.why_left_out(arms, measure))


def _period(windows: Sequence[WindowSummary]) -> str | None:
    if not windows:
        return None
    start, end = windows[0].start, windows[-1].end
    clock = clock_format(end - start)
    last = f"{end:{clock}}" if end.date() == start.date() else f"{end.day} {end:%B %Y {clock}}"
    return f"{start.day} {start:%B %Y {clock}} to {last} UTC"


def _window_figures(windows: Sequence[WindowSummary]) -> WindowFigures:
    years = over_years(edge for window in windows for edge in (window.start, window.end))
    return WindowFigures(
        [format_span(window.start, window.end, years=years) for window in windows],
        [round(window.start.timestamp()) for window in windows],
        [round(window.end.timestamp()) for window in windows],
        [window.impressions for window in windows],
        [
            [[_rounded(findings.figure(window.arms, arm, measure)) for arm in ARMS] for measure in SHOWN_MEASURES]
            for window in windows
        ],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _facts(summary: Summary) -> dict[str, str]:
    counts = {done: summary.count(outcome) for outcome, done in OUTCOMES.items()}
    facts = {
        "log": summary.log,
        "impressions imported": f"{summary.impressions:,}",
        "impressions scored": f"{summary.evaluated:,}",
        "dead letters": f"{summary.dead_letters:,}",
        "windows scored": f"{len(summary.windows):,}",
        "length of a window": _length(summary.windows),
        "updates": f"{len(summary.updates):,}",
        "outcomes" if summary.approve_held else "verdicts": ", ".join(
            f"{count:,} {done}" for done, count in counts.items() if count
        ),
        "time in all": format_seconds(summary.seconds),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _length(windows: Sequence[WindowSummary]) -> str:
    """Of the usual window; the last one may be shorter."""
    if not windows:
        return ""
    lengths = Counter((window.end - window.start).total_seconds() for window in windows)
    seconds = lengths.most_common(1)[0][0]
    for unit, size in (("year", 365.25 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}{'' if seconds == size else 's'}"
    return f"{seconds:g} s"


def _parts(summary: Summary) -> list[TimePart]:
    """The costliest first."""
    whole = sum(summary.seconds_by_part.values())
    ordered = sorted(summary.seconds_by_part.items(), key=lambda part: -part[1])
    return [TimePart(name, seconds, 100 * seconds / whole) for name, seconds in ordered] if whole > 0 else []
