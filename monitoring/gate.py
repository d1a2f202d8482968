"""The gate: from what was measured to a verdict, with reasons an analyst understands.

    verdict = decide(Policy(), figures)

`figures` is the plain dict that the evidence keeps: ``figures['checks']`` from ``monitoring/checks.py`` and, once a
challenger has been trained, ``figures['quality']`` from ``monitoring/compare.py``. The same figures and policy always
give the same verdict.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Word = Literal["promote", "hold", "reject"]


@dataclass(frozen=True)
class Policy:
    """What a surface asks of a challenger. Margins are shares of the champion's log loss."""

    reject_margin: float = 0.005
    """Reject when the challenger is shown to be worse, with the confidence of the comparison, by more than this."""

    hold_margin: float = 0.02
    """Hold when the challenger's log loss is higher by more than this, shown or not."""

    calibration_limit: float = 0.05
    """Hold when the challenger's calibration error is beyond this and what chance gives, and above the champion's."""

    shift_limit: float = 0.7
    """Hold when the mean prediction moved by more than this in log-odds; 0.7 doubles or halves the odds."""

    spread_limit: float = 0.1
    """Hold when the challenger's predictions vary less than this share of the champion's: it has gone flat."""

    requests: int = 20
    """Hold when the judging part has fewer requests than this: too thin to say anything."""

    def __post_init__(self) -> None:
        for name in ("reject_margin", "hold_margin", "calibration_limit", "shift_limit", "spread_limit"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"Policy.{name}={value}: wants a finite number, 0 or more")
        if self.requests < 2:
            raise ValueError(f"Policy.requests={self.requests}: a comparison wants at least 2")


@dataclass(frozen=True)
class Verdict:
    """What the gate says of the evidence, and why: what decided comes first."""

    verdict: Word
    reasons: tuple[str, ...]


def decide(policy: Policy, figures: Mapping[str, Any]) -> Verdict:
    """The verdict on `figures`: reject before hold before promote.

    Raises KeyError when there is neither a failed data check nor a comparison: then nothing was measured.
    """
    failed = [check for check in figures.get("checks", []) if not check["passed"]]
    if failed:
        return Verdict("reject", tuple(_failed_check(check) for check in failed))
    quality = figures["quality"]
    broken = _not_finite(quality)
    if broken:
        return Verdict("reject", tuple(broken))
    comparison, word = _comparison(policy, quality)
    if word == "reject":
        return Verdict("reject", (comparison,))
    doubts = _doubts(policy, quality)
    if word == "hold":
        doubts.insert(0, comparison)
    if doubts:
        return Verdict("hold", tuple(doubts if word == "hold" else [*doubts, comparison]))
    return Verdict("promote", (comparison, *_assurances(figures)))


def _failed_check(check: Mapping[str, Any]) -> str:
    sentence = f"Data check '{check['name']}' failed: {check['detail']} Allowed: {check['limit']}."
    rows = list(check["rows"])
    if rows:
        named = ", ".join(rows[:5])
        sentence += f" Impressions: {named}{' and more' if len(rows) > 5 else ''}."
    return sentence


def _not_finite(quality: Mapping[str, Any]) -> list[str]:
    challenger = quality["challenger"]
    if challenger["not_finite"]:
        count, of = challenger["not_finite"], quality["impressions"]
        return [f"The challenger's prediction is not a number on {count:,} of {of:,} impressions."]
    if not quality["impressions"]:
        return []  # thin, not broken: see `_doubts`
    names = {"log_loss": "log loss", "calibration_error": "calibration error", "mean_prediction": "mean prediction"}
    return [f"The challenger's {word} is not a finite number." for key, word in names.items() if _no(challenger[key])]


