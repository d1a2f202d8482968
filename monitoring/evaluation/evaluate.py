"""All that is measured of a challenger before the gate decides, as the plain figures that are kept as evidence.

    figures = gather(candidate, before, contexts=("device", "region"), seed=update_id, clock=time.perf_counter)

What is judged is either the later part of the window, which the challenger did not learn from (`tail`), or all of it,
each mini-batch as it was predicted just before it was learned (`progressive`: Blum, Kalai & Langford 1999). Progressive
figures are of the process that ends in the challenger; the very weights that would go live are looked at beside it:
the window scored again, yesterday's impressions, and how far predictions moved.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.log.json_texts import value_of
from models import metrics
from models.examples import EMPTY, Examples
from models.frames import Frame
from models.learning.learner import TrainingResult
from models.learning.model import Model
from monitoring.evaluation import compare
from monitoring.evaluation.cost import model_bytes, scoring_p99_ms
from monitoring.evaluation.process_record import Record
from monitoring.gate import hypotheses as questions
from monitoring.gate.policy import Policy
from monitoring.statistics.error_control import Past
from monitoring.statistics.sequential import Moments

Judging = Literal["tail", "progressive"]
Question = Literal["not_worse", "better"]

COST_ROWS = 50
"""Candidates in a request whose scoring is timed."""

HEAD = 0.2
"""Share of a window's items, those shown most, that are its head."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """A champion of before, to see that small permitted losses do not add up."""

    name: str
    """'a day ago', 'a week ago' or 'standard'."""

    version: str
    model: Model


