"""Each hypothesis keeps what its answer promises, and its finding is a sentence that a person understands."""

import math

import numpy as np
import pytest

from monitoring.evaluation.process_record import ProcessRecord
from monitoring.gate.hypotheses import NotWorse, baseline_moves, better, no_ratchet, not_worse
from monitoring.sentences import percent
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import FEWEST_FOR_NORMAL, Moments

MARGIN = 0.005


def candidate(mean: float, n: int = 1_913, spread: float = 0.125) -> Moments:
    return Moments(n, mean, spread**2)


def process(*means: float) -> ProcessRecord:
    record = ProcessRecord()
    for mean in means:
        record = record.add(candidate(mean), loss=MARGIN)
    return record


def routine(mean: float, record: ProcessRecord, n: int = 1_913) -> NotWorse:
    """The answer to a routine challenger of that gain."""
    return not_worse(candidate(mean, n), record, margin=MARGIN, impressions=5 * n)


def code(mean: float, record: ProcessRecord) -> str:
    return routine(mean, record).finding.code


def test_a_sound_process_goes_live_from_its_first_full_window() -> None:
    answer = routine(0.006, ProcessRecord())
    assert (answer.word, answer.finding.code) == ("promote", "not_worse")
    assert answer.process == process(0.006)


def test_thin_windows_wait_until_together_they_show_it() -> None:
    record, words = ProcessRecord(), []
    for _ in range(40):
        answer = routine(0.002, record, 301)
        words.append(answer.word)
        record = answer.process
    assert words[0] == "hold"
    assert words[-1] == "promote"
    assert words == sorted(words)  # first all that wait, then all that go


def test_one_window_of_a_known_process_may_be_bad_but_not_beyond_chance() -> None:
    known = process(*[0.005] * 30)
    assert code(-0.003, known) == "not_worse"
    assert (routine(-0.009, known).word, code(-0.009, known)) == ("hold", "shown_worse")
    # Improbable, but no more: it waits, and its window is trained on later.
    assert (routine(-0.015, known).word, code(-0.015, known)) == ("hold", "shown_worse")
    assert (routine(-0.03, known).word, code(-0.03, known)) == ("reject", "worse_beyond_chance")


@pytest.mark.parametrize("n", [0, 1, FEWEST_FOR_NORMAL - 1])
def test_too_few_requests_wait_whatever_they_show(n: int) -> None:
    few = Moments(n, 0.5 if n else 0.0, 0.01 if n > 1 else 0.0)
    answer = not_worse(few, process(*[0.005] * 30), margin=MARGIN)
    assert (answer.word, answer.finding.code, answer.caught_share) == ("hold", "too_thin", None)
    new_design = better(few, past=PastTests(), risk=0.05)
    assert (new_design.word, new_design.finding.code) == ("hold", "too_thin")
    assert new_design.tests == PastTests(), "what cannot be tested costs nothing"


def test_a_loss_at_which_a_candidate_is_caught_is_caught_nine_times_in_ten() -> None:
    known, random = process(*[0.005] * 200), np.random.default_rng(5)
    loss = routine(0.0, known).caught_share
    assert loss is not None
    words = [routine(-loss + random.normal(0, candidate(0).error), known).word for _ in range(500)]
    assert 0.86 < 1 - words.count("promote") / 500 < 0.94


def test_a_process_that_loses_a_little_each_time_waits() -> None:
    answer = routine(-0.002, process(*[-0.002] * 200))
    assert (answer.word, answer.finding.code) == ("hold", "process_loses")


def test_a_process_that_turned_worse_waits_though_its_record_is_good() -> None:
    turned = process(*[0.006] * 300, *[-0.006] * 6)
    answer = routine(0.0, turned)
    assert (answer.word, answer.finding.code) == ("hold", "cusum_alarm")
    assert routine(0.0, turned.reset()).word == "promote"


def test_an_identical_challenger_is_not_worse_and_not_better() -> None:
    same = Moments.of(np.zeros(500))
    assert not_worse(same, ProcessRecord(), margin=MARGIN).word == "promote"
    assert better(same, past=PastTests(), risk=0.05).word == "hold"


