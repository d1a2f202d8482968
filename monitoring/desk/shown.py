"""What a candidate's page shows of the figures of its evidence.

Figures are plain dicts of many updates, the oldest measured by other code than today's: whatever is missing is left out
of the page, and nothing here raises for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.desk import drawings, words
from monitoring.desk.drawings import Curves, Histogram, Interval
from monitoring.desk.words import known
from monitoring.sentences import left_out

Figures = Mapping[str, Any]

MEASURES: tuple[tuple[str, str, int], ...] = (
    ("log_loss", "Log loss", -1),
    ("normalised_entropy", "Normalised entropy", -1),
    ("auc", "AUC", 1),
    ("grouped_auc", "AUC within requests", 1),
    ("ndcg", "NDCG", 1),
    ("mrr", "MRR", 1),
    ("hit_at_1", "Hit rate at 1", 1),
    ("calibration_error", "Calibration error", -1),
    ("mean_prediction", "Mean prediction", 0),
)
"""Key, name, and which way is better: 1 higher, -1 lower, 0 neither."""

KINDS = {"context": "context", "user": "users", "item": "items"}


@dataclass(frozen=True)
class Measure:
    """One row of champion against challenger."""

    name: str
    better: str
    champion: str
    challenger: str
    difference: str
    bounds: str
    bar: Interval | None


@dataclass(frozen=True)
class Gain:
    """A difference in log loss as a share of the rival's: above zero the challenger is better."""

    name: str
    note: str
    gain: str
    bounds: str
    bar: Interval | None
    champion: str = words.NOTHING
    challenger: str = words.NOTHING


@dataclass(frozen=True)
class Column:
    """One feature's two distributions."""

    name: str
    psi: str
    drifted: bool
    drawing: Histogram


