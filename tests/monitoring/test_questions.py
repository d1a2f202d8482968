"""Each question keeps what it promises, and says it in a sentence a person understands."""

import json
import math

import numpy as np
import pytest

from monitoring.evaluation.process_record import Record
from monitoring.gate.hypotheses import Answer, better, no_ratchet, not_worse, percent, standard_moves
from monitoring.statistics.error_control import Past, e_lond, saffron
from monitoring.statistics.sequential import FEWEST, Moments

MARGIN = 0.005


def candidate(mean: float, n: int = 1_913, spread: float = 0.125) -> Moments:
    return Moments(n, mean, spread**2)


def process(*means: float) -> Record:
    record = Record()
    for mean in means:
        record = record.add(candidate(mean), loss=MARGIN)
    return record


def asked(mean: float, record: Record, n: int = 1_913) -> Answer:
    return not_worse(candidate(mean, n), record, margin=MARGIN, impressions=5 * n)


def test_a_sound_process_goes_live_from_its_first_full_window() -> None:
    answer = asked(0.006, Record())
    assert answer.word == "promote"
    assert answer.sentence == (
        "The challenger's log loss on 9,565 impressions of 1,913 requests is 0.6 % lower than the champion's"
        " (at worst 0.1 % lower, 95 %). Over 1 update and 1,913 requests it is 0.6 % lower"
        " (at worst 0.2 % higher, 95 % at all times); allowed is 0.5 % higher."
    )
    assert json.loads(json.dumps(answer.figures, allow_nan=False)) == answer.figures


def test_thin_windows_wait_until_together_they_show_it() -> None:
    record, words = Record(), []
    for _ in range(40):
        words.append(asked(0.002, record, 301).word)
        record = record.add(candidate(0.002, 301), loss=MARGIN)
    assert words[0] == "hold"
    assert words[-1] == "promote"
    assert words == sorted(words)  # first all that wait, then all that go


def test_one_window_of_a_known_process_may_be_bad_but_not_harmful() -> None:
    known = process(*[0.005] * 30)
    assert asked(-0.003, known).word == "promote"
    assert "shown to be higher (99.5 %), and allowed is 0.5 %" in asked(-0.009, known).sentence
    assert asked(-0.009, known).word == "hold"
    harmful = asked(-0.03, known)
    assert harmful.word == "reject"
    assert "That is harm, and no chance: at best it is 1.3 % higher, allowed is 0.5 %." in harmful.sentence
    assert asked(-0.015, known).word == "hold", "improbable, but no more: it waits, and its window is learned later"


@pytest.mark.parametrize("n", [0, 1, FEWEST - 1])
def test_too_few_requests_wait_whatever_they_say(n: int) -> None:
    few = Moments(n, 0.5 if n else 0.0, 0.01 if n > 1 else 0.0)
    answer = not_worse(few, process(*[0.005] * 30), margin=MARGIN)
    assert (answer.word, answer.figures["lower_share"]) == ("hold", None)
    asked_better = better(few, past=Past(), risk=0.05)
    assert asked_better.word == "hold"
    assert asked_better.figures["past"] == Past().as_dict()  # what cannot be tested costs nothing


def test_what_a_candidate_alone_would_be_caught_at_is_caught_nine_times_in_ten() -> None:
    known, random = process(*[0.005] * 200), np.random.default_rng(5)
    loss = asked(0.0, known).figures["caught_share"]
    words = [asked(-loss + random.normal(0, candidate(0).error), known).word for _ in range(500)]
    assert 0.86 < 1 - words.count("promote") / 500 < 0.94


def test_a_process_that_loses_a_little_each_time_waits() -> None:
    answer = asked(-0.002, process(*[-0.002] * 200))
    assert answer.word == "hold"
    assert "updates are shown to lose (98 %), if little, and it adds up" in answer.sentence


def test_a_process_that_turned_worse_waits_though_its_record_is_good() -> None:
    turned = process(*[0.006] * 300, *[-0.006] * 6)
    answer = asked(0.0, turned)
    assert answer.word == "hold"
    assert "lately challengers lose" in answer.sentence
    assert asked(0.0, turned.forgiven()).word == "promote"


