"""Evidence: all that was measured about a challenger, as one value.

A part a kind of measurement, each figure with its sample size and interval; None where it was not measured. It is
written to the database as JSON of a version, and read back as the same value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from monitoring.checks import limits
from monitoring.checks.limits import Check
from monitoring.evaluation.comparison import Comparison, Gain, Measures, PredictionShift
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.drift import Drift
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.query_drift import QueryDrift
from monitoring.evaluation.reranking import RankingValue
from monitoring.evaluation.retrieval import TowersEvidence
from monitoring.evaluation.skew import Skew
from monitoring.evaluation.text_evidence import TextEvidence
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments

VERSION = 1
"""Of the JSON."""

Judged = Literal["progressive", "tail", "fresh", "served", "canary"]
"""What judges: all of a window, each mini-batch as it was predicted just before it was trained on (`progressive`:
Blum, Kalai & Langford 1999); its later part, which was not trained on (`tail`); what has matured since (`fresh`); what
the champion has served (`served`); what both have, each to users of its own (`canary`)."""

Hypothesis = Literal["not_worse", "better"]
"""What a challenger must show: one of the champion's shape that it is not worse, one of another that it is better."""


@dataclass(frozen=True)
class WindowFacts:
    """The impressions that were looked at."""

    start: datetime
    end: datetime
    impressions: int
    label_rate: float | None
    without_row: int
    """Impressions without a served row."""

    freshness_s: float | None = None
    """From the end of the training part to when the update knew the log."""


@dataclass(frozen=True)
class Training:
    """What training did."""

    impressions: int
    given: int
    """Impressions of the training part."""

    steps: int
    stopped: Literal["done", "early", "time"]
    log_loss: float | None
    """Of each impression as it was predicted before it was trained on."""

    rows_touched: Mapping[str, int]
    ids_admitted: Mapping[str, int]
    """By table."""


@dataclass(frozen=True)
class ReferenceGain:
    """The challenger against a champion of before, on the same impressions."""

    name: str
    version: str
    gain: Gain


@dataclass(frozen=True)
class InSample:
    """The window scored by the weights that would go live, which were trained on it, beside the champion, which was
    not."""

    gain: Gain
    log_loss: float | None
    champion_log_loss: float | None
    shift: PredictionShift


@dataclass(frozen=True)
class Forgetting:
    """Both on an older window."""

    start: datetime
    end: datetime
    impressions: int
    champion_log_loss: float | None
    challenger_log_loss: float | None
    gain: Gain


@dataclass(frozen=True)
class StandIn:
    """The version that serves for one whose files are lost; None: a first model is begun anew."""

    lost: str
    version: str | None
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        on = (
            f"version {self.version} stands in, and is trained on from"
            if self.version
            else "a first model is begun anew"
        )
        return f"The files of version {self.lost} are lost: {on}."


@dataclass(frozen=True)
class AtWork:
    """The champion whose own impressions the live watch looked at."""

    version: str
    before: str | None
    promised: Measures | None
    """Of the evidence on which the version went live."""


@dataclass(frozen=True)
class LookedAt:
    """A look at a canary."""

    at: datetime
    word: Literal["wait", "promote", "roll back"]
    figures: Mapping[str, float | int | str | None]
    """`monitoring.live.canary.CanaryLook.path_point`."""


@dataclass(frozen=True)
class CanaryPath:
    """How a canary went, from its begin to the look that ended it."""

    canary_id: int
    version: str
    champion: str
    settings: Mapping[str, float | int | str | None]
    """As its surface declared it when it began."""

    began: datetime
    looks: tuple[LookedAt, ...]
    """Of many the first, the last, and those between at even distances; the table `canary_looks` has all."""


@dataclass(frozen=True)
class Evidence:
    """All that was measured about a challenger, or about a champion at work."""

    window: WindowFacts
    judged: Judged
    hypothesis: Hypothesis | None = None
    champion: str | None = None
    """The version in service."""

    checks: tuple[Check, ...] = ()
    prequential: Measures | None = None
    """The champion's, on the whole window, before anything trained on it."""

    comparison: Comparison | None = None
    training: Training | None = None
    cost: Cost | None = None
    not_finite: int = 0
    """Impressions of the window for which the weights that would go live predict no number."""

    references: tuple[ReferenceGain, ...] = ()
    in_sample: InSample | None = None
    forgetting: Forgetting | None = None
    drift: Drift | None = None
    """From what the champion was trained on."""

    season_drift: Drift | None = None
    """From the same hours of earlier days."""

    query_drift: QueryDrift | None = None
    """From what the champion was trained on."""

    skew: Skew | None = None
    ranking_value: RankingValue | None = None
    towers: TowersEvidence | None = None
    text: TextEvidence | None = None
    process: ProcessRecord | None = None
    """The process record before the challenger, and with it."""

    process_after: ProcessRecord | None = None
    tests: PastTests | None = None
    """The tests of new designs before this one, where the challenger is one."""

    baseline: str | None = None
    """The proven baseline's version."""

    stand_in: StandIn | None = None
    at_work: AtWork | None = None
    canary: CanaryPath | None = None

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        return tuple(limits.failed(self.checks))

    @property
    def over_baseline(self) -> Moments | None:
        """The challenger's gains over the proven baseline; None where it was not compared with it."""
        if self.comparison is not None and self.baseline is not None and self.baseline == self.champion:
            return self.comparison.gain.moments
        return next((found.gain.moments for found in self.references if found.version == self.baseline), None)

    def over(self, earlier: "Evidence") -> "Evidence":
        """This, with what an earlier measurement has and this one has not."""
        lacking = [part.name for part in fields(self) if getattr(self, part.name) in (None, ())]
        return replace(self, **{name: getattr(earlier, name) for name in lacking})

    def as_json(self) -> dict[str, Any]:
        """As JSON has it, without what was not measured."""
        dumped: dict[str, Any] = _adapter().dump_python(self, mode="json", exclude_defaults=True)
        return {"version": VERSION, **dumped}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Evidence":
        """The value that was written. Raises ValueError for JSON of another version."""
        if stored.get("version") != VERSION:
            raise ValueError(f"evidence of version {stored.get('version')!r}; this program reads version {VERSION}")
        evidence: Evidence = _adapter().validate_python({key: stored[key] for key in stored if key != "version"})
        return evidence


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Evidence)
