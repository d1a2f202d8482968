"""Figures beside the comparison on a candidate's page: the process, cost, what its ranking would have earned, skew."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.desk import words
from monitoring.evaluation.counterfactual import Value
from monitoring.evaluation.evidence import Evidence


@dataclass(frozen=True)
class Facts:
    """Things known beside: a title and its rows of name and value."""

    title: str
    sentence: str
    rows: tuple[tuple[str, str], ...]


def facts(evidence: Evidence) -> list[Facts]:
    """Every group; one of which nothing was measured has neither rows nor a sentence."""
    return [
        _process(evidence),
        _shift(evidence),
        _cost(evidence),
        _ranking_value(evidence),
        _towers(evidence),
        _skew(evidence),
        _window(evidence),
    ]


def _process(evidence: Evidence) -> Facts:
    title, record = "The updating process", evidence.process_after
    if record is None:
        return Facts(title, "", ())
    rows = [
        ("updates on record", words.count(record.updates)),
        ("requests on record", words.count(record.moments.n)),
        ("mean gain", words.percent(record.moments.mean, signed=True)),
        ("CUSUM of evidence that they lose", words.number(record.cusum, 2)),
    ]
    return Facts(title, "Of all routine challengers so far, promoted or not.", _known(rows))


def _shift(evidence: Evidence) -> Facts:
    shift = None if evidence.comparison is None else evidence.comparison.shift
    if shift is None:
        return Facts("How far predictions shifted", "", ())
    rows = [
        ("mean prediction, log-odds", words.signed(shift.log_odds, 3)),
        ("mean absolute shift, log-odds", words.number(shift.mean, 3)),
        ("99th percentile of shifts", words.number(shift.p99, 3)),
        ("spread beside the champion's", words.percent(shift.spread)),
        ("shifted far", words.percent(shift.tail_share)),
    ]
    return Facts("How far predictions shifted", "", _known(rows))


def _cost(evidence: Evidence) -> Facts:
    cost = evidence.cost
    if cost is None:
        return Facts("Cost", "", ())
    took = cost.score_p99_ms
    rows = [
        ("training", words.span(cost.train_s)),
        ("examples a second", words.count(cost.examples_per_s)),
        ("size", words.size(cost.bytes)),
        ("the champion's size", words.size(cost.champion_bytes)),
        ("scoring, 99th percentile", words.NO_FIGURE if took is None else f"{words.number(took, 2)} ms"),
    ]
    return Facts("Cost", "", _known(rows))


def _ranking_value(evidence: Evidence) -> Facts:
    title, found = "What its ranking would have earned", evidence.ranking_value
    if found is None:
        return Facts(title, "", ())
    if found.refused is not None:
        return Facts(title, found.refused, ())
    policy = found.challenger
    rows = [
        ("clicks an impression, as logged", _value(found.logged)),
        ("under its order, doubly robust", _value(None if policy is None else policy.doubly_robust)),
        ("under its order, self-normalised", _value(None if policy is None else policy.snips)),
        ("gain", _value(found.gain)),
        ("gain, as a share", words.percent(found.gain_share, signed=True)),
        ("impressions that speak of it", words.count(None if policy is None else policy.effective)),
        ("requests left out", words.count(found.requests_left_out)),
    ]
    return Facts(title, "", _known(rows))


def _value(value: Value | None) -> str:
    if value is None or value.value is None:
        return words.NO_FIGURE
    bounds = "" if value.lower is None else f" ({words.number(value.lower)} to {words.number(value.upper)})"
    return f"{words.number(value.value)}{bounds}"


def _towers(evidence: Evidence) -> Facts:
    title, towers = "Next clicks that its towers find", evidence.towers
    if towers is None:
        return Facts(title, "", ())
    found = towers.next_clicks
    whose = [found.challenger, found.popularity]
    note = "Its own, and what is popular."
    if found.champion is not None:
        whose, note = [found.champion, *whose], "The champion's, its own, and what is popular."
    rows = [
        ("clicks looked for", words.count(found.clicks)),
        *(
            (f"found among {k} items", ", ".join(words.percent(each.at[k]) for each in whose if each.at[k] is not None))
            for k in found.challenger.at
        ),
        (f"gained among {found.among} items", words.percent(found.difference.mean, signed=True)),
        ("at worst", words.percent(found.difference.lower, signed=True)),
        ("at best", words.percent(found.difference.upper, signed=True)),
    ]
    return Facts(title, note, _known(rows))


def _skew(evidence: Evidence) -> Facts:
    title, skew = "Features served against joined", evidence.skew
    if skew is None or not skew.rows:
        return Facts(title, "", ())
    rows = [
        ("impressions compared", words.count(skew.rows)),
        ("values compared", words.count(skew.values)),
        ("values that differ", words.percent(skew.differing_share)),
        *((found.feature, f"differs on {words.percent(found.share)}") for found in skew.worst[:5]),
    ]
    return Facts(title, "", _known(rows))


def _window(evidence: Evidence) -> Facts:
    window, before = evidence.window, evidence.prequential
    rows = [
        ("impressions", words.count(window.impressions)),
        ("label rate", words.percent(window.label_rate)),
        ("without a served row", words.count(window.without_row)),
        ("freshness", words.span(window.freshness_s)),
        ("champion's AUC on all of it", words.number(None if before is None else before.auc)),
        ("champion's log loss on all of it", words.number(None if before is None else before.log_loss)),
    ]
    return Facts("The window", "", _known(rows))


def _known(rows: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(row for row in rows if row[1] not in ("", words.NO_FIGURE))