def test_an_identical_challenger_is_not_worse_and_not_better() -> None:
    same = Moments.of(np.zeros(500))
    assert not_worse(same, Record(), margin=MARGIN).word == "promote"
    assert better(same, past=Past(), risk=0.05).word == "hold"


def test_better_is_shown_rejected_or_waits() -> None:
    shown = better(candidate(0.01, 4_000), past=Past(), risk=0.05, impressions=20_000)
    assert shown.word == "promote"
    assert "It is shown to be better: an equal one looks so good once in " in shown.sentence
    assert "times; asked is once in 11,1" in shown.sentence
    assert better(candidate(0.003), past=Past(), risk=0.05).word == "hold"
    assert better(candidate(-0.02), past=Past(), risk=0.05).word == "reject"
    past = Past.from_dict(shown.figures["past"])
    assert past.promoted == (1,)
    assert json.loads(json.dumps(shown.figures, allow_nan=False)) == shown.figures


def test_a_design_that_is_asked_of_again_and_again_needs_more_and_a_surface_chooses_its_control() -> None:
    middling = candidate(0.0085, 4_000)
    assert better(middling, past=Past(), risk=0.05).word == "promote"
    assert better(middling, past=Past(), risk=0.05, control=saffron).word == "promote"
    assert better(middling, past=Past(), risk=0.05, looks="any time").word == "hold"
    assert better(middling, past=Past(), risk=0.05, control=e_lond).word == "hold"
    assert better(middling + middling, past=Past(), risk=0.05, looks="any time").word == "promote"


def test_small_losses_that_have_added_up_wait() -> None:
    answer = no_ratchet({"a day ago": candidate(0.001), "standard": candidate(-0.012)}, margin=MARGIN)
    assert answer.word == "hold"
    assert answer.sentence == (
        "Small losses have added up: the challenger's log loss is 1.2 % higher than the standard's"
        " (at best 0.4 % higher, 99.8 %)."
    )
    assert [anchor["breach"] for anchor in answer.figures["anchors"]] == [False, True]
    fine = no_ratchet({"a day ago": candidate(0.001), "standard": candidate(0.002)}, margin=MARGIN)
    assert fine.word == "promote"
    assert no_ratchet({}, margin=MARGIN).word == "promote"


def test_trying_again_and_again_does_not_slip_past_an_older_champion() -> None:
    """Each alone is not shown to be worse; together they are."""
    log_harm, words = 0.0, []
    for _ in range(6):
        answer = no_ratchet({"standard": candidate(-0.006)}, margin=MARGIN, log_harm={"standard": log_harm})
        log_harm = answer.figures["anchors"][0]["log_harm"]
        words.append(answer.word)
    assert words[0] == "promote"
    assert words[-1] == "hold"
    assert log_harm > math.log(50)


def test_the_standard_moves_only_to_what_is_clearly_better() -> None:
    assert standard_moves(candidate(0.02))
    assert not standard_moves(candidate(0.01))
    assert not standard_moves(Moments(10, 0.5, 0.01))


def test_a_question_that_makes_no_sense_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="margin=0"):
        not_worse(candidate(0.0), Record(), margin=0)
    with pytest.raises(ValueError, match=r"risk=0\.7"):
        better(candidate(0.0), past=Past(), risk=0.7)
    with pytest.raises(ValueError, match="alarm=1e-09"):
        not_worse(candidate(0.0), Record(), margin=0.005, alarm=1e-9)


def test_shares_are_told_with_the_digits_they_need() -> None:
    told = [percent(share) for share in (0.12, 0.95, 0.995, 0.998, 0.999, 0.05, 0.0081, 0.0003, 0.0, 0.00001)]
    assert told == ["12 %", "95 %", "99.5 %", "99.8 %", "99.9 %", "5 %", "0.8 %", "0.03 %", "0 %", "0 %"]
