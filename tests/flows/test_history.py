"""What a surface remembers between updates, from the ledger and the history of its updates alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from features.counters.folder import ensure_folded
from flows.ledger import Claim, WindowSpan
from flows.steps import history
from flows.steps.history import recall_past, references
from flows.steps.train import earlier
from flows.surfaces.feed import SURFACE as FEED
from flows.world import World, open_world
from infra.addresses import sqlalchemy_url
from infra.settings import Settings
from models.learning.model import Model
from models.versions import promotions
from models.versions.artifact import save
from models.versions.promotions import Promotion
from models.versions.registry import Registry
from monitoring.checks.history import recent, same_hour
from monitoring.checks.limits import IN_A_ROW, PastWindow
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.evaluation.history import Recalled, Remembered
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.gate.policy import Word
from monitoring.names import GATE
from monitoring.records import history_store
from monitoring.records.decisions import write_decision
from monitoring.records.evidence_store import Measured, evidence_of, write_evidence
from monitoring.statistics.sequential import Moments
from tests.worlds.loop import START, Loop

HOUR = timedelta(hours=1)
GAIN = Moments(1_000, 0.002, 0.016)

Both = tuple[ProcessRecord, ProcessRecord]
"""The process record before a challenger, and with it."""


@pytest.fixture
def world(database: str, tmp_path: Path) -> Iterator[World]:
    registry = Registry(sqlalchemy_url(database), tmp_path.as_uri())
    settings = Settings(home=tmp_path, database_url=database)
    with open_world(settings, FEED, url=database, registry=registry, reports=False) as opened:
        yield opened


@dataclass(frozen=True)
class Line:
    """A surface's ledger and history, written as updates write them."""

    connection: psycopg.Connection

    def update(
        self,
        state: str,
        span: tuple[float, float],
        *,
        split: float | None = None,
        parent: str | None = "1",
        artifact_uri: str = "file:///nowhere",
        failed: Sequence[str] = (),
        process: Both | None = None,
        baseline: str | None = None,
    ) -> int:
        """An update of hours ``span``, judged from ``split`` on, whose challenger has its own number as version."""
        start, end = (START + HOUR * hours for hours in span)
        words: dict[str, Word] = {"promoted": "promote", "rejected": "reject"}
        word = words.get(state, "hold")
        made = self.connection.execute(
            "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state)"
            " VALUES ('feed', %s, %s, %s, %s, %s, %s) RETURNING update_id",
            [end, parent, start, end if split is None else START + HOUR * split, end, state],
        ).fetchone()
        assert made is not None
        update_id = int(made[0])
        self.connection.execute(
            "UPDATE updates SET challenger_version = %s WHERE update_id = %s", [str(update_id), update_id]
        )
        before, after = process or (None, None)
        remembered = Remembered(
            update_id=update_id,
            champion=parent,
            window=PastWindow(start, end, 1_000, 0.2),
            failed=tuple(failed),
            process_before=before,
            process_after=after,
            baseline=baseline,
        )
        history_store.write(self.connection, "feed", remembered)
        verdict = Verdict(word, (Finding("nothing_to_compare", word),))
        evidence = Evidence(WindowFacts(start, end, 1_000, 0.2, 0), judged="progressive", champion=parent)
        on_record = write_evidence(self.connection, Measured("feed", update_id, "update", parent, verdict, evidence))
        reason = verdict.reasons[0]
        decision = write_decision(self.connection, on_record, action=word, decided_by=GATE, reason=reason)
        if state == "promoted":
            promotions.record(
                self.connection,
                surface="feed",
                version=str(update_id),
                artifact_uri=artifact_uri,
                previous_version=parent,
                update_id=update_id,
                decision_id=decision.decision_id,
                learned_to=end,
            )
        return update_id

    @property
    def champion(self) -> Promotion:
        champion = promotions.current(self.connection, "feed")
        assert champion is not None
        return champion

    def recalled(self, start: float, *, judging: str = "progressive") -> Recalled:
        """What an update from the champion recalls, of an hour that is judged from ``start`` on."""
        window = claim((start, start + 1), self.champion.version)
        return recall_past(self.connection, judging, window, self.champion)


