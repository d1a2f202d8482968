"""What a candidate's page shows of its evidence: champion against challenger, slices, drift, checks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from monitoring.checks.limits import Check
from monitoring.desk import drawings, words
from monitoring.desk.drawings import Curves, DrawnInterval, PastFigures, TwoShapes
from monitoring.desk.facts import Facts, facts
from monitoring.desk.queries_shown import QueryRow, lost_queries
from monitoring.evaluation.comparison import Comparison, Gain, left_out
from monitoring.evaluation.drift import Drift
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.fairness import Ratio, Treatment
from monitoring.evaluation.slices import Slice
from monitoring.gate.hypotheses import PROVEN_BASELINE
from monitoring.measures import MEASURES
from monitoring.sentences import change, counted

WIDEST = 0.25
"""A slice's bar reaches the end at this share of log loss, however wide its bounds are."""


@dataclass(frozen=True)
class ComparedMeasure:
    """One row of champion against challenger."""

    name: str
    better: str
    champion: str
    challenger: str
    difference: str
    bounds: str
    bar: DrawnInterval | None


@dataclass(frozen=True)
class GainRow:
    """A difference in log loss as a share of the rival's: above zero the challenger is better."""

    name: str
    note: str
    gain: str
    bounds: str
    bar: DrawnInterval | None
    champion: str = words.NO_FIGURE
    challenger: str = words.NO_FIGURE


@dataclass(frozen=True)
class DrawnColumn:
    """One column's two distributions."""

    name: str
    psi: str
    limit: str
    """What is usual at most."""
    drawing: TwoShapes
    past: PastFigures | None
    """Its own windows before, where it holds the challenger and they are known."""
    moved: bool
    """It drifted, which only informs."""


@dataclass(frozen=True)
class DriftSection:
    """Drift from one part of the past."""

    key: str
    title: str
    sentence: str
    holding: tuple[DrawnColumn, ...]
    others: tuple[DrawnColumn, ...]


@dataclass(frozen=True)
class FairnessRow:
    """How a value of the declared attribute fares under both."""

    name: str
    impressions: str
    exposure: tuple[str, str] | None
    """Shares of the attention, champion's and challenger's; None where no order could change it."""
    error: tuple[str, str]
    """Mean prediction minus label rate, the same two."""


@dataclass(frozen=True)
class Shown:
    """All of it."""

    rival: str
    own: str
    """What is compared, as the heads of columns have it."""
    lost: str
    """Which version's files are lost, where they are, as a sentence."""
    judged: str
    measures: tuple[ComparedMeasure, ...]
    left_out: tuple[str, ...]
    """Measures that could not be other than they are, and why."""
    paired: str
    """The difference in log loss, paired by request, as a sentence."""
    reliability: Curves | None
    predictions: TwoShapes | None
    losing: tuple[GainRow, ...]
    slices: tuple[GainRow, ...]
    queries: tuple[QueryRow, ...]
    """Those that lost most, where texts are read."""
    fair: tuple[FairnessRow, ...]
    drift: tuple[DriftSection, ...]
    failed: tuple[Check, ...]
    passed: tuple[Check, ...]
    others: tuple[GainRow, ...]
    facts: tuple[Facts, ...]


def shown(evidence: Evidence) -> Shown:
    """What of the evidence there is; what was not measured is left out."""
    compared = evidence.comparison
    rival, own = _names(evidence)
    slices = [] if compared is None else [_slice(part, compared) for part in compared.slices]
    return Shown(
        rival=rival,
        own=own,
        lost="" if evidence.stand_in is None else evidence.stand_in.sentence,
        judged="" if compared is None else _judged(evidence, compared),
        measures=() if compared is None else _measures(compared),
        left_out=() if compared is None else tuple(left_out(compared, MEASURES)),
        paired="" if compared is None else _paired(compared, rival),
        reliability=None
        if compared is None or compared.reliability is None
        else drawings.reliability(compared.reliability.champion, compared.reliability.challenger),
        predictions=None
        if compared is None or compared.predictions is None
        else drawings.predictions(compared.predictions),
        losing=tuple(row for row in slices if row.bar is not None and row.bar.tone == "worse"),
        slices=tuple(slices),
        queries=lost_queries(evidence),
        fair=() if compared is None else tuple(_fairness(row) for row in compared.fairness),
        drift=tuple(_drifts(evidence)),
        failed=evidence.failed_checks,
        passed=tuple(check for check in evidence.checks if check.passed),
        others=tuple(_others(evidence)),
        facts=tuple(group for group in facts(evidence) if group.rows or group.sentence),
    )


def _names(evidence: Evidence) -> tuple[str, str]:
    """The rival's, and what is held against it: a champion at work against the version before it, else a challenger."""
    rival = "Champion" if evidence.comparison is None else evidence.comparison.rival_name.capitalize()
    if evidence.at_work is None:
        return rival, "Challenger"
    return f"Version {evidence.at_work.before}" if rival == "Champion" else rival, f"Version {evidence.at_work.version}"


def _judged(evidence: Evidence, compared: Comparison) -> str:
    where = f"{counted(compared.impressions, 'impression')} of {counted(compared.requests, 'request')}"
    if compared.label_rate is not None:
        where += f", {words.percent(compared.label_rate)} with a label"
    how = {
        "tail": "the window's last part, which the challenger was not trained on",
        "progressive": "the whole window, each mini-batch scored just before it was trained on",
        "fresh": "the newest whose labels are known, which neither was trained on",
        "served": "what the champion has served and was not trained on",
        "canary": "what both have served while it was a canary",
    }[evidence.judged]
    return f"On {where}: {how}."


