"""The charts of a backtest's page by window: measures of every arm, and what is gained from arm to arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flows.backtest.axes import Axis, time_axis, value_axis
from flows.backtest.findings import AUC, CONTRASTS, figure, gain
from flows.backtest.paths import PlotSpan, bars, line, span
from flows.backtest.summary import ARMS, Arm, WindowSummary
from monitoring.measures import BY_KEY

CALIBRATION = BY_KEY["calibration_error"]
CURVES = (AUC, BY_KEY["mrr"], BY_KEY["normalised_entropy"], CALIBRATION)
"""Measures that are drawn by window; the others are shown where the pointer rests."""

THIN = 0.05
"""A window with fewer impressions than this share of the median's does not stretch an axis: its figures are noise."""


@dataclass(frozen=True)
class Curve:
    """A path in the colour of an arm."""

    arm: Arm
    path: str


@dataclass(frozen=True)
class Chart:
    """One figure by window."""

    title: str
    note: str
    axis: Axis
    curves: tuple[Curve, ...]

    @property
    def zero(self) -> float | None:
        """Where 0 is, percent from the top, when it is inside."""
        return 100 - 100 * self.axis.share(0) if self.axis.low < 0 < self.axis.high else None


@dataclass(frozen=True)
class WindowCharts:
    """The charts by window, which share their time and their bars."""

    charts: tuple[Chart, ...]
    time: Axis
    bars: str
    most: int
    """Impressions of the fullest window."""


def window_charts(windows: Sequence[WindowSummary]) -> WindowCharts | None:
    """None where there is no line to draw: fewer than two windows."""
    if len(windows) < 2:
        return None
    time = time_axis(windows[0].start, windows[-1].end)
    spans = [span(time, window.start, window.end) for window in windows]
    counts = [window.impressions for window in windows]
    full = [count >= THIN * float(np.median(counts)) for count in counts]
    charts = []
    for measure in CURVES:
        values = {arm: [figure(window.arms, arm, measure) for window in windows] for arm in ARMS}
        charts.append(_chart(measure.name, measure.remark, values, spans, full, from_zero=measure == CALIBRATION))
    for contrast in CONTRASTS:
        gains = [gain(window.arms, contrast, AUC) for window in windows]
        if any(gains):  # where one model served all along, a line at 0 says nothing
            title = f"AUC gained by {contrast.name.lower()}"
            charts.append(_chart(title, contrast.meaning, {contrast.after: gains}, spans, full, from_zero=True))
    drawn = tuple(chart for chart in charts if chart is not None)
    return WindowCharts(drawn, time, bars(spans, counts, tallest=0.3), max(counts)) if drawn else None


def _chart(
    title: str,
    note: str,
    values: Mapping[Arm, Sequence[float | None]],
    spans: Sequence[PlotSpan],
    full: Sequence[bool],
    *,
    from_zero: bool,
) -> Chart | None:
    """None where no window has the figure. A window that is not full does not stretch the axis."""
    inside = [
        value
        for of_arm in values.values()
        for value, fits in zip(of_arm, full, strict=True)
        if fits and value is not None
    ]
    if not inside:
        return None
    axis = value_axis(inside, from_zero=from_zero)
    return Chart(title, note, axis, tuple(Curve(arm, line(axis, spans, of_arm)) for arm, of_arm in values.items()))