def grown(before: ProcessRecord, end: float) -> Both:
    """The record, and with one more challenger that is judged up to then."""
    return before, before.add(GAIN, loss=0.01, judged_to=START + HOUR * end)


def claim(span: tuple[float, float], parent: str | None) -> Claim:
    start, end = (START + HOUR * hours for hours in span)
    return Claim(1_000_000, "feed", end, parent, WindowSpan(start, end, end), 1)


def test_however_many_wait_for_a_person_the_process_record_and_the_baseline_are_not_forgotten(world: World) -> None:
    line = Line(world.connection)
    first = line.update("promoted", (0, 1), parent=None)
    own = grown(ProcessRecord(), 2)
    second = line.update("promoted", (1, 2), parent=str(first), process=own, baseline="1")
    lost = grown(own[1], 3)
    line.update("rejected", (2, 3), parent=str(second), process=lost, baseline="1")
    for waited in range(60):
        end = 4 + waited / 6
        line.update("superseded", (3, end), parent=str(second), process=grown(lost[1], end), baseline="1")
    recalled = line.recalled(3)
    assert recalled.process == lost[1]
    assert recalled.baseline == "1"


def test_a_part_that_is_judged_anew_replaces_its_candidate_and_not_the_whole_record(world: World) -> None:
    """With the tail held out, a thin window's judged part may begin within the one before."""
    line = Line(world.connection)
    first = line.update("promoted", (0, 1), split=0.8, parent=None)
    early = grown(ProcessRecord(), 2)
    second = line.update("promoted", (0.8, 2), split=1.5, parent=str(first), process=early)
    later = grown(early[1], 3)
    line.update("promoted", (1.5, 3), split=2.0, parent=str(second), process=later)
    assert line.recalled(3).process == later[1].promoted(baseline_moves=False)
    assert line.recalled(2.9).process == early[1].promoted(baseline_moves=False)


def test_after_a_rollback_the_process_has_to_show_itself_anew(world: World) -> None:
    line = Line(world.connection)
    first = line.update("promoted", (0, 1), parent=None)
    own = grown(ProcessRecord(), 2)
    second = line.update("promoted", (1, 2), parent=str(first), process=own, baseline="1")
    line.update("promoted", (2, 3), parent=str(second), process=grown(own[1], 3), baseline="1")
    target = promotions.promoted(world.connection, "feed", str(second))
    assert target is not None
    decision = write_decision(
        world.connection,
        evidence_of(world.connection, target.decision_id),
        action="rollback",
        decided_by="ana",
        reason="Clicks fell.",
    )
    promotions.roll_back(
        world.connection, target, previous_version=line.champion.version, decision_id=decision.decision_id
    )
    recalled = line.recalled(5)
    assert (recalled.process, recalled.baseline) == (ProcessRecord(), "1")
    anew = grown(ProcessRecord(), 5)
    line.update("rejected", (2, 5), parent=str(second), process=anew)
    assert line.recalled(5).process == anew[1]


@pytest.mark.parametrize("with_champion", [True, False])
def test_what_waits_after_windows_rejected_for_the_same_goes_on_waiting(world: World, with_champion: bool) -> None:
    line = Line(world.connection)
    parent = str(line.update("promoted", (-1, 0), parent=None)) if with_champion else None
    line.update("rejected", (0, 1), parent=parent, failed=["retries", "features shifted"])
    for hour in range(1, IN_A_ROW + 1):
        line.update("rejected", (hour, hour + 1), parent=parent, failed=["retries"])

    def failed_before() -> dict[str, int]:
        champion = line.champion if with_champion else None
        window = claim((IN_A_ROW + 1, IN_A_ROW + 9), parent)
        return dict(recall_past(world.connection, "progressive", window, champion).failed_before)

    assert failed_before() == {"retries": IN_A_ROW + 1}
    for end in range(3):
        line.update("superseded", (IN_A_ROW + 1, IN_A_ROW + 2 + end), parent=parent, failed=["retries"])
    assert failed_before() == {"retries": IN_A_ROW + 1}
    line.update("held", (IN_A_ROW + 1, IN_A_ROW + 6), parent=parent)
    assert failed_before() == {}


