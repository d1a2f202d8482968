"""Figures beside the comparison on a candidate's page: the process, training, what its ranking would earn, skew."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.desk import words
from monitoring.evaluation.comparison import TAIL_SHIFT
from monitoring.evaluation.counterfactual import Value
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.retrieval import Difference, RetrievalComparison
from monitoring.sentences import counted


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
        _training(evidence),
        _ranking_value(evidence),
        _towers(evidence),
        _rated(evidence),
        _query_drift(evidence),
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
        ("promoted since the proven baseline", words.count(record.since_baseline.promotions)),
        ("CUSUM of evidence that they lose", words.number(record.cusum, 2) if record.cusum > 0 else "none"),
    ]
    return Facts(title, "Of all routine challengers so far, promoted or not.", _known(rows))


def _shift(evidence: Evidence) -> Facts:
    compared = evidence.comparison
    shift = None if compared is None or not compared.against_champion else compared.shift
    if shift is None:
        return Facts("How far predictions shifted", "", ())
    rows = [
        ("mean prediction, log-odds", words.signed(shift.log_odds, 3)),
        ("mean absolute shift, log-odds", words.number(shift.mean, 3)),
        ("99th percentile of shifts", words.number(shift.p99, 3)),
        (f"shifted by more than {TAIL_SHIFT:g}", words.percent(shift.tail_share)),
        ("spread beside the champion's", words.percent(shift.spread)),
    ]
    return Facts("How far predictions shifted", "", _known(rows))


def _training(evidence: Evidence) -> Facts:
    training, cost = evidence.training, evidence.cost
    rows = []
    if training is not None:
        admitted = sorted(training.ids_admitted.items(), key=lambda table: -table[1])
        stopped = {"done": "", "early": "early: predictions became worse", "time": "at its time limit"}
        rows += [
            ("trained on", f"{words.count(training.impressions)} of {counted(training.given, 'impression')}"),
            ("steps", words.count(training.steps)),
            ("stopped", stopped[training.stopped]),
            ("new ids", ", ".join(f"{table} {words.count(ids)}" for table, ids in admitted if ids)),
        ]
    if cost is not None:
        took = cost.score_p99_ms
        rows += [
            ("training", words.span(cost.train_s)),
            ("impressions a second", words.count(cost.examples_per_s)),
            ("size", words.size(cost.bytes)),
            ("the champion's size", words.size(cost.champion_bytes)),
            (
                f"scoring {cost.candidates} candidates, 99th percentile",
                words.NO_FIGURE if took is None else f"{words.number(took, 2)}\N{NO-BREAK SPACE}ms",
            ),
        ]
    return Facts("Training and cost", "", _known(rows))


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
    found, in_sample = towers.next_clicks, towers.in_sample
    gained = found.difference
    bounds = "" if gained.lower is None else f" ({_share(gained.lower)} to {_share(gained.upper)})"
    rows = [
        ("clicks looked for", words.count(found.clicks)),
        *((f"among {k} items", _found(found, k)) for k in found.challenger.at),
        (f"gain among {found.among} items", "" if gained.mean is None else f"{_share(gained.mean)}{bounds}"),
    ]
    if in_sample is not None:
        rows.append((f"in sample, among {in_sample.among}", _found(in_sample, in_sample.among)))
    return Facts(title, "", _known(rows))


def _found(compared: RetrievalComparison, among: int) -> str:
    """``8 % (champion 5 %, popularity 2.5 %)``."""
    own = compared.challenger.at.get(among)
    if own is None:
        return ""
    others = {"champion": compared.champion, "popularity": compared.popularity}
    beside = [f"{name} {words.percent(other.at.get(among))}" for name, other in others.items() if other is not None]
    return f"{words.percent(own)} ({', '.join(beside)})"


def _rated(evidence: Evidence) -> Facts:
    title = "Rated pairs, by its encoder alone"
    rated = None if evidence.text is None else evidence.text.rated
    if rated is None:
        return Facts(title, "", ())
    rows = [
        ("queries", words.count(rated.queries)),
        ("pairs", words.count(rated.pairs)),
        ("NDCG of the first 10", words.number(rated.challenger)),
        ("the champion's", words.number(rated.champion)),
        ("the encoder's as it comes", words.number(rated.as_it_comes)),
        ("gain on the champion", "" if rated.over_champion is None else _gained(rated.over_champion)),
        ("gain on the encoder as it comes", _gained(rated.over_as_it_comes)),
        ("checksum of the file", rated.checksum[:12]),
    ]
    return Facts(title, "", _known(rows))


def _gained(found: Difference) -> str:
    """``+0.0021 (−0.0010 to +0.0052)``."""
    bounds = "" if found.lower is None else f" ({words.signed(found.lower)} to {words.signed(found.upper)})"
    return f"{words.signed(found.mean)}{bounds}"


def _query_drift(evidence: Evidence) -> Facts:
    title, found = "What is asked for", evidence.query_drift
    if found is None:
        return Facts(title, "", ())
    rows = [
        ("different queries, before and now", f"{found.reference_queries:,} and {found.current_queries:,}"),
        ("not asked before", words.percent(found.new)),
        ("MMD² of their vectors", words.number(found.mmd)),
        ("by chance, once in a thousand times", words.number(found.by_chance)),
        ("usual at most", words.number(found.limit)),
        *((query.query, f"likest {query.likest}, cosine {words.number(query.cosine, 2)}") for query in found.farthest),
    ]
    return Facts(title, f"Against {found.against}; last, the queries that are farthest from it.", _known(rows))


def _share(value: float | None) -> str:
    return words.percent(value, signed=True)


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
