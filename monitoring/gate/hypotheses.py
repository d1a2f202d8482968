"""The three questions the gate asks of a comparison, each with what its answer promises.

    answer = not_worse(candidate, record, margin=0.005)      # a routine update of the same design
    answer = better(candidate, past=past, risk=0.05)         # a new design, feature or setting
    answer = no_ratchet({"a day ago": m1, "standard": m2}, margin=0.005)

All figures are gains of the challenger in log loss, paired by request, as shares of the champion's log loss on the same
impressions (`monitoring.statistics.sequential.Moments`); a loss is a negative gain. Nothing here reads or writes
anything.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from monitoring.evaluation.process_record import HARM_CEILING, Record, harm_after
from monitoring.sentences import change, many, percent
from monitoring.statistics.error_control import Control, Past, e_lond, lord
from monitoring.statistics.sequential import (
    FEWEST,
    Moments,
    log_e_value,
    lower,
    lower_once,
    p_value,
    upper,
    upper_once,
)

Word = Literal["promote", "hold", "reject"]

TOLD = 0.05
"""The bounds told of a single candidate are one-sided, at this level."""

TUNED_FOR = 5_000
"""Requests at which the record's bound is tightest: early, when it decides. At a hundred times as many it is a fifth
wider than the best there."""

LEAST = math.exp(-HARM_CEILING)
"""No level may be smaller: the evidence of harm is not counted further."""

NO_CHANCE = 1e-9
"""What is rejected is passed over, its window with it: only where no chance explains the loss. A smaller one waits, and
its window is learned with the next."""

NINE_IN_TEN = -NormalDist().inv_cdf(0.1)


@dataclass(frozen=True)
class Answer:
    """What one question says: `word`, a sentence for people, and the figures it rests on (None: not defined)."""

    word: Word
    sentence: str
    figures: dict[str, Any]


def not_worse(
    candidate: Moments,
    record: Record,
    *,
    margin: float,
    risk: float = 0.05,
    harm: float = NO_CHANCE,
    doubt: float = 0.005,
    losing: float = 0.02,
    alarm: float = 0.001,
    tuned_for: int = TUNED_FOR,
    impressions: int | None = None,
) -> Answer:
    """Whether a routine challenger may go live: the process must be shown not to lose, and this one not to do harm.

    `candidate`: its gains over the champion, on impressions that `record` (the process before it) has not counted.

    Promised of the process: when its candidates lose by `margin` or more, the chance that any is ever promoted is
    `risk` at most, over however many. So until the record shows a gain above -`margin`, candidates wait, the first thin
    ones too; the next window then holds theirs and more. One that is shown to lose at all waits as well, since many
    small losses add up; an equal one does so with chance `losing` at most, ever. A process that turned worse later is
    told by the watch for harm, which wakes falsely once in 1 / `alarm` updates at most.
    Promised of the candidate: one that is equal to the champion is rejected with chance `harm` at most, and held for
    its own sake with chance `doubt` at most. One that loses by `figures['caught_share']` or more is stopped nine times
    in ten. Below `sequential.FEWEST` requests nothing can be said of a candidate, and it waits.
    """
    _positive(margin=margin)
    _levels(risk=risk, doubt=doubt, losing=losing, alarm=alarm)
    process = record.add(candidate, loss=margin)
    shown = lower(process.moments, risk, tuned_for)
    figures = _told(candidate) | {
        "question": "not_worse",
        "margin": margin,
        "risk": risk,
        "caught_share": _caught(candidate, margin, doubt),
        "process": process.as_dict() | {"gain_share": process.moments.mean, "lower_share": _finite(shown)},
    }
    told = _opening(candidate, impressions)
    if candidate.n < FEWEST:
        return Answer("hold", f"{told} Too thin to tell harm: it takes {FEWEST} requests.", figures)
    if upper_once(candidate, harm) < -margin:
        best = change(upper_once(candidate, harm))
        return Answer(
            "reject",
            f"{told} That is harm, and no chance: at best it is {best}, allowed is {percent(margin)}.",
            figures,
        )
    if _loses(candidate, margin, doubt):
        sure = percent(1 - doubt)
        return Answer("hold", f"{told} It is shown to be higher ({sure}), and allowed is {percent(margin)}.", figures)
    growing = _growing(process, shown, risk)
    if shown <= -margin:
        return Answer("hold", f"{told} {growing}; not yet shown to be less than {percent(margin)} higher.", figures)
    if upper(process.moments, losing, tuned_for) < 0:
        sure = percent(1 - losing)
        return Answer(
            "hold", f"{told} {growing}: updates are shown to lose ({sure}), if little, and it adds up.", figures
        )
    if process.log_harm >= math.log(1 / alarm):
        return Answer(
            "hold",
            f"{told} {growing}, but lately challengers lose: so strong a sign comes by chance"
            f" once in {1 / alarm:,.0f} updates.",
            figures,
        )
    return Answer("promote", f"{told} {growing}; allowed is {percent(margin)} higher.", figures)


def better(
    candidate: Moments,
    *,
    past: Past,
    risk: float,
    control: Control = lord,
    looks: Literal["once", "any time"] = "once",
    harm: float = NO_CHANCE,
    tuned_for: int = TUNED_FOR,
    impressions: int | None = None,
) -> Answer:
    """Whether a challenger of a new design is better than the champion: a gain above zero is shown.

    Promised: of all challengers promoted by this question, at most the share `risk` in expectation is not better,
    however many are asked; when none ever is, that is the chance that even one is promoted. `past` is what came of
    the questions before; store ``figures['past']`` for the next. One that is not shown to be better waits for a person;
    one shown to be worse (at level `harm`) is rejected.

    `looks`: "once" when the candidate is judged on one window and never asked of again; "any time" when it is one
    design whose windows pile up, asked of with each (the e-value then counts; with `control` e_lond it always does).
    """
    _levels(risk=risk)
    level = control(past, risk)
    if looks == "any time" or control is e_lond:
        strength = math.exp(min(0.0, -log_e_value(candidate, 0.0, tuned_for)))
    else:
        strength = p_value(candidate, 0.0)
    thin = candidate.n < FEWEST
    promoted = not thin and strength <= level
    after = past if thin else past.add(strength, promoted=promoted)
    figures = _told(candidate) | {
        "question": "better",
        "risk": risk,
        "p_value": strength,
        "level": level,
        "past": after.as_dict(),
    }
    told = _opening(candidate, impressions)
    if thin:
        return Answer("hold", f"{told} Too thin to tell: it takes {FEWEST} requests.", figures)
    if promoted:
        return Answer("promote", f"{told} It is shown to be better: {_chances(strength, level)}.", figures)
    if upper_once(candidate, harm) < 0:
        best = change(upper_once(candidate, harm))
        return Answer("reject", f"{told} It is worse, and by no chance: at best {best}.", figures)
    return Answer("hold", f"{told} It is not shown to be better: {_chances(strength, level)}.", figures)


def no_ratchet(
    anchors: Mapping[str, Moments],
    *,
    margin: float,
    over_champion: Moments | None = None,
    log_harm: Mapping[str, float] | None = None,
    level: float = 0.002,
    together: float = 0.01,
) -> Answer:
    """Whether small permitted losses have added up: the candidate against older champions on the same impressions.

    `anchors`: its gains over the champion "a day ago", "a week ago" and over the "standard", by name. `log_harm`: the
    evidence that the candidates before it lost against the same ones (`Record.against`, by version), so that a slow
    fall is seen in thin windows, and trying again and again does not help. It waits when it is shown (at `level`) to be
    worse than an anchor, and by more than half the margin; or when the evidence of all together reaches
    1 / `together`. Per anchor, an equal one waits for the first with chance `level`, for the second once in
    1 / `together` updates at most. `over_champion`: its gains over the champion. One that is shown to lose next to
    nothing there takes nothing away: where an older champion does better all the same, as it may at an hour that it
    knows, the loss is the champion's own, and it would stay.

    The standard is the last champion that was shown to be better than the standard before it (`standard_moves`), so it
    never moves to a worse one, and what is lost against it is lost in truth. A process that loses by half the margin
    each time, on windows of 4,000 requests, stops short of two margins in all but a few runs of a hundred
    (`benchmarks/gate_simulations.py`); on thinner windows it is seen later.
    """
    _positive(margin=margin)
    _levels(level=level, together=together)
    breaches, safe, figures = [], [], []
    for name, moments in anchors.items():
        evidence = harm_after((log_harm or {}).get(name, 0.0), moments, loss=margin)
        alone, fallen = _loses(moments, margin / 2, level), evidence >= -math.log(together)
        told = f"{change(moments.mean)} than {_anchor(name)}"
        if alone:
            breaches.append(f"{told} (at best {change(upper_once(moments, level))}, {percent(1 - level)})")
        elif fallen:
            breaches.append(f"{told}, and with the challengers before it shown to be higher ({percent(1 - together)})")
        elif moments.n:
            safe.append(told)
        figures.append({"name": name, "log_harm": evidence, "breach": alone or fallen} | _told(moments))
    told_of = {"margin": margin, "anchors": figures}
    if breaches and over_champion is not None and lower_once(over_champion, TOLD) > -margin / 4:
        told = f"The challenger's log loss is {_and(breaches)}, which is no more than the champion has lost already."
        return Answer("promote", told, told_of)
    if breaches:
        sentence = f"Small losses have added up: the challenger's log loss is {_and(breaches)}."
        return Answer("hold", sentence, told_of)
    if not safe:
        return Answer("promote", "There is no older champion to compare with.", told_of)
    return Answer("promote", f"No losses add up: the challenger's log loss is {_and(safe)}.", told_of)


def standard_moves(against_standard: Moments, *, level: float = 1e-5) -> bool:
    """Whether a candidate that is promoted becomes the standard: it is shown to be better than the one that is.

    `level`, small as it is, is asked at each promotion: at ten minutes an update, a false move once in two years.
    """
    return lower_once(against_standard, level) > 0


def _loses(moments: Moments, tolerated: float, level: float) -> bool:
    """A loss that is shown, and whose size is beyond what is tolerated."""
    return moments.mean < -tolerated and upper_once(moments, level) < 0


def _opening(candidate: Moments, impressions: int | None) -> str:
    if not candidate.n:
        return "There is nothing to compare the challenger on."
    where = many(candidate.n, "request")
    if impressions is not None:
        where = f"{many(impressions, 'impression')} of {where}"
    worst = lower_once(candidate, TOLD)
    bound = f"at worst {change(worst)}, {percent(1 - TOLD)}" if math.isfinite(worst) else "too few for a bound"
    return f"The challenger's log loss on {where} is {change(candidate.mean)} than the champion's ({bound})."


def _growing(process: Record, shown: float, risk: float) -> str:
    return (
        f"Over {many(process.updates, 'update')} and {many(process.moments.n, 'request')} it is"
        f" {change(process.moments.mean)} (at worst {change(shown)}, {percent(1 - risk)} at all times)"
    )


def _chances(strength: float, level: float) -> str:
    once = f"{1 / strength:,.0f}" if strength > 1e-9 else "a billion"
    return (
        f"an equal one looks so good once in {once} times; asked is once in {1 / level:,.0f}, after the tests before it"
    )


def _anchor(name: str) -> str:
    return "the standard's" if name == "standard" else f"that of the champion of {name}"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _told(moments: Moments) -> dict[str, Any]:
    return {
        "moments": moments.as_dict(),
        "gain_share": moments.mean if moments.n else None,
        "lower_share": _finite(lower_once(moments, TOLD)),
        "upper_share": _finite(upper_once(moments, TOLD)),
    }


def _caught(candidate: Moments, margin: float, doubt: float) -> float | None:
    """The true loss that `not_worse` would have stopped on this candidate nine times in ten."""
    if candidate.n < FEWEST:
        return None
    return max(margin, -NormalDist().inv_cdf(doubt) * candidate.error) + NINE_IN_TEN * candidate.error


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _positive(**shares: float) -> None:
    for name, value in shares.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value}: wants a share above 0, such as 0.005")


def _levels(**levels: float) -> None:
    for name, value in levels.items():
        if not LEAST < value < 0.5:
            raise ValueError(f"{name}={value}: wants a level between {LEAST:g} and 0.5")