def ends(windows: Sequence[PastWindow]) -> list[float]:
    return sorted((past.end - START) / HOUR for past in windows)


@pytest.mark.parametrize("hours", [1, 6])
def test_history_holds_what_the_checks_look_at_whatever_the_length_of_a_window(world: World, hours: int) -> None:
    line = Line(world.connection)
    version: str | None = None
    for hour in range(75):
        version = str(line.update("promoted", (hour, hour + 1), parent=version))
    window = claim((75, 75 + hours), version)
    start, end = window.window.start, window.window.end
    windows = recall_past(world.connection, "progressive", window, line.champion).windows
    middle = 75 + hours / 2
    usual = [float(e) for e in range(1, 76) if abs((middle - (e - 0.5) + 12) % 24 - 12) <= 1 and middle - e + 0.5 >= 12]
    assert ends(same_hour(windows, start, end)) == usual
    assert len(usual) >= 6
    assert len(recent(windows, start, end)) == 6
    reach = max(1, 3 * hours)
    before = {float(e) for e in range(1, 76) for ago in (24, 48) if 75 - ago - reach < e - 0.5 <= 75 - ago}
    assert before <= set(ends(windows)), "growth is measured from these"


def lost_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of champions of before that cannot be compared with."""
    return [message for message in caplog.messages if "cannot be compared with" in message]


def test_where_the_files_of_an_older_champion_are_gone_the_one_before_it_stands_in(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("whole", "half"):
        save(Model.new(world.surface.layout, world.surface.design, seed=1), tmp_path / folder)
    (tmp_path / "half" / "weights.safetensors").unlink()
    at = {5: tmp_path / "nowhere", 6: tmp_path / "half"}
    line = Line(world.connection)
    version: str | None = None
    for hour in range(30):
        where = at.get(hour, tmp_path / "whole").as_uri()
        version = str(line.update("promoted", (hour, hour + 1), parent=version, artifact_uri=where))
    found = references(world, line.champion, line.champion.version, claim((30, 31), version))
    assert [(reference.name, reference.version) for reference in found] == [("a day ago", "5")]
    half, gone = lost_in(caplog)
    assert "version 7 of feed" in half
    assert f"{at[6].as_uri()}/weights.safetensors" in half
    assert "version 6 of feed" in gone
    assert "nothing is there any more" in gone


def test_where_all_older_files_are_gone_a_few_are_looked_for_and_the_update_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(world.connection)
    version: str | None = None
    for hour in range(40):
        version = str(line.update("promoted", (hour, hour + 1), parent=version))
    assert references(world, line.champion, line.champion.version, claim((40, 41), version)) == ()
    assert 0 < len(lost_in(caplog)) <= 2 * history.STAND_INS


def test_a_new_design_is_not_trained_on_what_was_rejected(loop: Loop) -> None:
    with loop.world() as world:
        line = Line(world.connection)
        line.update("promoted", (0, 1), parent=None)
        line.update("rejected", (1, 2))
        ensure_folded(loop.url, "feed", world.surface.features, START + 3 * HOUR)
        shown = earlier(world, claim((3, 4), "1")).table["shown_at"]
    [(sound,)] = loop.query(
        "SELECT count(*) FROM impressions WHERE shown_at <= %s AND NOT (shown_at > %s AND shown_at <= %s)",
        *(START + hours * HOUR for hours in (3, 1, 2)),
    )
    assert len(shown) == sound > 0
    assert shown.is_between(START + HOUR, START + 2 * HOUR, closed="right").sum() == 0
