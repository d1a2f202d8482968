"""Limits between their two ways of being wrong: what they stop, what they catch, and which can be chosen."""

import math
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from monitoring.checks.limits import SETTINGS, InForce, Limits
from monitoring.gate import adjustable
from monitoring.gate.adjustable import ADJUSTABLE, BY_CODE, FIGURES, Chosen, LimitsInForce, adjusted
from monitoring.gate.guardrails import Reading, readings
from monitoring.gate.policy import Limit, Policy
from monitoring.gate.sensitivity import CANDIDATES, PastNeeds, PlantedFault, Strength, Tradeoff, Trial, own_limits
from monitoring.records import limit_choices, sensitivity
from monitoring.records.limit_choices import Known
from tests.worlds.windows import evidence

NOW = datetime(2026, 3, 1, tzinfo=UTC)
VOLUME, SLICES = "check/volume", "slices"


def windows(*needs: float, code: str = VOLUME) -> list[PastNeeds]:
    return [PastNeeds(NOW - timedelta(hours=hour), {code: need}) for hour, need in enumerate(needs)]


def planted(*steps: tuple[str, float], name: str = "traffic lost", code: str = VOLUME) -> PlantedFault:
    return PlantedFault(name, tuple(Strength(words, {code: need}) for words, need in steps))


LOST = planted(("20 % of it", 1.25), ("80 % of it", 5.0), ("95 % of it", 20.0))
TRIAL = Trial("clicks", (), {VOLUME: 1.1}, (LOST, planted(("half of them", 1.1), name="labels shuffled")))
AS_DECLARED = LimitsInForce(Policy(), Limits(), {})


def tradeoff(
    *needs: float, code: str = VOLUME, trial: Trial | None = TRIAL, in_force: LimitsInForce = AS_DECLARED
) -> Tradeoff:
    return Tradeoff.made(BY_CODE[code], in_force, windows(*needs, code=code), trial)


# --- which limits there are -----------------------------------------------------------------------------------------


def test_every_check_with_a_limit_and_every_guardrail_can_be_adjusted_and_says_what_it_limits() -> None:
    assert {limit.check for limit in ADJUSTABLE if limit.check} == set(SETTINGS)
    measured = readings(Policy(), evidence())
    assert {(reading.code, f"Policy.{reading.setting}") for reading in measured} <= {
        (code, limit.setting) for limit in ADJUSTABLE for code in limit.codes
    }
    assert {limit.code for limit in ADJUSTABLE} <= set(FIGURES)
    assert len(adjustable.BY_ADDRESS) == len(ADJUSTABLE)
    assert all(isinstance(getattr(Policy(), field), Limit) for field in adjustable.GUARDRAIL_FIELDS)


@pytest.mark.parametrize("word", ["check/new users", "check-new-users", "new users"])
def test_a_limit_is_found_by_code_address_and_name(word: str) -> None:
    assert adjustable.find(word) == BY_CODE["check/new users"]


def test_chosen_limits_go_where_checks_and_guardrails_look_and_their_reasons_say_who_chose_them() -> None:
    by = "chosen by ada on 2026-03-01"
    policy, limits, left_out = adjusted(
        Policy(), Limits(at={"retries": 0.5}), {VOLUME: Chosen(4.0, by), SLICES: Chosen(0.2, by)}
    )
    assert left_out == []
    assert dict(limits.at) == {"retries": 0.5, "volume": 4.0}
    in_force = InForce(limits, {"volume": 9.0})
    assert in_force.of("volume") == 4.0, "exactly, whatever the surface's own windows do"
    assert in_force.source("volume") == f"Limits.at['volume'] = 4, {by}"
    assert policy.slices == Limit(0.2, chosen=by)
    reading = Reading(SLICES, "slices", policy.slices, 0.3, "loss", {"slices": "west", "allowed": "20 %"})
    assert [finding.setting for finding in reading.findings] == [f"Policy.slices = 0.2, {by}"]


@pytest.mark.parametrize(
    ("code", "at_most", "why"),
    [("check/of before", 2.0, "no such limit any more"), (VOLUME, 0.9, "above 1"), (SLICES, math.inf, "above 0")],
)
def test_a_choice_that_cannot_be_used_any_more_is_left_out_and_said(code: str, at_most: float, why: str) -> None:
    policy, limits, left_out = adjusted(Policy(), Limits(), {code: Chosen(at_most)})
    assert (policy, limits) == (Policy(), Limits())
    assert len(left_out) == 1
    assert why in left_out[0]


def test_the_source_of_a_limit_is_its_declaration_the_surfaces_windows_or_who_chose_it() -> None:
    volume, slices = BY_CODE[VOLUME], BY_CODE[SLICES]
    own = LimitsInForce(Policy(), Limits(), {}, {"volume": 4.0})
    assert (own.limit(volume), own.source(volume)) == (4.0, "own windows")
    few = LimitsInForce(Policy(), Limits(), {}, {})
    assert (few.limit(volume), few.source(volume)) == (2.5**1.5, "few windows known")
    assert (few.limit(slices), few.source(slices)) == (0.05, "declared")
    chosen = LimitsInForce(Policy(), Limits(), {VOLUME: Chosen(3.0, "chosen by ada")}, {"volume": 4.0})
    assert (chosen.limit(volume), chosen.source(volume), chosen.unchosen(volume)) == (3.0, "chosen by ada", 4.0)


# --- what a limit does ----------------------------------------------------------------------------------------------


