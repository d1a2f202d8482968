"""The table of what a surface remembers: the values that were written come back, and what of them an update needs is
the same as from a list in memory."""

import math
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitoring.checks.limits import Check, PastWindow
from monitoring.checks.profiles import Profile
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import (
    PROFILES,
    WINDOWS_OF,
    CurrentUpdate,
    InService,
    PastUpdate,
    Recalled,
    Remembered,
    State,
    recall,
)
from monitoring.evaluation.process_record import ProcessRecord, SinceBaseline
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.memory import past_window
from monitoring.gate.policy import Word
from monitoring.names import GATE
from monitoring.records import history_store
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import Measured, write_evidence
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments
from tests.worlds.windows import END, NAMES, START, evidence, window

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

ODD = 0.1 + 0.2
"""A number whose shortest text has 17 digits."""


@dataclass(frozen=True)
class Update:
    """One that ran, and what it left behind: a row for each time that it ran up to its verdict."""

    state: str
    start: datetime
    end: datetime
    champion: str | None = None
    version: str | None = None
    promoted_by: str | None = None
    rows: tuple[dict[str, Any], ...] = ({},)
    """Fields of what it left behind, the newest last."""

    def remembered(self, update_id: int, row: dict[str, Any]) -> Remembered:
        made = Remembered(update_id, self.champion, PastWindow(self.start, self.end, 100), failed=())
        return replace(made, **row)


def hours(start: float, end: float) -> tuple[datetime, datetime]:
    """A window, in hours since the log began."""
    return BEGIN + start * HOUR, BEGIN + end * HOUR


def write(connection: psycopg.Connection, update: Update, surface: str = "feed") -> PastUpdate:
    """An update as the ledger and the records have it; the same as a list in memory would."""
    row = connection.execute(
        "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
        " challenger_version) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING update_id",
        [surface, update.end, update.champion, update.start, update.end, update.end, update.state, update.version],
    ).fetchone()
    assert row is not None
    for fields_of_row in update.rows:
        remembered = update.remembered(row[0], fields_of_row)
        history_store.write(connection, surface, remembered)
    if update.state == "promoted":
        word: Word = "promote" if update.promoted_by == GATE else "hold"
        verdict = Verdict(word, (Finding("nothing_to_compare", word),))
        bare = Evidence(evidence().window, "tail")
        record = write_evidence(connection, Measured(surface, row[0], "update", update.champion, verdict, bare))
        write_decision(connection, record, action=word, decided_by=GATE, reason="as measured")
        decision = write_decision(
            connection, record, action="promote", decided_by=update.promoted_by or GATE, reason="so it is"
        )
        connection.execute(
            "INSERT INTO promotions (surface, version, artifact_uri, previous_version, update_id, decision_id,"
            " learned_to) VALUES (%s, %s, 'file:///nowhere', %s, %s, %s, %s)",
            [surface, update.version, update.champion, row[0], decision.decision_id, update.end],
        )
    measured_at = connection.execute(
        "SELECT measured_at FROM update_history WHERE update_id = %s ORDER BY history_id DESC LIMIT 1", [row[0]]
    ).fetchone()
    assert measured_at is not None
    return PastUpdate(remembered, cast(State, update.state), update.version, update.promoted_by, measured_at[0])


def next_update(update_id: int = 1 << 40, champion: str | None = None, start: datetime = START) -> CurrentUpdate:
    in_service = None if champion is None else InService(champion)
    return CurrentUpdate(update_id, in_service, start, start + HOUR, judged_from=start)


def read(connection: psycopg.Connection, upcoming: CurrentUpdate) -> list[PastUpdate]:
    return history_store.read(connection, "feed", upcoming)