@dataclass(frozen=True)
class Drifted:
    """Drift against one reference."""

    key: str
    title: str
    sentence: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Checked:
    """A data check."""

    name: str
    passed: bool
    breach: str
    detail: str
    limit: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Things known beside: a title and its rows of name and value."""

    title: str
    sentence: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fair:
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
    judged: str
    measures: tuple[Measure, ...]
    left_out: tuple[str, ...]
    """Measures that could not be other than they are, and why."""
    headline: Gain | None
    reliability: Curves | None
    predictions: Histogram | None
    losing: tuple[Gain, ...]
    slices: tuple[Gain, ...]
    fair: tuple[Fair, ...]
    drift: tuple[Drifted, ...]
    failed: tuple[Checked, ...]
    passed: tuple[Checked, ...]
    others: tuple[Gain, ...]
    facts: tuple[Facts, ...]


def shown(figures: Figures) -> Shown:
    """From ``evidence.figures``."""
    quality = _dict(figures, "quality")
    checks = [_checked(check) for check in figures.get("checks") or ()]
    slices = [_slice(row, quality) for row in quality.get("slices") or ()]
    fair = [row for row in quality.get("fairness") or figures.get("fairness") or () if isinstance(row, Mapping)]
    curves = _dict(quality, "reliability")
    return Shown(
        rival="Champion" if quality.get("baseline", "champion") == "champion" else "Base rate",
        judged=_judged(figures, quality),
        measures=_measures(quality),
        left_out=tuple(left_out(quality, {key: name for key, name, _ in MEASURES})) if quality.get("baseline") else (),
        headline=_gain("Log loss, as a share of the rival's", "", _dict(quality, "paired")),
        reliability=drawings.reliability(curves["champion"], curves["challenger"]) if len(curves) == 2 else None,
        predictions=drawings.predictions(_dict(quality, "predictions")),
        losing=tuple(row for row in slices if row.bar is not None and row.bar.tone == "worse"),
        slices=tuple(slices),
        fair=tuple(_fair(row) for row in fair),
        drift=tuple(_drift(figures)),
        failed=tuple(check for check in checks if not check.passed),
        passed=tuple(check for check in checks if check.passed),
        others=tuple(_others(figures)),
        facts=tuple(group for group in _facts(figures) if group.rows or group.sentence),
    )


def _judged(figures: Figures, quality: Figures) -> str:
    if known(quality.get("impressions")) is None:
        return ""
    requests = words.many(int(quality.get("requests") or 0), "request")
    where = f"{words.many(int(quality['impressions']), 'impression')} of {requests}"
    rate = words.percent(quality.get("label_rate"))
    where += "" if rate == words.NOTHING else f", {rate} with a label"
    how = {
        "tail": "the window's last part, which the challenger did not learn from",
        "progressive": "the whole window, each mini-batch scored just before it was learned",
        "fresh": "the newest whose labels are known, which neither has learned from",
        "served": "what the champion has served and not learned from",
    }.get(str(figures.get("judging")), "")
    return f"On {where}" + (f": {how}." if how else ".")


def _measures(quality: Figures) -> tuple[Measure, ...]:
    champion, challenger = _dict(quality, "champion"), _dict(quality, "challenger")
    bounds = _dict(quality, "intervals")
    rows = []
    for key, name, better in MEASURES:
        before, now = known(champion.get(key)), known(challenger.get(key))
        if before is None and now is None:
            continue
        of = _dict(bounds, key)
        change = known(of.get("difference"))
        if change is None and before is not None and now is not None:
            change = now - before
        rows.append(
            Measure(
                name=name,
                better={1: "higher is better", -1: "lower is better", 0: ""}[better],
                champion=words.number(before),
                challenger=words.number(now),
                difference=words.signed(change),
                bounds=_bounds(of.get("lower"), of.get("upper"), words.signed),
                bar=drawings.interval(change, of.get("lower"), of.get("upper"), better=better),
            )
        )
    return tuple(rows)


def _slice(row: Figures, quality: Figures) -> Gain:
    scale = max(
        [
            abs(bound)
            for other in quality["slices"]
            for key in ("lower_share", "upper_share")
            if (bound := known(other.get(key))) is not None
        ],
        default=None,
    )
    impressions = words.many(int(row.get("impressions") or 0), "impression")
    made = _gain(
        f"{row.get('column')} = {row.get('value')}", impressions, row, scale=min(scale, 0.25) if scale else None
    )
    assert made is not None
    return made


def _gain(name: str, note: str, of: Figures, *, scale: float | None = None) -> Gain | None:
    """None where nothing at all was measured; a row without bounds has no bar."""
    if not of:
        return None
    return Gain(
        name=name,
        note=note,
        gain=words.percent(of.get("gain_share"), sign=True),
        bounds=_bounds(of.get("lower_share"), of.get("upper_share"), lambda share: words.percent(share, sign=True)),
        bar=drawings.interval(of.get("gain_share"), of.get("lower_share"), of.get("upper_share"), scale=scale),
        champion=words.number(of.get("champion_log_loss")),
        challenger=words.number(of.get("challenger_log_loss", of.get("log_loss"))),
    )


def _others(figures: Figures) -> list[Gain]:
    """The same challenger beside older champions, on older impressions, and on the window once learned."""
    found = []
    for anchor in figures.get("anchors") or ():
        requests = known(anchor.get("requests")) or known(_dict(anchor, "moments").get("n"))
        note = f"version {anchor.get('version')}" + (f", {words.many(int(requests), 'request')}" if requests else "")
        name = str(anchor.get("name"))
        found.append(_gain("The standard" if name.endswith("standard") else f"The champion of {name}", note, anchor))
    older = _dict(figures, "forgetting")
    if older:
        found.append(
            _gain("The champion, on an older window", f"{_day(older.get('from'))} to {_day(older.get('to'))}", older)
        )
    learned = _dict(figures, "again")
    if learned:
        found.append(_gain("The champion, on this window once learned", "the weights that would go live", learned))
    return [row for row in found if row is not None]


def _drift(figures: Figures) -> list[Drifted]:
    found = []
    for key, against in (("drift", "what the champion learned from"), ("drift_baseline", "the fixed baseline")):
        drift = _dict(figures, key)
        if not drift:
            continue
        psi, limit, limits = _dict(drift, "psi"), known(drift.get("threshold")) or 0.2, _dict(drift, "limits")
        columns = []
        for name, drawn in _dict(drift, "histograms").items():
            drawing = drawings.histogram(drawn)
            if drawing is not None:
                value = known(psi.get(name))
                columns.append(
                    Column(
                        name, words.number(value, 2), value is not None and value >= limits.get(name, limit), drawing
                    )
                )
        sizes = (words.count(drift.get(side)) for side in ("reference_rows", "current_rows"))
        sentence = (
            f"{words.count(drift.get('drifted'))} of {words.count(drift.get('columns'))} columns drifted"
            f" (PSI from {limit:g} and what chance gives), on samples of {' and '.join(sizes)} impressions."
        )
        columns.sort(key=lambda column: -(known(psi.get(column.name)) or 0.0))  # jsonb does not keep the order
        found.append(Drifted(key, f"Against {against}", sentence, tuple(columns)))
    return found


def _checked(check: Figures) -> Checked:
    return Checked(
        name=str(check.get("name")),
        passed=bool(check.get("passed")),
        breach=str(check.get("breach", "reject")),
        detail=str(check.get("detail", "")),
        limit=str(check.get("limit", "")),
        rows=tuple(str(row) for row in check.get("rows") or ())[:20],
    )


def _fair(row: Figures) -> Fair:
    def both(measure: str, *, sign: bool = False) -> tuple[str, str]:
        before, now = (words.percent(row.get(f"{measure}_{who}"), sign=sign) for who in ("champion", "challenger"))
        return before, now

    name = f"{row.get('attribute')} = {row.get('value')}"
    exposed = None if known(row.get("exposure_champion")) is None else both("exposure")
    return Fair(name, words.many(int(row.get("impressions") or 0), "impression"), exposed, both("error", sign=True))


def _facts(figures: Figures) -> list[Facts]:
    return [
        _process(figures),
        _shift(figures),
        _cost(figures),
        _counterfactual(figures),
        _retrieval(figures),
        _skew(figures),
        _window(figures),
    ]


def _process(figures: Figures) -> Facts:
    process = _dict(figures, "process")
    record = _dict(process, "after") or process
    moments = _dict(record, "moments") or _dict(record, "gain")
    rows = [
        ("updates on record", words.count(record.get("updates"))),
        ("requests on record", words.count(moments.get("n"))),
        ("mean gain", words.percent(moments.get("mean"), sign=True)),
        ("at worst", words.percent(process.get("lower_share", record.get("lower_share")), sign=True)),
        ("evidence of harm (log)", words.number(record.get("log_harm"), 2)),
    ]
    return (
        Facts("The updating process", "Of all routine challengers so far, promoted or not.", _had(rows))
        if process
        else _NONE
    )


def _shift(figures: Figures) -> Facts:
    shift = _dict(_dict(figures, "quality"), "shift")
    rows = [
        ("mean prediction, log-odds", words.signed(shift.get("log_odds"), 3)),
        ("mean absolute move, log-odds", words.number(shift.get("moved_mean"), 3)),
        ("99th percentile of moves", words.number(shift.get("moved_p99"), 3)),
        ("spread beside the champion's", words.percent(shift.get("spread"))),
        ("moved far", words.percent(shift.get("tail_share"))),
    ]
    return Facts("How far predictions moved", "", _had(rows))


def _cost(figures: Figures) -> Facts:
    cost = _dict(figures, "cost")
    rate = known(cost.get("examples_per_s"))
    rows = [
        ("fine-tuning", words.span(known(cost.get("fine_tune_s")))),
        ("examples a second", words.count(rate)),
        ("size", words.size(cost.get("bytes"))),
        ("the champion's size", words.size(cost.get("champion_bytes"))),
        ("scoring, 99th percentile", _unit(words.number(cost.get("score_p99_ms"), 2), "ms")),
    ]
    return Facts("Cost", "", _had(rows))


def _counterfactual(figures: Figures) -> Facts:
    found = _dict(figures, "counterfactual")
    title = "What its ranking would have earned"
    if "refused" in found:
        return Facts(title, str(found["refused"]), ())
    return Facts(title, "", tuple(_plain_rows(found)))


def _retrieval(figures: Figures) -> Facts:
    found = _dict(figures, "retrieval")
    among, gained = found.get("among"), _dict(found, "difference")
    rows = [
        ("clicks asked for", words.count(found.get("clicks"))),
        *((f"found among {k} items", _recalls(found, k)) for k in (10, 50, 100)),
        (f"gained among {among} items", words.percent(gained.get("mean"), sign=True)),
        ("at worst", words.percent(gained.get("lower"), sign=True)),
        ("at best", words.percent(gained.get("upper"), sign=True)),
    ]
    note = "The champion's, its own, and what is popular." if found.get("champion") else "Its own, and what is popular."
    return Facts("Next clicks that its towers find", note if found else "", _had(rows))


def _recalls(found: Figures, k: int) -> str:
    shares = [words.percent(_dict(found, who).get(f"recall_{k}")) for who in ("champion", "challenger", "popularity")]
    return ", ".join(share for share in shares if share != words.NOTHING) or words.NOTHING


def _skew(figures: Figures) -> Facts:
    skew = _dict(figures, "skew")
    rows = [
        ("impressions compared", words.count(skew.get("rows"))),
        ("values compared", words.count(skew.get("values"))),
        ("values that differ", words.percent(skew.get("differing_share"))),
        *(
            (str(worst.get("feature")), f"differs on {words.percent(worst.get('share'))}")
            for worst in (skew.get("worst") or ())[:5]
        ),
    ]
    return Facts("Features served against joined", "", _had(rows))


def _window(figures: Figures) -> Facts:
    before = _dict(figures, "prequential")
    rows = [
        ("impressions", words.count(figures.get("impressions"))),
        ("label rate", words.percent(figures.get("label_rate"))),
        ("without a served row", words.count(figures.get("without_row"))),
        ("freshness", words.span(known(figures.get("freshness_s")))),
        ("champion's AUC on all of it", words.number(before.get("auc"))),
        ("champion's log loss on all of it", words.number(before.get("log_loss"))),
    ]
    return Facts("The window", "", _had(rows))


_NONE = Facts("", "", ())


def _plain_rows(found: Figures, prefix: str = "") -> list[tuple[str, str]]:
    """Numbers by their keys; an estimate with bounds in one row."""
    rows = []
    for key, value in found.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            if known(value.get("value")) is not None:
                bounds = _bounds(value.get("lower"), value.get("upper"), words.number)
                rows.append((name, f"{words.number(value['value'])}{f' ({bounds})' if bounds else ''}"))
            else:
                rows += _plain_rows(value, f"{name}, ")
        elif isinstance(value, str):
            rows.append((name, value))
        elif known(value) is not None:
            rows.append((name, f"{value:,}" if isinstance(value, int) else words.number(value)))
    return rows


def _bounds(lower: Any, upper: Any, tell: Any) -> str:
    if known(lower) is None and known(upper) is None:
        return ""
    return f"{tell(lower)} to {tell(upper)}"


def _had(rows: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(row for row in rows if row[1] != words.NOTHING)


def _unit(text: str, unit: str) -> str:
    return text if text == words.NOTHING else f"{text} {unit}"


def _day(told: Any) -> str:
    try:
        return words.moment(datetime.fromisoformat(str(told)))
    except ValueError:
        return words.NOTHING


def _dict(of: Figures, key: str) -> Figures:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}