def _comparison(policy: Policy, quality: Mapping[str, Any]) -> tuple[str, Word]:
    """The sentence on log loss, and what it alone asks for."""
    if not quality["impressions"]:
        return "There is nothing to compare the challenger on.", "hold"
    paired = quality["paired"]
    gain, lower, upper = paired["gain_share"], paired["lower_share"], paired["upper_share"]
    where = f"on {_many(quality['impressions'], 'impression')} of {_many(quality['requests'], 'request')}"
    if _no(gain):
        return f"The log loss {where} cannot be compared with the {_rival(quality)}'s.", "hold"
    sure = f"{paired['confidence']:.0%}".replace("%", " %")
    if quality["baseline"] == "base_rate":
        return _against_base_rate(where, sure, gain, lower, upper)
    told = f"The challenger's log loss {where} is {_change(gain)} than the champion's"
    if not _no(upper) and upper < -policy.reject_margin:
        bound = f"{sure} bound: at best {_change(upper)}"
        return f"{told} ({bound}); shown worse by more than {_percent(policy.reject_margin)} is rejected.", "reject"
    allowed = f"allowed is {_percent(policy.hold_margin)} higher"
    bound = "too few requests for a bound" if _no(lower) else f"{sure} bound: at worst {_change(lower)}"
    return f"{told} ({bound}); {allowed}.", "hold" if gain < -policy.hold_margin else "promote"


def _against_base_rate(
    where: str, sure: str, gain: float, lower: float | None, upper: float | None
) -> tuple[str, Word]:
    """There is no champion: the challenger must beat the constant that predicts the label rate for everything.

    Until one does, each waits: its window is then learned again with what comes, and a young surface gets there.
    """
    told = f"There is no champion yet. The challenger's log loss {where} is {_change(gain)} than that of the base rate"
    if gain <= 0 or (upper is not None and upper <= 0):
        return f"{told}; a first model must be better than that, and has more to learn from later.", "hold"
    if lower is None or lower <= 0:
        bound = "too few requests for a bound" if lower is None else f"{sure} bound: at worst {_change(lower)}"
        return f"{told}, which is not shown ({bound}).", "hold"
    return f"{told} ({sure} bound: at worst {_change(lower)}).", "promote"


def _doubts(policy: Policy, quality: Mapping[str, Any]) -> list[str]:
    """What a person must look at, whatever the log loss says."""
    doubts = []
    if quality["requests"] < policy.requests:
        few = _many(quality["requests"], "request")
        doubts.append(f"The judging part is too thin: {few}, of at least {policy.requests:,}.")
    if not quality["impressions"]:
        return doubts
    challenger, champion = quality["challenger"], quality["champion"]
    error, chance = challenger["calibration_error"], quality["calibration_chance"] or 0.0
    better = quality["baseline"] == "champion" and not _no(champion["calibration_error"])
    if error > policy.calibration_limit + chance and not (better and error <= champion["calibration_error"]):
        doubts.append(
            f"The challenger's calibration error is {error:.3f}; allowed is {policy.calibration_limit:.3f}"
            f" and {chance:.3f} for chance on {_many(quality['impressions'], 'impression')}."
        )
    shift = quality["shift"]
    if not _no(shift["log_odds"]) and abs(shift["log_odds"]) > policy.shift_limit:
        doubts.append(
            f"Predictions have shifted: the mean on the same impressions is {challenger['mean_prediction']:.1%},"
            f" the {_rival(quality)}'s {champion['mean_prediction']:.1%}."
        )
    if not _no(shift["spread"]) and shift["spread"] < policy.spread_limit:
        doubts.append(
            f"Predictions have gone flat: they vary {_percent(shift['spread'])} as much as the {_rival(quality)}'s."
        )
    return doubts


def _assurances(figures: Mapping[str, Any]) -> list[str]:
    quality = figures["quality"]
    told = []
    if figures.get("checks"):
        told.append(f"All {len(figures['checks'])} data checks passed.")
    if not _no(quality["challenger"]["auc"]) and not _no(quality["champion"]["auc"]):
        told.append(
            f"AUC {quality['challenger']['auc']:.4f}, the {_rival(quality)}'s {quality['champion']['auc']:.4f};"
            f" calibration error {quality['challenger']['calibration_error']:.3f}."
        )
    return told


def _rival(quality: Mapping[str, Any]) -> str:
    return "champion" if quality["baseline"] == "champion" else "base rate"


def _change(gain_share: float) -> str:
    """A gain in log loss in words: "0.8 % lower"."""
    return f"{_percent(abs(gain_share))} {'lower' if gain_share >= 0 else 'higher'}"


def _percent(share: float) -> str:
    """A share as percent, with the digits it needs: "12 %", "0.8 %", "0.03 %"."""
    percent = 100 * share
    digits = 0 if percent >= 10 else 1 if percent >= 0.1 or percent == 0 else 2
    text = f"{percent:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _no(value: float | None) -> bool:
    return value is None or not math.isfinite(value)
