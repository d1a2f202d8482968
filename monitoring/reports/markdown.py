"""Evidence in markdown, for Prefect's pages."""

from monitoring.evaluation.comparison import Comparison, left_out
from monitoring.measures import MEASURES, number
from monitoring.sentences import as_text


def comparison_table(compared: Comparison) -> list[str]:
    """Champion against challenger, a row a measure, in markdown."""
    lines = [f"| | {compared.rival_name} | challenger | difference (95 %) |", "| --- | ---: | ---: | ---: |"]
    for measure in MEASURES:
        before, now = compared.champion.of(measure), compared.challenger.of(measure)
        change, bounds = compared.change(measure), ""
        if change is not None and change.interval.lower is not None and change.interval.upper is not None:
            bounds = f"{change.interval.lower:+.4f} to {change.interval.upper:+.4f}".replace("-", "−")
        lines.append(f"| {measure.name} | {number(before)} | {number(now)} | {bounds} |")
    reasons = left_out(compared, MEASURES)
    return [*lines, *(["", *(f"{as_text(reason)}." for reason in reasons)] if reasons else [])]
