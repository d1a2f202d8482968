"""What a backtest found, in figures: the value that the page, the terminal's table and the headline are made from.

    summary = Summary.from_json(json.loads(Path("report/backtest.json").read_text()))
    summary.arms[CHAMPION_ARM].auc

Its JSON is what ``millrace backtest --json`` prints.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from monitoring.evaluation.comparison import Measures
from monitoring.gate.policy import Word
from monitoring.measures import KEYS, MEASURES

Json = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way of serving the same impressions."""

    key: str
    name: str
    meaning: str


CHAMPION_ARM = Arm("champion", "champion", "fresh features, fresh model")
FEATURES_ONLY_ARM = Arm("features_only", "features only", "fresh features, first model")
FROZEN_ARM = Arm("frozen", "frozen", "frozen features, first model")
ARMS = (FROZEN_ARM, FEATURES_ONLY_ARM, CHAMPION_ARM)
"""From the stalest to the freshest; each differs from the one before by one thing."""


def _measures_from(found: Mapping[str, Any]) -> Measures:
    finite: dict[str, Any] = {
        key: float(found[key]) for key in KEYS if found.get(key) is not None and math.isfinite(found[key])
    }
    return Measures(**finite, left_out=found.get("left_out", {}))


def _measures_as_json(measures: Measures) -> Json:
    values = {measure.key: measures.of(measure) for measure in MEASURES}
    return {**values, **({"left_out": dict(measures.left_out)} if measures.left_out else {})}


ByArm = Mapping[Arm, Measures]
"""The arms over the same impressions."""


def _arms_from(found: Mapping[str, Any]) -> dict[Arm, Measures]:
    return {arm: _measures_from(found[arm.key]) for arm in ARMS}


def _arms_as_json(arms: ByArm) -> Json:
    return {arm.key: _measures_as_json(arms[arm]) for arm in reversed(ARMS)}


@dataclass(frozen=True)
class WindowSummary:
    """Impressions shown in ``(start, end]``, each scored before any model trained on it."""

    start: datetime
    end: datetime
    impressions: int
    arms: ByArm

    by_base_rate: bool = False
    """No model was in service."""

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "WindowSummary":
        return WindowSummary(
            _time(found["start"]),
            _time(found["end"]),
            found["impressions"],
            _arms_from(found),
            found["served_by"] == "base_rate",
        )

    def as_json(self) -> Json:
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "impressions": self.impressions,
            "served_by": "base_rate" if self.by_base_rate else "model",
            **_arms_as_json(self.arms),
        }


@dataclass(frozen=True)
class Approval:
    """What came of approving a held challenger, where a backtest plays the analyst."""

    by: tuple[str, ...]
    """Names under which it was approved."""

    refused: str | None = None
    """Why it stayed held; None: it went into service."""

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Approval":
        return Approval(tuple(found["by"]), found["refused"])

    def as_json(self) -> Json:
        return {"by": list(self.by), "refused": self.refused}


UpdateOutcome = Word | Literal["approve"]
"""What became of an update's challenger: the gate's verdict, or that it was approved although the gate had held it."""

OUTCOMES: Mapping[UpdateOutcome, str] = {
    "promote": "promoted",
    "approve": "approved",
    "hold": "held",
    "reject": "rejected",
}
"""What was done with the challenger."""


@dataclass(frozen=True)
class UpdateSummary:
    """One update, over the window ``(start, end]``."""

    start: datetime
    end: datetime
    verdict: Word
    reasons: tuple[str, ...]
    version: str | None

    seconds: Mapping[str, float]
    """By step."""

    approval: Approval | None = None
    """Of a held challenger, where the analyst was played."""

    @property
    def outcome(self) -> UpdateOutcome:
        return "approve" if self.approval is not None and self.approval.refused is None else self.verdict

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "UpdateSummary":
        start, end = map(_time, found["window"])
        approval = found.get("approval")
        return UpdateSummary(
            start,
            end,
            found["verdict"],
            tuple(found["reasons"]),
            found["version"],
            dict(found["seconds"]),
            None if approval is None else Approval.from_json(approval),
        )

    def as_json(self) -> Json:
        return {
            "window": [self.start.isoformat(), self.end.isoformat()],
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "version": self.version,
            "seconds": dict(self.seconds),
            **({} if self.approval is None else {"approval": self.approval.as_json()}),
        }


@dataclass(frozen=True)
class BaseRatePeriod:
    """How long the base rate served, where the warm-up gave no model."""

    reason: str
    impressions: int

    until: datetime | None
    """None: it served nothing."""

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "BaseRatePeriod":
        until = found["until"]
        return BaseRatePeriod(found["reason"], found["impressions"], None if until is None else _time(until))

    def as_json(self) -> Json:
        until = None if self.until is None else self.until.isoformat()
        return {"reason": self.reason, "impressions": self.impressions, "until": until}


@dataclass(frozen=True)
class Summary:
    """A whole backtest."""

    log: str
    """Name of the log's file."""

    impressions: int
    """Imported."""

    evaluated: int
    """Impressions after the warm-up, each scored by every arm."""

    arms: ByArm
    """Over all windows."""

    base_rate: BaseRatePeriod | None
    windows: tuple[WindowSummary, ...]
    updates: tuple[UpdateSummary, ...]
    dead_letters: int
    seconds: float
    seconds_by_part: Mapping[str, float]

    approve_held: bool = False
    """An analyst was played who approves whatever the gate holds."""

    @property
    def no_model_at_all(self) -> bool:
        """The base rate served every impression."""
        return self.base_rate is not None and self.base_rate.impressions == self.evaluated

    def count(self, outcome: UpdateOutcome) -> int:
        """Updates whose challenger ended so."""
        return sum(update.outcome == outcome for update in self.updates)

    @property
    def approvals_refused(self) -> int:
        """Held challengers that could not be approved; they are among those held."""
        return sum(update.approval is not None and update.approval.refused is not None for update in self.updates)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Summary":
        base_rate = found["base_rate"]
        return Summary(
            log=found["log"],
            impressions=found["impressions"],
            evaluated=found["scored"],
            arms=_arms_from(found),
            base_rate=None if base_rate is None else BaseRatePeriod.from_json(base_rate),
            windows=tuple(map(WindowSummary.from_json, found["windows"])),
            updates=tuple(map(UpdateSummary.from_json, found["updates"])),
            dead_letters=found["dead_letters"],
            seconds=found["seconds"],
            seconds_by_part=dict(found["seconds_by_part"]),
            approve_held="approve_held" in found,
        )

    def as_json(self) -> Json:
        return {
            "log": self.log,
            "impressions": self.impressions,
            "scored": self.evaluated,
            **_arms_as_json(self.arms),
            "base_rate": None if self.base_rate is None else self.base_rate.as_json(),
            "windows": [window.as_json() for window in self.windows],
            "updates": [update.as_json() for update in self.updates],
            **({"approve_held": self._outcomes_as_json()} if self.approve_held else {}),
            "dead_letters": self.dead_letters,
            "seconds": self.seconds,
            "seconds_by_part": dict(self.seconds_by_part),
        }

    def _outcomes_as_json(self) -> Json:
        """How many updates ended how; the approvals refused are among those held."""
        counts = {done: self.count(outcome) for outcome, done in OUTCOMES.items()}
        return {**counts, "approvals_refused": self.approvals_refused}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