@dataclass(frozen=True, eq=False)
class Before:
    """What a surface knew before the window."""

    record: Record
    """The updating process so far."""

    tests: Past = field(default_factory=Past)
    """The designs tried so far, for the error control."""

    anchors: Sequence[Anchor] = ()

    champion: str | None = None
    """Version in service."""

    standard: str | None = None
    """Version of the last champion that was shown better than the standard before it."""

    frozen: Frame | None = None
    """Impressions of an older window, on which forgetting shows."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A challenger, and what it was made from and is judged on."""

    window: Frame
    """[N rows], those learned from and those judged."""

    first: int
    """The judged part begins at this row; 0 with `progressive`."""

    judging: Judging
    question: Question
    champion: Model | None
    champion_scores: NDArray[np.float64] | None
    """[N], of the whole window; None where there is no champion."""

    challenger: Model
    learned: TrainingResult

    def judged(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows [J] that judge, and the challenger's predictions [J] for them."""
        if self.judging == "tail":
            rows = np.arange(self.first, len(self.window))
            return rows, self.challenger.score(self.window.examples[self.first :])
        rows = np.arange(self.learned.reached)
        return rows, self.learned.predicted[rows]


def gather(
    candidate: Candidate,
    before: Before,
    *,
    policy: Policy,
    contexts: Sequence[str],
    fairness: str | None = None,
    seed: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Measure a candidate.

    `contexts`: keys of the impressions' context to look at by value; `fairness`: one of them, or a column of the
    window's table, whose values must be treated alike.
    """
    rows, scores = candidate.judged()
    part = candidate.window.examples[rows]
    table = candidate.window.table[rows]
    served = None if candidate.champion_scores is None else candidate.champion_scores[rows]
    columns, kinds = slices(table, part, contexts, candidate.champion)
    attribute = None if fairness is None else {fairness: attribute_of(table, fairness)}
    quality = compare.compare(
        part.label,
        part.request,
        challenger=scores,
        champion=served,
        slices=columns,
        kinds=kinds,
        attributes=attribute,
        progressive=candidate.judging == "progressive",
        seed=seed,
    )
    figures: dict[str, Any] = {
        "judging": candidate.judging,
        "question": candidate.question,
        "quality": quality,
        "learned": as_learned(
            candidate.learned, len(candidate.window) if candidate.judging == "progressive" else candidate.first
        ),
        "cost": cost(candidate, clock),
    }
    final = candidate.challenger.score(candidate.window.examples) if candidate.judging == "progressive" else None
    if final is not None:
        figures["final_not_finite"] = int((~np.isfinite(final)).sum())
    if candidate.champion is None or "moments" not in quality.get("paired", {}):
        return figures  # nothing to compare with, or on; or predictions that are not numbers
    anchors = [anchored(anchor, part, scores) for anchor in before.anchors]
    figures["anchors"] = [row for row in anchors if "moments" in row]  # others predict no numbers
    figures["standard"] = before.standard
    figures |= remembered(candidate, before, policy, quality, figures["anchors"], float(part.time.max()))
    if final is not None:
        figures["again"] = again(candidate, final)
    if before.frozen is not None and len(before.frozen):
        figures["forgetting"] = forgetting(before.frozen, candidate.champion, candidate.challenger)
    return figures


def remembered(
    candidate: Candidate,
    before: Before,
    policy: Policy,
    quality: Mapping[str, Any],
    anchors: Sequence[Mapping[str, Any]],
    until: float,
) -> dict[str, Any]:
    """The process's record, the tests of designs and the standard, before this candidate and after."""
    moments = Moments.from_dict(quality["paired"]["moments"])
    told: dict[str, Any] = {}
    if candidate.question == "better":
        answer = questions.better(moments, past=before.tests, risk=policy.risk)
        told["tests"] = {"before": before.tests.as_dict(), "after": answer.figures["past"]}
        told["process"] = {"before": before.record.as_dict(), "after": before.record.as_dict()}
    else:
        against = {row["version"]: Moments.from_dict(row["moments"]) for row in anchors}
        after = before.record.add(
            moments,
            loss=policy.margin,
            until=datetime.fromtimestamp(until, UTC),
            against=against,
        )
        told["process"] = {"before": before.record.as_dict(), "after": after.as_dict()}
    standard = next((row for row in anchors if row["version"] == before.standard), None)
    against_standard = moments if before.standard == before.champion else None
    if standard is not None:
        against_standard = Moments.from_dict(standard["moments"])
    told["standard_moves"] = against_standard is not None and questions.standard_moves(against_standard)
    told["champion"] = before.champion
    return told


def slices(
    table: pl.DataFrame, part: Examples, contexts: Sequence[str], champion: Model | None
) -> tuple[dict[str, pl.Series], dict[str, str]]:
    """Columns [J] to look at by value, and what kind each is."""
    columns = contexts_of(table, contexts)
    kinds = dict.fromkeys(contexts, "context")
    for kind, new in newcomers(part, champion).items():
        name = {"users": "reader", "items": "item"}[kind]
        columns[name], kinds[name] = named(new, "new", "known"), kind[:-1]
    columns["item's place"], kinds["item's place"] = named(head(table["item_id"]), "head", "tail"), "item"
    return columns, kinds


def newcomers(examples: Examples, champion: Model | None) -> dict[str, NDArray[np.bool_]]:
    """Which impressions [N] are of users without a history, and of items that have no row of their own yet."""
    new = {}
    if examples.history.shape[1]:
        new["users"] = examples.history[:, 0] == EMPTY
    if champion is not None and "item" in champion.layout.ids:
        column = champion.layout.ids.index("item")
        new["items"] = ~champion.tables[column].admitted(examples.ids[:, column])
    return new


def contexts_of(table: pl.DataFrame, names: Sequence[str]) -> dict[str, pl.Series]:
    """Values [J] of several keys of the context, by name."""
    return {name: context_of(table, name) for name in names}


def context_of(table: pl.DataFrame, name: str) -> pl.Series:
    """Values [J] of a key of the context, as text; ``none`` where an impression has none."""
    return value_of(table["context"], name).fill_null("none")


def attribute_of(table: pl.DataFrame, name: str) -> pl.Series:
    return table[name].cast(pl.String) if name in table.columns else context_of(table, name)


def named(flag: NDArray[np.bool_], yes: str, no: str) -> pl.Series:
    return pl.Series(np.where(flag, yes, no))


def head(items: pl.Series) -> NDArray[np.bool_]:
    """Which rows [J] show one of the items shown most."""
    counts = items.value_counts()
    name = items.name or "item_id"
    counts = counts.sort("count", name, descending=[True, False])  # of those shown as often, always the same
    often = counts.head(max(1, round(HEAD * len(counts))))[name]
    return items.is_in(often.implode()).to_numpy()


def anchored(anchor: Anchor, part: Examples, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The candidate against a champion of before, on the same fresh impressions."""
    return {
        "name": anchor.name,
        "version": anchor.version,
        **compare.paired(part.label, part.request, anchor.model.score(part), scores),
    }


def again(candidate: Candidate, scores: NDArray[np.float64]) -> dict[str, Any]:
    """The window scored (`scores` [N]) by the weights that would go live, which have learned from it: they must not be
    worse on it than the champion, which has not."""
    examples, champion = candidate.window.examples, candidate.champion_scores
    assert champion is not None
    return {
        **compare.paired(examples.label, examples.request, champion, scores),
        "log_loss": metrics.log_loss(scores, examples.label),
        "champion_log_loss": metrics.log_loss(champion, examples.label),
        **compare.moved(champion, scores),
    }


def forgetting(frozen: Frame, champion: Model, challenger: Model) -> dict[str, Any]:
    """Both on an older window, which both have learned from or both not."""
    examples = frozen.examples
    before, now = champion.score(examples), challenger.score(examples)
    shown = frozen.table["shown_at"]
    return {
        "from": shown.min(),
        "to": shown.max(),
        "impressions": len(examples),
        "champion_log_loss": metrics.log_loss(before, examples.label),
        "challenger_log_loss": metrics.log_loss(now, examples.label),
        **compare.paired(examples.label, examples.request, before, now),
    }


def cost(candidate: Candidate, clock: Callable[[], float]) -> dict[str, Any]:
    """What the challenger costs: to learn, to keep, to ask."""
    learned = candidate.learned
    return {
        "fine_tune_s": learned.seconds,
        "examples_per_s": learned.examples / learned.seconds if learned.seconds else None,
        "bytes": model_bytes(candidate.challenger),
        "champion_bytes": model_bytes(candidate.champion) if candidate.champion else None,
        "score_rows": COST_ROWS,
        "score_p99_ms": scoring_p99_ms(
            candidate.challenger.score, candidate.window.examples, rows=COST_ROWS, clock=clock
        ),
    }


def as_learned(learned: TrainingResult, asked: int) -> dict[str, Any]:
    """What learning did, in plain values."""
    return {
        "impressions": learned.examples,
        "asked": asked,
        "steps": learned.steps,
        "stopped": learned.stopped,
        "log_loss": learned.log_loss,
        "rows_touched": dict(learned.touched),
        "ids_admitted": {name: len(ids) for name, ids in learned.admitted.items()},
    }