def _paired(compared: Comparison, rival: str) -> str:
    gain = compared.gain
    if gain.share is None:
        return ""
    bounds = _bounds(gain.lower, gain.upper, _share)
    shown = f" (gain {bounds}; each bound holds with {words.percent(gain.confidence)})" if bounds else ""
    than = rival.lower() if rival.startswith("Version") else f"the {rival.lower()}"
    return f"Paired by request, log loss is {change(gain.share)} than {than}'s{shown}."


def _measures(compared: Comparison) -> tuple[ComparedMeasure, ...]:
    rows = []
    for measure in MEASURES:
        before, now = compared.champion.of(measure), compared.challenger.of(measure)
        if before is None and now is None:
            continue
        changed = compared.change(measure)
        difference = None if changed is None else changed.difference
        low, high = (None, None) if changed is None else (changed.interval.lower, changed.interval.upper)
        rows.append(
            ComparedMeasure(
                name=measure.title,
                better=measure.remark,
                champion=words.number(before),
                challenger=words.number(now),
                difference=words.signed(difference),
                bounds=_bounds(low, high, words.signed),
                bar=drawings.interval(difference, low, high, better=measure.sign),
            )
        )
    return tuple(rows)


def _slice(part: Slice, compared: Comparison) -> GainRow:
    bounds = [abs(bound) for other in compared.slices for bound in (other.lower, other.upper) if bound is not None]
    widest = max(bounds, default=0.0)
    return GainRow(
        name=part.name,
        note=counted(part.impressions, "impression"),
        gain=words.percent(part.gain, signed=True),
        bounds=_bounds(part.lower, part.upper, _share),
        bar=drawings.interval(part.gain, part.lower, part.upper, scale=min(widest, WIDEST) or None),
        champion=words.number(part.champion_log_loss),
        challenger=words.number(part.challenger_log_loss),
    )


def _gain(name: str, note: str, gain: Gain, losses: tuple[float | None, float | None] = (None, None)) -> GainRow:
    """``losses``: the champion's log loss, and the challenger's."""
    return GainRow(
        name=name,
        note=note,
        gain=words.percent(gain.share, signed=True),
        bounds=_bounds(gain.lower, gain.upper, _share),
        bar=drawings.interval(gain.share, gain.lower, gain.upper),
        champion=words.number(losses[0]),
        challenger=words.number(losses[1]),
    )


def _others(evidence: Evidence) -> list[GainRow]:
    """The same challenger beside reference champions, on older impressions, and on the window once trained on."""
    found = []
    for reference in evidence.references:
        note = f"version {reference.version}, {counted(reference.gain.requests, 'request')}"
        name = reference.name
        name = "The proven baseline" if name == PROVEN_BASELINE else f"The champion of {name}"
        found.append(_gain(name, note, reference.gain))
    older = evidence.forgetting
    if older is not None:
        note = f"{words.moment(older.start)} to {words.moment(older.end)}"
        losses = (older.champion_log_loss, older.challenger_log_loss)
        found.append(_gain("The champion, on an older window", note, older.gain, losses))
    in_sample = evidence.in_sample
    if in_sample is not None:
        losses = (in_sample.champion_log_loss, in_sample.log_loss)
        name = "The champion, on this window once it is trained on"
        found.append(_gain(name, "the weights that would go live", in_sample.gain, losses))
    return found


def _drifts(evidence: Evidence) -> Iterator[DriftSection]:
    if evidence.drift is not None:
        yield _drift("drift", evidence.drift)
    if evidence.season_drift is not None:
        yield _drift("season_drift", evidence.season_drift)


def _drift(key: str, drift: Drift) -> DriftSection:
    holding, others = list[DrawnColumn](), list[DrawnColumn]()
    for column in drift.columns:
        drawing = None if column.histogram is None else drawings.histogram(column.histogram)
        if drawing is not None:
            psi, limit = words.number(column.psi, 2), words.number(column.limit, 2)
            # A window's size is in what chance gives: it comes to past ones as to this one.
            before = [value + column.by_chance for value in reversed(column.usual)]
            holds = column.drifted and column.decides
            past = drawings.past(before, column.psi, column.limit) if holds else None
            moved = column.drifted and not holds
            (holding if holds else others).append(DrawnColumn(column.column, psi, limit, drawing, past, moved))
    informing = [column.column for column in drift.drifted if not column.decides]
    counters = len(informing) - ("prediction" in informing)
    sentence = (
        f"{len(drift.holding)} of {len(drift.columns)} columns hold{'s' if len(drift.holding) == 1 else ''} the"
        " challenger: PSI beyond what chance gives and what the column had in the windows before."
        + (f" {counted(counters, 'figure')} counted from the log moved too, which informs." if counters else "")
        + (
            " The prediction moved, which informs while few of its windows are known."
            if counters < len(informing)
            else ""
        )
        + f" Samples of {drift.reference_rows:,} and {drift.current_rows:,} impressions."
    )
    return DriftSection(key, f"Against {drift.against}", sentence, tuple(holding), tuple(others))


def _fairness(row: Treatment) -> FairnessRow:
    def both(ratio: Ratio, *, signed: bool = False) -> tuple[str, str]:
        return words.percent(ratio.champion, signed=signed), words.percent(ratio.challenger, signed=signed)

    exposure = None if row.exposure is None else both(row.exposure)
    return FairnessRow(row.name, counted(row.impressions, "impression"), exposure, both(row.error, signed=True))


def _share(value: float | None) -> str:
    return words.percent(value, signed=True)


def _bounds(lower: float | None, upper: float | None, text: Callable[[float | None], str]) -> str:
    return "" if lower is None and upper is None else f"{text(lower)} to {text(upper)}"