def bits(value: Any) -> Any:
    """To compare by: equal for the same numbers to the bit alone, NaN and the sign of zero included."""
    if isinstance(value, Profile):
        return value.names, value.rows, value.clicked, value.table().tobytes(), value.quantiles.tobytes()
    if isinstance(value, Remembered | PastUpdate | Recalled):
        return {part.name: bits(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, tuple):
        return [bits(part) for part in value]
    return repr(value)


def profile(seed: int, rows: int = 200) -> Profile:
    """Of some features, one of which is never known."""
    part = window(seed, requests=rows // 5)
    dense = part.dense.astype(np.float32)
    dense[:, 3] = np.nan
    return Profile.of(dense, NAMES, label=part.label if seed % 2 else None)


SINCE = SinceBaseline(5, Moments(1 << 41, ODD, 5e-324), math.pi)

ALL_KNOWN: dict[str, Any] = {
    "window": PastWindow(*hours(8, 9), 2400, 1 / 3, ODD, -0.0, {"users": 5e-324, "items": 1.0}),
    "failed": ("one user's share", "labels by context"),
    "process_before": ProcessRecord(7, Moments(1000, ODD, 1e-300), -2.5, BEGIN, {"3": math.pi, "2": 0.0}, SINCE),
    "process_after": ProcessRecord(8, Moments(1 << 40, -ODD, math.nextafter(1, 2)), math.log(1e6), BEGIN + HOUR),
    "tests": PastTests(3, (1, 3)),
    "baseline": "2",
    "baseline_moves": True,
    "profiles": (profile(1), profile(2)),
}


@pytest.mark.parametrize("row", [ALL_KNOWN, {}, {"tests": PastTests(), "profiles": (profile(2),)}])
def test_what_an_update_leaves_behind_reads_back_to_the_bit(
    connection: psycopg.Connection, row: dict[str, Any]
) -> None:
    written = write(connection, Update("promoted", *hours(8, 9), "1", "2", GATE, (row,)))
    assert np.isnan(profile(2).auc).all()
    assert np.isnan(profile(1).quantiles[:, 3]).all()
    (found,) = read(connection, next_update(start=BEGIN + 10 * HOUR))
    assert bits(found) == bits(written)


def test_a_window_of_hours_too_thin_for_a_profile_is_remembered_without_one(connection: psycopg.Connection) -> None:
    write(connection, Update("promoted", *hours(0, 3), None, "1", GATE, ({"profiles": ()},)))
    write(connection, Update("promoted", *hours(3, 4), "1", "2", GATE, ({"profiles": (profile(1),)},)))
    upcoming = next_update(champion="2", start=BEGIN + 4 * HOUR)
    recalled = recall(read(connection, upcoming), upcoming)
    assert [found.rows for found in recalled.profiles] == [200]
    assert len(recalled.windows) == 2


def test_of_an_update_that_died_and_ran_again_the_newest_row_counts(connection: psycopg.Connection) -> None:
    first, second = {"tests": PastTests(1, (1,)), "baseline": "1"}, {"tests": None, "baseline": "2"}
    write(connection, Update("held", *hours(0, 1), rows=({"tests": PastTests(5)},)))
    write(connection, Update("promoted", *hours(1, 2), "1", "2", GATE, rows=(first, second)))
    upcoming = next_update(champion="2", start=BEGIN + 2 * HOUR)
    found = read(connection, upcoming)
    assert [update.remembered.baseline for update in found] == [None, "2"]
    assert recall(found, upcoming).tests == PastTests(5)


@pytest.mark.parametrize("state", ["failed", "claimed"])
def test_an_update_without_an_end_is_not_looked_back_on(connection: psycopg.Connection, state: str) -> None:
    write(connection, Update("held", *hours(0, 1), rows=({"tests": PastTests(5)},)))
    write(connection, Update(state, *hours(1, 2), rows=({"tests": PastTests(6, (6,))},)))
    for start in (BEGIN + 2 * HOUR, BEGIN + 100 * DAY):
        (found,) = read(connection, next_update(start=start))
        assert found.remembered.tests == PastTests(5)


def test_a_champion_older_than_two_weeks_keeps_its_process_record_and_baseline(connection: psycopg.Connection) -> None:
    """Nobody decided on what was held since."""
    process = ProcessRecord(9, Moments(5000, 0.001, 0.01), 0.5, BEGIN + HOUR)
    write(connection, Update("promoted", *hours(-9, -8), None, "1", GATE))
    row = {"process_after": process, "baseline": "1", "baseline_moves": False}
    write(connection, Update("promoted", *hours(0, 1), "1", "2", GATE, (row,)))
    upcoming = next_update(champion="2", start=BEGIN + WINDOWS_OF + 30 * DAY)
    recalled = recall(read(connection, upcoming), upcoming)
    assert recalled.process == process.promoted(baseline_moves=False)
    assert recalled.baseline == "1"
    assert recalled.windows == ()


def test_the_last_test_of_a_new_design_is_remembered_however_long_ago_it_was(connection: psycopg.Connection) -> None:
    """Else each would be tested as if it were the first, and false ones would be promoted without bound."""
    for tested in (1, 2):
        write(connection, Update("held", *hours(tested, tested + 1), "1", rows=({"tests": PastTests(tested, (1,))},)))
    for day in range(300, 320):
        write(connection, Update("promoted", *hours(24 * day, 24 * day + 1), "1", str(day), GATE))
    upcoming = next_update(champion="319", start=BEGIN + 330 * DAY)
    assert recall(read(connection, upcoming), upcoming).tests == PastTests(2, (1,))


def test_what_failed_in_a_row_counts_however_far_apart_the_windows_are(connection: psycopg.Connection) -> None:
    for week in range(5):
        write(connection, Update("rejected", *hours(168 * week, 168 * week + 1), "1", rows=({"failed": ("volume",)},)))
    upcoming = next_update(champion="1", start=BEGIN + timedelta(weeks=5))
    assert recall(read(connection, upcoming), upcoming).failed_before == {"volume": 5}


def test_the_newest_profiles_are_remembered_whatever_the_length_of_windows(connection: psycopg.Connection) -> None:
    for day in range(PROFILES + 3):
        row = {"profiles": (profile(day, rows=100 + 5 * day),)}
        write(connection, Update("promoted", *hours(24 * day, 24 * day + 24), None, f"{day}", GATE, (row,)))
    upcoming = next_update(start=BEGIN + (PROFILES + 3) * DAY)
    recalled = recall(read(connection, upcoming), upcoming)
    assert [found.rows for found in recalled.profiles] == [100 + 5 * day for day in range(3, PROFILES + 3)]


def test_another_surfaces_past_is_its_own(connection: psycopg.Connection) -> None:
    write(connection, Update("promoted", *hours(0, 1), None, "1", GATE, (ALL_KNOWN,)), surface="search")
    upcoming = next_update(champion="1", start=BEGIN + 2 * HOUR)
    assert read(connection, upcoming) == []
    assert bits(recall([], upcoming)) == bits(Recalled(baseline="1"))


@pytest.mark.parametrize("change", ["UPDATE {} SET surface = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_history_is_append_only(connection: psycopg.Connection, change: str) -> None:
    write(connection, Update("held", *hours(0, 1)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        connection.execute(change.format("update_history"))


versions = st.sampled_from([None, "1", "2", "3"])
shares = st.none() | st.floats(0, 1)


@st.composite
def rows(draw: st.DrawFn, end: datetime) -> dict[str, Any]:
    """Fields of one row."""
    process = st.none() | st.builds(
        ProcessRecord,
        st.integers(0, 9),
        st.builds(Moments, st.integers(0, 999), st.floats(-1, 1), st.floats(0, 1)),
        st.floats(-9, 9),
        st.none() | st.integers(0, 3).map(lambda ago: end - ago * HOUR),
        st.dictionaries(st.sampled_from("12"), st.floats(-9, 9)),
    )
    tests = st.builds(PastTests, st.integers(0, 9), st.lists(st.integers(1, 9), max_size=2).map(tuple))
    return {
        "failed": tuple(draw(st.lists(st.sampled_from(["volume", "retries"]), unique=True))),
        "process_before": draw(process),
        "process_after": draw(process),
        "tests": draw(st.none() | tests),
        "baseline": draw(versions),
        "baseline_moves": draw(st.booleans()),
        "profiles": draw(st.sampled_from([(), (PROFILE,), (PROFILE, PROFILE)])),
    }


PROFILE = profile(1)


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    """Some updates in order, some hours or weeks apart."""
    end, found = BEGIN, []
    for number in range(draw(st.integers(0, 14))):
        start = end + draw(st.sampled_from([0, 0, 1, 24, 24 * 20])) * HOUR
        end = start + draw(st.sampled_from([1, 2, 24])) * HOUR
        state = draw(st.sampled_from(["promoted", "promoted", "held", "rejected", "superseded", "expired", "failed"]))
        by = draw(st.sampled_from([GATE, "ada"])) if state == "promoted" else None
        version = None if state == "rejected" else draw(st.sampled_from(["1", "2", "3", f"v{number}"]))
        left = tuple(draw(rows(end)) for _ in range(draw(st.integers(1, 2))))
        found.append(Update(state, start, end, draw(versions), version, by, left))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(past=updates(), champion=versions, later=st.sampled_from([0, 1, 24, 24 * 30]), restored=st.booleans())
@example(past=[], champion="1", later=0, restored=True)
def test_what_an_update_needs_is_the_same_from_the_table_and_from_a_list_in_memory(
    connection: psycopg.Connection, past: list[Update], champion: str | None, later: int, restored: bool
) -> None:
    """Production reads the one, a drill the other: what the gate is measured with is what ships."""
    with connection.transaction(force_rollback=True):
        written = [write(connection, update) for update in past]
        in_memory = [known for known, update in zip(written, past, strict=True) if update.state != "failed"]
        start = (past[-1].end if past else BEGIN) + later * HOUR
        restored_at = written[len(written) // 2].measured_at if restored and written else None
        in_service = None if champion is None else InService(champion, restored_at)
        upcoming = CurrentUpdate(1 << 40, in_service, start, start + HOUR, judged_from=start)
        assert bits(recall(read(connection, upcoming), upcoming)) == bits(recall(in_memory, upcoming))


def test_a_window_becomes_what_the_next_is_compared_with() -> None:
    checks = (
        Check("labels agree", 0.9, "", True, ""),
        Check("new items", 1.0, "", True, ""),
        Check("volume", 3.0, "", True, ""),
    )
    measured = evidence().prequential
    assert measured is not None
    found = past_window(replace(evidence(), checks=checks))
    assert found == PastWindow(START, END, 2400, evidence().window.label_rate, measured.log_loss, 0.9, {"items": 1.0})
    bare = past_window(replace(evidence(), checks=(), prequential=None))
    assert (bare.log_loss, bare.agreement, bare.new) == (None, None, {})