def test_better_is_shown_rejected_or_waits() -> None:
    shown = better(candidate(0.01, 4_000), past=PastTests(), risk=0.05)
    assert (shown.word, shown.finding.code) == ("promote", "shown_better")
    assert shown.p_value <= shown.level
    assert shown.tests == PastTests(1, promoted=(1,))
    waits = better(candidate(0.003), past=PastTests(), risk=0.05)
    assert (waits.word, waits.finding.code) == ("hold", "not_shown_better")
    assert waits.p_value > waits.level
    worse = better(candidate(-0.02), past=PastTests(), risk=0.05)
    assert (worse.word, worse.finding.code) == ("reject", "shown_worse_design")
    assert waits.tests == worse.tests == PastTests(1)


def test_thin_windows_wait_until_what_they_may_have_lost_in_all_is_shown() -> None:
    """Each may lose as much as the record allows; three of them more than two margins together."""
    thin = candidate(0.0, 300, spread=0.04)
    record, codes = ProcessRecord(), []
    for _ in range(3):
        answer = not_worse(thin, record, margin=0.01)
        codes.append(answer.finding.code)
        record = answer.process.promoted(baseline_moves=False)
    assert codes == ["not_worse"] * 3
    early = ProcessRecord().add(thin, loss=0.01)
    for _ in range(3):
        early = early.promoted(baseline_moves=False)
    waits = not_worse(thin, early, margin=0.01)
    assert (waits.word, waits.finding.code) == ("hold", "sum_not_yet_shown")
    assert (
        "After 3 promotions since the proven baseline it may be 2.2 % higher than that one's" in waits.finding.sentence
    )
    assert waits.finding.sentence.endswith("for what is shown yet, and 2 % is allowed.")
    shown = not_worse(thin, early, margin=0.01, over_baseline=candidate(0.0, 4_000, spread=0.06))
    assert shown.word == "promote", "compared with the baseline itself it has lost less"
    lost = not_worse(thin, early, margin=0.01, over_baseline=candidate(-0.019, 4_000, spread=0.06))
    assert lost.finding.code == "sum_not_yet_shown"


def test_a_design_tried_after_many_others_needs_more() -> None:
    middling, after_many = candidate(0.0085, 4_000), PastTests(2_000)
    first, late = (better(middling, past=past, risk=0.05) for past in (PastTests(), after_many))
    assert (first.word, late.word) == ("promote", "hold")
    assert first.p_value == late.p_value
    assert late.level < first.level / 10
    assert better(middling + middling, past=after_many, risk=0.05).word == "promote", "twice the requests show it"


def test_small_losses_that_have_added_up_wait() -> None:
    finding = no_ratchet({"a day ago": candidate(0.001), "proven baseline": candidate(-0.012)}, margin=MARGIN)
    assert (finding.word, finding.code) == ("hold", "losses_added_up")
    fine = no_ratchet({"a day ago": candidate(0.001), "proven baseline": candidate(0.002)}, margin=MARGIN)
    assert (fine.word, fine.code) == ("promote", "no_losses")
    none = no_ratchet({}, margin=MARGIN)
    assert (none.word, none.code) == ("promote", "no_reference")


def test_a_loss_that_is_the_champions_own_holds_no_challenger() -> None:
    lost = {"proven baseline": candidate(-0.012)}
    its_own = no_ratchet(lost, margin=MARGIN, over_champion=candidate(0.001, spread=0.01))
    assert (its_own.word, its_own.code) == ("promote", "losses_of_the_champion")
    unclear = no_ratchet(lost, margin=MARGIN, over_champion=candidate(0.001))
    assert unclear.code == "losses_added_up", "that the challenger takes nothing away is not shown"


