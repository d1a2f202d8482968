"""The table of a backtest for a terminal, 80 columns wide."""

from typing import TYPE_CHECKING

from flows.backtest.findings import (
    ARMS,
    MEASURES,
    STEPS,
    Measure,
    Step,
    Summary,
    best,
    figure,
    gain,
    is_better,
    why_none,
    without_model,
)
from flows.backtest.findings import number as told
from flows.backtest.findings import signed as told_change

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def render_table(summary: Summary) -> "Table":
    """A row a measure: what each arm reached, the best with a star, and what fresh features and models changed."""
    from rich.table import Table

    meanings = "\n".join(f"{arm.name}: {arm.meaning}" for arm in ARMS)
    changes = "; ".join(f"{step.name.lower()}: {step.after.name} minus {step.before.name}" for step in STEPS)
    reasons = [f"{measure.name} left out: {why}" for measure in MEASURES if (why := why_none(summary, measure))]
    caption = "\n".join(filter(None, (without_model(summary), "* best", *reasons, meanings, changes)))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column(f"{summary['scored']:,} impressions scored", min_width=22)
    for arm in ARMS:
        table.add_column(arm.name.replace(" ", "\n"), justify="right", vertical="bottom")
    for step in STEPS:
        table.add_column(step.name.lower().replace(" ", "\n"), justify="right", vertical="bottom")
    for measure in MEASURES:
        stars = best(summary, measure)
        figures = [
            f"[bold]{told(figure(summary, arm, measure))}*[/]"
            if arm.key in stars
            else f"{told(figure(summary, arm, measure))} "
            for arm in ARMS
        ]
        arrow = "higher" if measure.higher_is_better else "lower"
        table.add_row(
            f"{measure.name} [dim]({arrow} is better)[/]",
            *figures,
            *(_change(summary, step, measure) for step in STEPS),
        )
    return table


def _change(summary: Summary, step: Step, measure: Measure) -> "Text":
    from rich.text import Text

    change = gain(summary, step, measure)
    better = None if change is None else is_better(change, measure)
    return Text(told_change(change).replace("−", "-"), style={True: "green", False: "red", None: ""}[better])