def test_a_limit_stops_the_windows_that_need_more_and_catches_faults_whose_window_does() -> None:
    found = tradeoff(1.2, 3.0, 1.0, 6.0)
    assert [window.end for window in found.stopped(2.5)] == [NOW - timedelta(hours=1), NOW - timedelta(hours=3)]
    assert found.caught(2.5) == [("traffic lost", "80 % of it")]
    assert found.caught(1.15) == [("traffic lost", "20 % of it")]
    assert found.caught(30.0) == []
    assert [fault.fault for fault in found.faults] == ["traffic lost"], "the other does not move it"


def test_a_limit_that_stops_the_window_without_a_fault_catches_nothing() -> None:
    found = tradeoff(1.2)
    assert found.speaks_of_nothing(1.05)
    assert found.caught(1.05) == []


def test_a_strength_is_caught_only_where_all_that_are_stronger_are() -> None:
    odd = planted(("a little", 9.0), ("more", 1.2), ("most", 8.0))
    found = tradeoff(1.0, trial=Trial("clicks", (), {VOLUME: 1.0}, (odd,)))
    assert found.caught(2.5) == [("traffic lost", "most")]


def test_windows_on_which_it_was_not_measured_do_not_count() -> None:
    assert tradeoff(1.0, 2.0, code="slices").windows == 2
    found = Tradeoff.made(BY_CODE[SLICES], AS_DECLARED, windows(1.0, 2.0), None)
    assert (found.windows, found.stopping(0), found.tried) == (0, None, False)


def test_the_least_limit_that_stops_none_or_one_in_fifty() -> None:
    needs = [1.0 + place / 100 for place in range(100)]
    found = tradeoff(*needs)
    none, fiftieth = found.stopping(0), found.stopping(1 / 50)
    assert none is not None
    assert fiftieth is not None
    assert len(found.stopped(none)) == 0
    assert len(found.stopped(none - 0.02)) > 0
    assert 0 < len(found.stopped(fiftieth)) <= 2
    assert tradeoff(*needs, math.inf).stopping(0) == math.inf


@pytest.mark.parametrize(
    "needs", [(), (1.0, 1.0), (1.0, 1.2, 3.0, 6.0), tuple(1 + 1 / place for place in range(1, 300))]
)
@pytest.mark.parametrize("trial", [None, TRIAL])
def test_the_limits_to_choose_among_are_few_apart_and_each_can_be_set(
    needs: tuple[float, ...], trial: Trial | None
) -> None:
    found = tradeoff(*needs, trial=trial)
    limits = found.candidates()
    assert 2 <= len(limits) <= CANDIDATES
    assert found.limit in limits
    assert limits == sorted(set(limits))
    assert all(found.of.fault(limit) is None for limit in limits)


def test_limits_of_shares_that_no_window_needs_can_be_chosen_too() -> None:
    found = tradeoff(0.0, 0.0, 0.001, code=SLICES, trial=None)
    assert len(found.candidates()) >= 3


def test_the_own_limits_of_windows_leave_out_what_was_rejected() -> None:
    held = [PastNeeds(NOW, {VOLUME: 1.5 + place / 5}) for place in range(8)]
    rejected = [PastNeeds(NOW, {VOLUME: 1000.0}, state="rejected")] * 3
    assert own_limits(held, Limits())["volume"] > Limits().volume_factor
    assert own_limits(held, Limits()) == own_limits([*held, *rejected], Limits())
    assert own_limits(held[:3], Limits()) == {}


# --- the records ----------------------------------------------------------------------------------------------------


def choose(connection: psycopg.Connection, code: str, at_most: float | None, by: str = "ada") -> None:
    limit_choices.write(
        connection,
        "feed",
        code,
        at_most=at_most,
        before=2.5,
        chosen_by=by,
        reason="News breaks.",
        through="desk",
        known=Known(336, 3, 0, [{"fault": "traffic lost", "before": "80 % of it", "after": None}]),
    )


def test_the_newest_choice_of_each_limit_is_in_force_and_none_goes_back(connection: psycopg.Connection) -> None:
    for code, at_most in ((VOLUME, 4.0), (SLICES, 0.2), (VOLUME, 5.0), (SLICES, None)):
        choose(connection, code, at_most)
    found = limit_choices.in_force(connection, "feed")
    assert {code: chosen.at_most for code, chosen in found.items()} == {VOLUME: 5.0}
    assert found[VOLUME].by.startswith("chosen by ada on 20")
    assert limit_choices.in_force(connection, "search") == {}
    newest = limit_choices.read_all(connection, "feed")[0]
    assert (newest.code, newest.at_most, newest.windows, newest.stopped_before) == (SLICES, None, 336, 3)
    assert newest.smallest[0]["before"] == "80 % of it"


@pytest.mark.parametrize("change", ["UPDATE {} SET surface = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["limit_choices", "limit_trials"])
def test_choices_and_trials_are_append_only(connection: psycopg.Connection, table: str, change: str) -> None:
    choose(connection, VOLUME, 4.0)
    sensitivity.write(connection, "feed", TRIAL)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(change.format(table))


@pytest.mark.parametrize("by", ["gate", "watch", "deadline"])
def test_the_program_chooses_no_limit(connection: psycopg.Connection, by: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        choose(connection, VOLUME, 4.0, by=by)


def test_a_choice_says_who_and_why(connection: psycopg.Connection) -> None:
    with pytest.raises(ValueError, match="who, and why"):
        choose(connection, VOLUME, 4.0, by=" ")


def test_the_newest_trial_is_read_back_as_it_was(connection: psycopg.Connection) -> None:
    assert sensitivity.newest(connection, "feed") is None
    sensitivity.write(connection, "feed", TRIAL)
    whole = Trial("clicks", tuple(windows(1.0, math.inf)), {VOLUME: 1.1}, (LOST, planted(("all of it", math.inf))))
    sensitivity.write(connection, "feed", whole)
    found = sensitivity.newest(connection, "feed")
    assert found is not None
    assert found.trial == whole