def test_trying_several_times_does_not_slip_past_a_champion_of_before() -> None:
    """Each alone is not shown to be worse; together they are."""
    record, codes = ProcessRecord(), []
    for _ in range(6):
        lost = candidate(-0.006)
        cusums = {"proven baseline": record.against.get("3", 0.0)}
        codes.append(no_ratchet({"proven baseline": lost}, margin=MARGIN, cusums=cusums).code)
        record = record.add(lost, loss=MARGIN, against={"3": lost})
    assert codes[0] == "no_losses"
    assert codes[-1] == "losses_added_up"
    assert record.against["3"] > math.log(50)


def test_the_proven_baseline_moves_only_to_what_is_clearly_better() -> None:
    assert baseline_moves(candidate(0.02))
    assert not baseline_moves(candidate(0.01))
    assert not baseline_moves(Moments(10, 0.5, 0.01))


def test_a_level_that_makes_no_sense_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="margin=0"):
        not_worse(candidate(0.0), ProcessRecord(), margin=0)
    with pytest.raises(ValueError, match=r"risk=0\.7"):
        better(candidate(0.0), past=PastTests(), risk=0.7)
    with pytest.raises(ValueError, match="alarm=1e-09"):
        not_worse(candidate(0.0), ProcessRecord(), margin=0.005, alarm=1e-9)


def test_the_findings_as_sentences() -> None:
    known = process(*[0.005] * 30)
    assert routine(0.006, ProcessRecord()).finding.sentence == (
        "The challenger's log loss on 9,565 impressions of 1,913 requests is 0.6 % lower than the champion's"
        " (at worst 0.1 % lower, 95 %). Over 1 update and 1,913 requests it is 0.6 % lower"
        " (at worst 0.2 % higher, 95 % at all times); allowed is 0.5 % higher."
    )
    loses, turned = process(*[-0.002] * 200), process(*[0.006] * 300, *[-0.006] * 6)
    few, none = (not_worse(thin, known, margin=MARGIN) for thin in (Moments(3, 0.5, 0.1), Moments()))
    of_routine = (
        (routine(-0.009, known), "It is shown to be higher (99.5 %), and allowed is 0.5 %."),
        (routine(-0.03, known), "No chance explains that: at best it is 1.3 % higher, allowed is 0.5 %."),
        (routine(0.0, ProcessRecord(), 301), "95 % at all times); not yet shown to be less than 0.5 % higher."),
        (routine(-0.002, loses), "updates are shown to lose (98 %), if little, and it adds up."),
        (routine(0.0, turned), "the newest challengers lose (CUSUM alarm): chance raises it once in 1,000 updates."),
        (few, "(too few for a bound). Too thin to judge by: it takes 30 requests."),
        (none, "There is nothing to compare the challenger on. Too thin to judge by: it takes 30 requests."),
    )
    for answer, ending in of_routine:
        assert answer.finding.sentence.endswith(ending), answer.finding.sentence
    of_designs = (
        (candidate(0.01, 4_000), "It is shown to be better: an equal one looks so good once in "),
        (candidate(0.003), "It is not shown to be better: an equal one looks so good once in 7 times; it takes once"),
        (candidate(-0.03), "It is worse, and by no chance: at best 1.3 % higher."),
    )
    for gains, words in of_designs:
        sentence = better(gains, past=PastTests(), risk=0.05).finding.sentence
        assert words in sentence, sentence
    assert no_ratchet(
        {"a day ago": candidate(-0.012), "proven baseline": candidate(-0.012)}, margin=MARGIN
    ).sentence == (
        "Small losses have added up: the challenger's log loss is 1.2 % higher than that of the champion of a day ago"
        " (at best 0.4 % higher, 99.8 %) and 1.2 % higher than the proven baseline's (at best 0.4 % higher, 99.8 %)."
    )


def test_shares_have_the_digits_they_need() -> None:
    texts = [percent(share) for share in (0.12, 0.95, 0.995, 0.998, 0.999, 0.05, 0.0081, 0.0003, 0.0, 0.00001)]
    assert texts == ["12 %", "95 %", "99.5 %", "99.8 %", "99.9 %", "5 %", "0.8 %", "0.03 %", "0 %", "0 %"]
