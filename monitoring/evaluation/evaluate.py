"""Champion against challenger on a window: one function for production, backtest and drill.

    evidence = evaluate(checks, champion, challenger, history)

What is judged is either the later part of the window, which the challenger was not trained on (`tail`), or all of it,
each mini-batch as it was predicted just before it was trained on (`progressive`). Progressive figures are of the
process that ends in the challenger; the very weights that would go live are looked at beside it: the window scored once
more (in sample), yesterday's impressions (forgetting), and how far predictions shifted.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models import metrics
from models.examples import Examples
from models.frames import Frame
from models.learning.learner import TrainingResult
from models.learning.model import Model
from models.learning.scores import Scores
from monitoring.evaluation.compare import compare, measure, paired, prediction_shift
from monitoring.evaluation.comparison import Comparison
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evidence import (
    Evidence,
    Forgetting,
    Hypothesis,
    InSample,
    ReferenceGain,
    Training,
    WindowFacts,
)
from monitoring.evaluation.history import History, Reference
from monitoring.evaluation.lost_queries import LostQuery, Side, lost_queries
from monitoring.evaluation.queries import unreadable
from monitoring.evaluation.rated import RatedComparison
from monitoring.evaluation.reranking import RankingValue, ranking_value
from monitoring.evaluation.retrieval import TowersEvidence
from monitoring.evaluation.slice_columns import attribute, slice_columns
from monitoring.evaluation.text_evidence import TextEvidence
from monitoring.evaluation.units import units_of
from monitoring.evaluation.window import Champion, Checks, Window
from monitoring.statistics.bootstrap import finite


@dataclass(frozen=True, eq=False)
class Trained:
    """A challenger: a model just trained on a window's training part, and how that went."""

    model: Model
    learned: TrainingResult
    hypothesis: Hypothesis
    cost: Cost
    towers: TowersEvidence | None = None
    """What its towers retrieve, on a surface that has some."""

    rated: RatedComparison | None = None
    """How its encoder orders rated pairs, on a surface that has some."""


def evaluate(checks: Checks, champion: Champion | None, challenger: Trained | None, history: History) -> Evidence:
    """All that can be measured of a challenger; of a window that nothing was trained on (None), what its checks say."""
    window, examples = checks.window, checks.window.frame.examples
    evidence = Evidence(
        window=WindowFacts(
            window.start,
            window.end,
            len(examples),
            finite(metrics.mean(examples.label.astype(np.float64))),
            window.frame.without_row,
            freshness_s=None if challenger is None else (window.as_of - window.split).total_seconds(),
        ),
        judged=window.terms.judging,
        champion=None if champion is None else champion.version,
        checks=checks.found,
        prequential=checks.prequential,
        drift=None if checks.drift is None else checks.drift.drift,
        season_drift=None if checks.season_drift is None else checks.season_drift.drift,
        query_drift=checks.query_drift,
        skew=window.skew,
    )
    if challenger is None:
        return evidence
    judged = JudgedPart.of(checks, challenger)
    evidence = replace(
        evidence,
        hypothesis=challenger.hypothesis,
        comparison=judged.comparison(champion),
        training=_training(challenger.learned, window.trained_to),
        cost=challenger.cost,
        ranking_value=judged.ranking_value(),
        towers=challenger.towers,
        text=judged.text_evidence(challenger.rated),
    )
    if judged.final is not None:
        evidence = replace(evidence, not_finite=int((~np.isfinite(judged.final.ranked)).sum()))
    return evidence if champion is None else _beside(evidence, judged, champion, history)


def _beside(evidence: Evidence, judged: "JudgedPart", champion: Champion, history: History) -> Evidence:
    """What is measured beside the comparison with the champion, and the process record with it."""
    assert evidence.comparison is not None
    moments, recalled = evidence.comparison.gain.moments, history.recalled
    if moments is None:  # nothing to compare with, or on; or predictions that are not numbers
        return evidence
    gains = (judged.over(reference) for reference in history.references)
    references = tuple(found for found in gains if found.gain.moments is not None)  # others predict no numbers
    evidence = replace(
        evidence,
        references=references,
        baseline=recalled.baseline,
        in_sample=judged.in_sample(),
        process=recalled.process,
        process_after=recalled.process,
    )
    if history.earlier is not None and len(history.earlier):
        evidence = replace(evidence, forgetting=forgetting(history.earlier, champion.model, judged.challenger))
    if evidence.hypothesis == "better":
        return replace(evidence, tests=recalled.tests)
    return replace(
        evidence,
        process_after=recalled.process.add(
            moments,
            loss=judged.window.terms.margin,
            judged_to=datetime.fromtimestamp(float(judged.examples.time.max()), UTC),
            against={found.version: found.gain.moments for found in references if found.gain.moments is not None},
            over_baseline=evidence.over_baseline,
        ),
    )


