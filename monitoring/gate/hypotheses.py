"""The three hypotheses that the gate tests on a comparison, each with what its answer promises.

    answer = not_worse(candidate, record, margin=0.005)      # a routine update of the champion's shape
    answer = better(candidate, past=past, risk=0.05)         # a new shape, feature or setting
    finding = no_ratchet({"a day ago": m1, "proven baseline": m2}, margin=0.005)

All figures are gains of the challenger in log loss, paired by request, as shares of the champion's log loss on the same
impressions (`monitoring.statistics.sequential.Moments`); a loss is a negative gain. Nothing here reads or writes
anything.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

from monitoring.evaluation.process_record import CUMULATIVE_LOSS, CUSUM_CEILING, ProcessRecord, cusum_after
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Word
from monitoring.sentences import change, counted, percent
from monitoring.statistics.error_control import PastTests, lord
from monitoring.statistics.sequential import (
    FEWEST_FOR_NORMAL,
    Moments,
    lower,
    lower_once,
    p_value,
    upper,
    upper_once,
)

BOUND = 0.05
"""The bounds that sentences give of a single candidate are one-sided, at this level."""

TUNED_FOR = 5_000
"""Requests at which the record's bound is tightest: early, when it decides. At a hundred times as many it is a fifth
wider than the best there."""

LEAST = math.exp(-CUSUM_CEILING)
"""No level may be smaller: the CUSUM does not count further."""

NO_CHANCE = 1e-9
"""What is rejected is passed over, its window with it: only where no chance explains the loss. A smaller one waits, and
its window is trained on with the next."""

NINE_IN_TEN = -float(special.ndtri(0.1))

PROVEN_BASELINE = "proven baseline"


@dataclass(frozen=True)
class NotWorse:
    """Whether a routine challenger may go live."""

    finding: Finding
    process: ProcessRecord
    """With the candidate."""

    caught_share: float | None
    """The true loss that would have been stopped on this candidate nine times in ten."""

    @property
    def word(self) -> Word:
        return self.finding.word


@dataclass(frozen=True)
class Better:
    """Whether a challenger of a new shape is better."""

    finding: Finding
    p_value: float
    level: float
    """The p-value that it takes, after the tests before."""

    tests: PastTests
    """With this one."""

    @property
    def word(self) -> Word:
        return self.finding.word


def not_worse(
    candidate: Moments,
    record: ProcessRecord,
    *,
    margin: float,
    risk: float = 0.05,
    rejects: float = NO_CHANCE,
    holds: float = 0.005,
    losing: float = 0.02,
    alarm: float = 0.001,
    tuned_for: int = TUNED_FOR,
    over_baseline: Moments | None = None,
    impressions: int | None = None,
) -> NotWorse:
    """Whether a routine challenger may go live: the process must be shown not to lose, and this one not to do harm.

    `candidate`: its gains over the champion, on impressions that `record` (the process before it) has not counted;
    `over_baseline`: those over the proven baseline, where that can be compared with.

    Promised of the process: when its candidates lose by `margin` or more, the chance that any is ever promoted is
    `risk` at most, over however many. So until the record shows a gain above -`margin`, candidates wait, the first thin
    ones too; the next window then holds theirs and more. One that is shown to lose at all waits as well, since many
    small losses add up; an equal one does so with chance `losing` at most, ever. A process that turned worse later
    raises the CUSUM alarm, which is false once in 1 / `alarm` updates at most. Nor is more lost since the proven
    baseline than `CUMULATIVE_LOSS` margins (`process_record`): where windows are thin, a loss too small to be seen in
    each is promoted often before it is seen in their sum, so candidates wait until one of two bounds shows that: as
    many promotions as there were, each as bad as the record allows, or the comparison with the baseline itself
    (`_cumulative_bound`).
    Promised of the candidate: one that is equal to the champion is rejected with chance `rejects` at most, and held for
    its own sake with chance `holds` at most. One that loses by `caught_share` or more is stopped nine times in ten.
    Below `sequential.FEWEST` requests nothing can be said of a candidate, and it waits.
    """
    _positive(margin=margin)
    _levels(risk=risk, holds=holds, losing=losing, alarm=alarm)
    process = record.add(candidate, loss=margin, over_baseline=over_baseline)
    shown = lower(process.moments, risk, tuned_for)
    facts = {"compared": _compared(candidate, impressions), "margin": percent(margin)}
    over_all = facts | {"process": _process(process, shown, risk)}

    def answer(code: str, word: Word, facts: Mapping[str, str]) -> NotWorse:
        return NotWorse(Finding(code, word, facts), process, _caught(candidate, margin, holds))

    if candidate.n < FEWEST_FOR_NORMAL:
        return answer("too_thin", "hold", facts | {"least": f"{FEWEST_FOR_NORMAL}"})
    if upper_once(candidate, rejects) < -margin:
        return answer("worse_beyond_chance", "reject", facts | {"best": change(upper_once(candidate, rejects))})
    if _loses(candidate, margin, holds):
        return answer("shown_worse", "hold", facts | {"confidence": percent(1 - holds)})
    if shown <= -margin:
        return answer("not_yet_shown", "hold", over_all)
    if upper(process.moments, losing, tuned_for) < 0:
        return answer("process_loses", "hold", over_all | {"confidence": percent(1 - losing)})
    if process.cusum >= math.log(1 / alarm):
        return answer("cusum_alarm", "hold", over_all | {"updates": f"{1 / alarm:,.0f}"})
    lost = _cumulative_bound(process, min(0.0, shown), risk=risk, tuned_for=tuned_for)
    if lost < -CUMULATIVE_LOSS * margin:
        since = {
            "since": counted(process.since_baseline.promotions, "promotion"),
            "lost": change(lost),
            "in_all": percent(CUMULATIVE_LOSS * margin),
        }
        return answer("sum_not_yet_shown", "hold", over_all | since)
    return answer("not_worse", "promote", over_all)


def requests_to_show(variance: float, *, margin: float, risk: float = 0.05, tuned_for: int = TUNED_FOR) -> int | None:
    """How many requests the record takes until challengers that are as good as the champion are shown to be not worse.

    `variance`: of the gain of a request. None: more than a thousand million.
    """
    _positive(margin=margin)

    def shown(n: int) -> bool:
        return lower(Moments(n, 0.0, variance), risk, tuned_for) > -margin

    low, high = FEWEST_FOR_NORMAL - 1, FEWEST_FOR_NORMAL
    while not shown(high):
        low, high = high, 2 * high
        if high > 1_000_000_000:
            return None
    while high > low + 1 + low // 100:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def better(
    candidate: Moments,
    *,
    past: PastTests,
    risk: float,
    rejects: float = NO_CHANCE,
    impressions: int | None = None,
) -> Better:
    """Whether a challenger of a new shape is better than the champion: a gain above zero is shown.

    Promised: of all challengers promoted by this test, at most the share `risk` in expectation is not better, however
    many are tested; when none ever is, that is the chance that even one is promoted. `past` is what came of the tests
    before. One that is not shown to be better waits for a person; one shown to be worse (at level `rejects`) is
    rejected.
    """
    _levels(risk=risk)
    level, strength = lord(past, risk), p_value(candidate, 0.0)
    thin = candidate.n < FEWEST_FOR_NORMAL
    promoted = not thin and strength <= level
    after = past if thin else past.add(promoted=promoted)
    facts = {"compared": _compared(candidate, impressions), "chances": _chances(strength, level)}

    def answer(code: str, word: Word, more: Mapping[str, str] | None = None) -> Better:
        return Better(Finding(code, word, facts | dict(more or {})), strength, level, after)

    if thin:
        return answer("too_thin", "hold", {"least": f"{FEWEST_FOR_NORMAL}"})
    if promoted:
        return answer("shown_better", "promote")
    if upper_once(candidate, rejects) < 0:
        return answer("shown_worse_design", "reject", {"best": change(upper_once(candidate, rejects))})
    return answer("not_shown_better", "hold")


def no_ratchet(
    references: Mapping[str, Moments],
    *,
    margin: float,
    over_champion: Moments | None = None,
    cusums: Mapping[str, float] | None = None,
    level: float = 0.002,
    together: float = 0.01,
) -> Finding:
    """Whether small permitted losses have added up: the candidate against champions of before, on the same impressions.

    `references`: its gains over the champion "a day ago", "a week ago" and over the proven baseline, by name. `cusums`:
    the evidence that the candidates before it lost against the same ones (`ProcessRecord.against`), so that a slow fall
    is seen in thin windows, and trying again and again does not help. It waits when it is shown (at `level`) to be
    worse than a reference, and by more than half the margin; or when the evidence of all together reaches
    1 / `together`. Per reference, an equal one waits for the first with chance `level`, for the second once in
    1 / `together` updates at most. `over_champion`: its gains over the champion. One that is shown to lose next to
    nothing there takes nothing away: where an older champion does better all the same, as it may at an hour that it
    knows, the loss is the champion's own, and it would stay.

    The proven baseline is the last champion that was shown to be better than the baseline before it
    (`baseline_moves`), so it never moves to a worse one, and what is lost against it is lost in truth.
    """
    _positive(margin=margin)
    _levels(level=level, together=together)
    breaches, safe = [], []
    for name, moments in references.items():
        cusum = cusum_after((cusums or {}).get(name, 0.0), moments, loss=margin)
        compared = f"{change(moments.mean)} than {_reference(name)}"
        if _loses(moments, margin / 2, level):
            breaches.append(f"{compared} (at best {change(upper_once(moments, level))}, {percent(1 - level)})")
        elif cusum >= -math.log(together):
            breaches.append(
                f"{compared}, and with the challengers before it shown to be higher ({percent(1 - together)})"
            )
        elif moments.n:
            safe.append(compared)
    if breaches and over_champion is not None and lower_once(over_champion, BOUND) > -margin / 4:
        return Finding("losses_of_the_champion", "promote", {"losses": _and(breaches)})
    if breaches:
        return Finding("losses_added_up", "hold", {"losses": _and(breaches)})
    if not safe:
        return Finding("no_reference", "promote")
    return Finding("no_losses", "promote", {"gains": _and(safe)})


def _cumulative_bound(process: ProcessRecord, each: float, *, risk: float, tuned_for: int) -> float:
    """A lower confidence bound, at level `risk`, of what the record's last candidate gains over the proven baseline,
    where a promotion gains `each` or more: by their number, or by the comparison itself, whichever is tighter."""
    since = process.since_baseline
    compared = lower(since.gains, risk, tuned_for) + since.staleness * each
    return max((since.promotions + 1) * each, compared)


def baseline_moves(against_baseline: Moments, *, level: float = 1e-5) -> bool:
    """Whether a candidate that is promoted becomes the proven baseline: it is shown to be better than the one that is.

    `level`, small as it is, is tested at each promotion: at ten minutes an update, a false move once in two years.
    """
    return lower_once(against_baseline, level) > 0


def _loses(moments: Moments, tolerated: float, level: float) -> bool:
    """A loss that is shown, and whose size is beyond what is tolerated."""
    return moments.mean < -tolerated and upper_once(moments, level) < 0


def _compared(candidate: Moments, impressions: int | None) -> str:
    if not candidate.n:
        return "There is nothing to compare the challenger on."
    where = counted(candidate.n, "request")
    if impressions is not None:
        where = f"{counted(impressions, 'impression')} of {where}"
    worst = lower_once(candidate, BOUND)
    bound = f"at worst {change(worst)}, {percent(1 - BOUND)}" if math.isfinite(worst) else "too few for a bound"
    return f"The challenger's log loss on {where} is {change(candidate.mean)} than the champion's ({bound})."


def _process(process: ProcessRecord, shown: float, risk: float) -> str:
    return (
        f"Over {counted(process.updates, 'update')} and {counted(process.moments.n, 'request')} it is"
        f" {change(process.moments.mean)} (at worst {change(shown)}, {percent(1 - risk)} at all times)"
    )


def _chances(strength: float, level: float) -> str:
    once = f"{1 / strength:,.0f}" if strength > 1e-9 else "a billion"
    return (
        f"an equal one looks so good once in {once} times; it takes once in {1 / level:,.0f}, after the tests before it"
    )


def _reference(name: str) -> str:
    return "the proven baseline's" if name == PROVEN_BASELINE else f"that of the champion of {name}"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _caught(candidate: Moments, margin: float, holds: float) -> float | None:
    """The true loss that `not_worse` would have stopped on this candidate nine times in ten."""
    if candidate.n < FEWEST_FOR_NORMAL:
        return None
    return max(margin, -float(special.ndtri(holds)) * candidate.error) + NINE_IN_TEN * candidate.error


def _positive(**shares: float) -> None:
    for name, value in shares.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value}: wants a share above 0, such as 0.005")


def _levels(**levels: float) -> None:
    for name, value in levels.items():
        if not LEAST < value < 0.5:
            raise ValueError(f"{name}={value}: wants a level between {LEAST:g} and 0.5")
