"""Plots of the benches, as SVG: the same figures give the same file.

Hues are those of Okabe & Ito 2008, which people who see fewer colours can tell apart; lines differ in their dashes too,
and each is named beside its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.prequential import StreamResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
INK, FAINT = "#333333", "#dddddd"


@dataclass(frozen=True)
class Curve:
    """How long a server takes, over what it is given to do."""

    name: str
    over: Sequence[float]
    median: Sequence[float]
    """Milliseconds."""
    tail: Sequence[float]
    """The 99th percentile."""


@contextmanager
def drawing(path: Path, width: float = 8.0, height: float = 4.2) -> "Iterator[Axes]":
    """Axes to draw on; the picture is written when the block ends. Inches."""
    import matplotlib
    from matplotlib.figure import Figure

    # Names of shapes come from a salt and not from the clock, and text stays text.
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})


def lines(path: Path, results: Sequence[StreamResult], *, span: timedelta) -> None:
    """AUC over the stream, a line for each learner, a point for each span."""
    with drawing(path) as axes:
        for number, result in enumerate(results):
            days, auc = result.auc_by(span)
            hue, dash = HUES[number % len(HUES)], DASHES[number % len(DASHES)]
            axes.plot(days, auc, color=hue, linestyle=dash, linewidth=1.6, label=f"{result.name} ({result.auc:.3f})")
        axes.set_xlabel("days since the warm-up")
        axes.set_ylabel(f"AUC of each {span / timedelta(hours=1):g} hours")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2, labelcolor=INK)


def costs(path: Path, curves: Mapping[str, Sequence[StreamResult]]) -> None:
    """AUC against CPU seconds, a curve for each learner; its points have numbers, which the legend explains."""
    with drawing(path, height=4.8) as axes:
        place = 0
        for number, curve in enumerate(curves.values()):
            ordered = sorted(curve, key=lambda result: result.cpu_s)
            seconds, auc = [result.cpu_s for result in ordered], [result.auc for result in ordered]
            hue, dash = HUES[number % len(HUES)], DASHES[number % len(DASHES)]
            axes.plot(seconds, auc, color=hue, linestyle=dash, marker="o", markersize=5, linewidth=1.6)
            for result in ordered:
                place += 1
                axes.annotate(
                    f"{place}",
                    (result.cpu_s, result.auc),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    color=hue,
                )
                axes.plot([], [], " ", label=f"{place}  {result.name}: {result.auc:.3f}, {result.cpu_s:.1f} s")
        axes.margins(x=0.1, y=0.15)
        axes.set_xscale("log")
        axes.set_xlabel("CPU seconds of training and scoring, features apart (a log scale)")
        axes.set_ylabel("AUC")
        axes.legend(
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, 1.36),
            ncols=2,
            fontsize=8,
            labelcolor=INK,
            handlelength=0,
            handletextpad=0,
        )


def bars(path: Path, gains: Mapping[str, float], noise: float, *, title: str) -> None:
    """A bar for each part and what it gains; ``noise`` is drawn as a band around nothing."""
    with drawing(path, height=0.8 + 0.24 * len(gains)) as axes:
        names, values = list(gains)[::-1], list(gains.values())[::-1]
        axes.axvspan(-noise, noise, color=FAINT, linewidth=0)
        axes.barh(names, values, color=[HUES[0] if value >= 0 else HUES[1] for value in values], height=0.6)
        axes.bar_label(axes.containers[0], labels=[f"{value:+.4f}" for value in values], padding=3, fontsize=7)  # type: ignore[arg-type]
        axes.axvline(0, color=INK, linewidth=0.8)
        # A few parts are worth a hundred times the others: both must be seen.
        axes.set_xscale("symlog", linthresh=0.005)
        axes.margins(x=0.15)
        axes.set_xlabel(title)


def latencies(path: Path, curves: Sequence[Curve], *, along: str) -> None:
    """Medians, a line for each server, and faint above each its 99th percentile."""
    with drawing(path) as axes:
        for number, curve in enumerate(curves):
            hue, dash = HUES[number % len(HUES)], DASHES[number % len(DASHES)]
            axes.plot(
                *(curve.over, curve.median), color=hue, linestyle=dash, marker="o", markersize=4, label=curve.name
            )
            axes.plot(curve.over, curve.tail, color=hue, linestyle=dash, marker="^", markersize=3, alpha=0.4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"{along} (a log scale)")
        axes.set_ylabel("ms: median, and 99th percentile (faint)")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=4, labelcolor=INK)