@dataclass(frozen=True, eq=False)
class JudgedPart:
    """The part of a window that judges, [J] impressions."""

    window: Window
    rows: slice
    """Of the window's frame."""

    scores: Scores
    """[J], the challenger's."""

    served: Scores | None
    """[N], the champion's of the whole window."""

    challenger: Model
    final: Scores | None
    """[N], of the whole window by the weights that would go live, where these were trained on it."""

    @classmethod
    def of(cls, checks: Checks, challenger: Trained) -> "JudgedPart":
        window, examples = checks.window, checks.window.frame.examples
        served = None if checks.scores is None else Scores(checks.scores, checks.as_shown)
        if window.terms.judging == "tail":
            rows = slice(window.trained_to, len(examples))
            return cls(window, rows, Scores.of(challenger.model, examples[rows]), served, challenger.model, None)
        rows, learned = slice(challenger.learned.reached), challenger.learned
        scores = Scores(learned.predicted, learned.as_shown)[rows]
        return cls(window, rows, scores, served, challenger.model, Scores.of(challenger.model, examples))

    @property
    def examples(self) -> Examples:
        return self.window.frame.examples[self.rows]

    @property
    def table(self) -> pl.DataFrame:
        return self.window.frame.table[self.rows]

    @property
    def champion_scores(self) -> Scores | None:
        """[J]"""
        return None if self.served is None else self.served[self.rows]

    def comparison(self, champion: Champion | None) -> Comparison:
        """Challenger against champion, on the whole and by slice."""
        part, table, terms = self.examples, self.table, self.window.terms
        columns, kinds = slice_columns(table, part, terms.contexts, champion)
        units = units_of(part)
        return compare(
            part.label,
            units.codes,
            **sides(self.champion_scores, self.scores),
            of_users=units.of_users,
            slices=columns,
            kinds=kinds,
            attributes=None
            if terms.fairness is None
            else {terms.fairness: attribute(table, terms.fairness, terms.contexts)},
            progressive=terms.judging == "progressive",
            seed=self.window.update_id,
        )

    def over(self, reference: Reference) -> ReferenceGain:
        """Against a champion of before, on the same fresh impressions."""
        part = self.examples
        before = Scores.of(reference.model, part)
        gain = paired(part.label, units_of(part).codes, *both_expected(before, self.scores))
        return ReferenceGain(reference.name, reference.version, gain)

    def in_sample(self) -> InSample | None:
        """The window by the weights that would go live: they must not be worse on it than the champion, which was not
        trained on it."""
        if self.final is None or self.served is None:
            return None
        examples, (served, final) = self.window.frame.examples, both_expected(self.served, self.final)
        return InSample(
            gain=paired(examples.label, units_of(examples).codes, served, final),
            log_loss=finite(metrics.log_loss(final, examples.label)),
            champion_log_loss=finite(metrics.log_loss(served, examples.label)),
            shift=prediction_shift(self.served.ranked, self.final.ranked),
        )

    def text_evidence(self, rated: RatedComparison | None) -> TextEvidence | None:
        """What is measured of its encoder; None where it reads no texts."""
        part, served = self.examples, self.champion_scores
        if self.challenger.text is None:
            return None
        lost: tuple[LostQuery, ...] = ()
        if served is not None and np.isfinite(self.scores.ranked).all():
            expected = both_expected(served, self.scores)
            sides = (Side(served.ranked, expected[0]), Side(self.scores.ranked, expected[1]))
            lost = lost_queries(self.challenger, part, self.table["item_id"].to_list(), *sides)
        return TextEvidence(rated, unreadable(self.challenger, part), lost)

    def ranking_value(self) -> RankingValue | None:
        """What the challenger's order is worth by the logged propensities; None where they are not known."""
        if self.window.propensity is None:
            return None
        part, champion = self.examples, self.champion_scores
        return ranking_value(
            part.label,
            part.request,
            self.table["position"].to_numpy(),
            self.window.propensity[self.rows],
            challenger=self.scores.ranked,
            champion=None if champion is None else champion.ranked,
        )


def both_expected(champion: Scores, challenger: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[N] each: what champion and challenger expect of labels, beside one another."""
    return champion.expected(beside=challenger), challenger.expected(beside=champion)


class Sides(TypedDict):
    """Two models as ``compare`` takes them."""

    challenger: NDArray[np.float64]
    champion: NDArray[np.float64] | None
    expected: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def sides(champion: Scores | None, challenger: Scores) -> Sides:
    if champion is None:
        return Sides(challenger=challenger.ranked, champion=None, expected=None)
    expected = both_expected(champion, challenger)
    return Sides(challenger=challenger.ranked, champion=champion.ranked, expected=expected)


def remeasure(window: Window, champion: Champion | None, challenger: Model) -> Evidence:
    """Both on the impressions of a window that neither was trained on."""
    frame, examples = window.frame, window.frame.examples
    served = None if champion is None else Scores.of(champion.model, examples)
    columns, kinds = slice_columns(frame.table, examples, window.terms.contexts, champion)
    units = units_of(examples)
    return Evidence(
        window=WindowFacts(
            window.start,
            window.end,
            len(examples),
            finite(metrics.mean(examples.label.astype(np.float64))),
            frame.without_row,
        ),
        judged="fresh",
        champion=None if champion is None else champion.version,
        comparison=compare(
            examples.label,
            units.codes,
            **sides(served, Scores.of(challenger, examples)),
            of_users=units.of_users,
            slices=columns,
            kinds=kinds,
            seed=window.update_id,
        ),
        prequential=None
        if served is None
        else measure(examples.label, examples.request, served.ranked, expected=served.as_shown),
    )


def forgetting(earlier: Frame, champion: Model, challenger: Model) -> Forgetting:
    """Both on an older window, which both were trained on or both not."""
    examples = earlier.examples
    before, now = both_expected(Scores.of(champion, examples), Scores.of(challenger, examples))
    shown = earlier.table["shown_at"]
    start, end = shown.min(), shown.max()
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    return Forgetting(
        start,
        end,
        len(examples),
        finite(metrics.log_loss(before, examples.label)),
        finite(metrics.log_loss(now, examples.label)),
        paired(examples.label, units_of(examples).codes, before, now),
    )


def _training(learned: TrainingResult, given: int) -> Training:
    return Training(
        learned.examples,
        given,
        learned.steps,
        learned.stopped,
        finite(learned.log_loss),
        rows_touched=dict(learned.touched),
        ids_admitted={name: len(ids) for name, ids in learned.admitted.items()},
    )
