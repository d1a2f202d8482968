"""The table of a backtest for a terminal, 80 columns wide."""

from typing import TYPE_CHECKING

from flows.backtest.findings import (
    CONTRASTS,
    SHOWN_MEASURES,
    Contrast,
    approvals,
    best,
    figure,
    gain,
    is_better,
    why_left_out,
    without_model,
)
from flows.backtest.summary import ARMS, ByArm, Summary
from monitoring.desk.words import signed
from monitoring.measures import Measure, number

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def render_table(summary: Summary) -> "Table":
    """A row a measure: what each arm reached, the best with a star, and what fresh features and models changed."""
    from rich.table import Table

    arms = summary.arms
    meanings = "\n".join(f"{arm.name}: {arm.meaning}" for arm in ARMS)
    contrasts = "; ".join(f"{contrast.name.lower()}: {contrast.meaning}" for contrast in CONTRASTS)
    reasons = [f"{measure.name} left out: {why}" for measure in SHOWN_MEASURES if (why := why_left_out(arms, measure))]
    caption = "\n".join(
        filter(None, (without_model(summary), approvals(summary), "* best", *reasons, meanings, contrasts))
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column(f"{summary.evaluated:,} impressions scored", min_width=22)
    for head in (*(arm.name for arm in ARMS), *(contrast.name.lower() for contrast in CONTRASTS)):
        table.add_column(head.replace(" ", "\n"), justify="right", vertical="bottom")
    for measure in SHOWN_MEASURES:
        leader = best(arms, measure)
        figures = [(number(figure(arms, arm, measure)), arm == leader) for arm in ARMS]
        table.add_row(
            f"{measure.name} [dim]({measure.remark})[/]",
            *(f"[bold]{text}*[/]" if leads else f"{text} " for text, leads in figures),
            *(_change(arms, contrast, measure) for contrast in CONTRASTS),
        )
    return table


def _change(arms: ByArm, contrast: Contrast, measure: Measure) -> "Text":
    from rich.text import Text

    change = gain(arms, contrast, measure)
    better = None if change is None else is_better(change, measure)
    return Text(signed(change).replace("−", "-"), style={True: "green", False: "red", None: ""}[better])
