"""What a surface remembers between updates, from the ledger and the evidence alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from flows.ledger import Claim, Window
from flows.steps import history as background
from flows.steps import judge as judging
from flows.surfaces import find
from flows.world import World, open_world
from infra.addresses import sqlalchemy_url
from infra.settings import Settings
from models.frames import Frame
from models.learning.model import Model
from models.versions import promotions
from models.versions.artifact import save
from models.versions.promotions import Promotion
from models.versions.registry import Registry
from monitoring.checks.history import lately, same_hour
from monitoring.checks.limits import AGAIN
from monitoring.evaluation.process_record import Record
from monitoring.names import GATE
from monitoring.records import evidence_store as records
from monitoring.statistics.sequential import Moments
from tests.worlds.examples import clicks

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GAIN = Moments(1_000, 0.002, 0.016)


@pytest.fixture
def world(database: str, tmp_path: Path) -> Iterator[World]:
    registry = Registry(sqlalchemy_url(database), tmp_path.as_uri())
    settings = Settings(home=tmp_path, database_url=database)
    with open_world(settings, find("feed"), url=database, registry=registry, reports=False) as opened:
        yield opened


@dataclass(frozen=True)
class Line:
    """A surface's ledger, written as updates write it."""

    connection: psycopg.Connection

    def update(
        self,
        state: str,
        span: tuple[float, float],
        *,
        split: float | None = None,
        parent: str | None = "1",
        artifact_uri: str = "file:///nowhere",
        **figures: Any,
    ) -> int:
        """An update of hours ``span``, judged from ``split`` on, whose challenger has its own number as version."""
        start, end = (START + HOUR * hours for hours in span)
        verdict = {"promoted": "promote", "rejected": "reject"}.get(state, "hold")
        found = self.connection.execute(
            "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state)"
            " VALUES ('feed', %s, %s, %s, %s, %s, %s) RETURNING update_id",
            [end, parent, start, end if split is None else START + HOUR * split, end, state],
        ).fetchone()
        assert found is not None
        update_id = int(found[0])
        self.connection.execute(
            "UPDATE updates SET challenger_version = %s WHERE update_id = %s", [str(update_id), update_id]
        )
        evidence = records.write_evidence(
            self.connection,
            "feed",
            update_id,
            champion_version=parent,
            verdict=verdict,
            reasons=["As told."],
            figures={"impressions": 1_000, "checks": [], "quality": {}, **figures},
        )
        decision = records.write_decision(self.connection, evidence, action=verdict, decided_by=GATE, reason="As told.")
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


def grown(before: Record, end: float) -> tuple[Record, dict[str, Any]]:
    """The record with one more candidate judged up to then, and the figures that keep both."""
    after = before.add(GAIN, loss=0.01, until=START + HOUR * end)
    return after, {"process": {"before": before.as_dict(), "after": after.as_dict()}, "standard": "1"}


def claim(span: tuple[float, float], parent: str | None) -> Claim:
    start, end = (START + HOUR * hours for hours in span)
    return Claim(1_000_000, "feed", end, parent, Window(start, end, end), 1)


def test_however_many_wait_for_a_person_the_record_and_the_standard_are_not_forgotten(world: World) -> None:
    line = Line(world.connection)
    first = line.update("promoted", (0, 1), parent=None)
    after, figures = grown(Record(), 2)
    second = line.update("promoted", (1, 2), parent=str(first), **figures)
    lost, figures = grown(after, 3)
    line.update("rejected", (2, 3), parent=str(second), **figures)
    for waited in range(60):
        _, figures = grown(lost, 4 + waited / 6)
        line.update("superseded", (3, 4 + waited / 6), parent=str(second), **figures)
    record, standard = background.kept(world.connection, line.champion, START + 3 * HOUR)
    assert record == lost
    assert standard == "1"


def test_a_part_that_judges_once_more_replaces_its_candidate_and_not_the_whole_record(world: World) -> None:
    """With the tail kept out, a thin window's judged part may begin within the one before."""
    line = Line(world.connection)
    first = line.update("promoted", (0, 1), split=0.8, parent=None)
    early, figures = grown(Record(), 2)
    second = line.update("promoted", (0.8, 2), split=1.5, parent=str(first), **figures)
    later, figures = grown(early, 3)
    line.update("promoted", (1.5, 3), split=2.0, parent=str(second), **figures)
    assert background.kept(world.connection, line.champion, START + 3 * HOUR)[0] == later
    assert background.kept(world.connection, line.champion, START + 2.9 * HOUR)[0] == early


def test_after_a_rollback_the_process_has_to_show_itself_anew(world: World) -> None:
    line = Line(world.connection)
    first = line.update("promoted", (0, 1), parent=None)
    after, figures = grown(Record(), 2)
    second = line.update("promoted", (1, 2), parent=str(first), **figures)
    _, figures = grown(after, 3)
    line.update("promoted", (2, 3), parent=str(second), **figures)
    target = promotions.promoted(world.connection, "feed", str(second))
    assert target is not None
    decision = records.write_decision(
        world.connection,
        records.evidence_of(world.connection, target.decision_id),
        action="rollback",
        decided_by="ana",
        reason="Clicks fell.",
    )
    promotions.roll_back(
        world.connection, target, previous_version=line.champion.version, decision_id=decision.decision_id
    )
    record, standard = background.kept(world.connection, line.champion, START + 5 * HOUR)
    assert (record, standard) == (Record(), "1")
    anew, figures = grown(Record(), 5)
    line.update("rejected", (2, 5), parent=str(second), **figures)
    assert background.kept(world.connection, line.champion, START + 5 * HOUR)[0] == anew


def failing(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "passed": name not in names, "value": 1.0} for name in ("retries", "features shifted")]


@pytest.mark.parametrize("parent", ["1", None])
def test_what_waits_after_windows_rejected_for_the_same_goes_on_waiting(world: World, parent: str | None) -> None:
    line = Line(world.connection)
    line.update("rejected", (0, 1), parent=parent, checks=failing("retries", "features shifted"))
    for hour in range(1, AGAIN + 1):
        line.update("rejected", (hour, hour + 1), parent=parent, checks=failing("retries"))
    asked = claim((AGAIN + 1, AGAIN + 9), parent)
    assert background.rejected_before(world, asked) == {"retries": AGAIN + 1}
    for end in range(3):
        line.update("superseded", (AGAIN + 1, AGAIN + 2 + end), parent=parent, checks=failing("retries"))
    assert background.rejected_before(world, asked) == {"retries": AGAIN + 1}
    line.update("held", (AGAIN + 1, AGAIN + 6), parent=parent, checks=failing())
    assert background.rejected_before(world, asked) == {}


def ends(windows: Sequence[Any]) -> list[float]:
    return sorted((past.end - START) / HOUR for past in windows)


@pytest.mark.parametrize("hours", [1, 6])
def test_history_holds_what_the_checks_look_at_whatever_the_length_of_a_window(world: World, hours: int) -> None:
    line = Line(world.connection)
    version: str | None = None
    for hour in range(75):
        version = str(line.update("promoted", (hour, hour + 1), parent=version))
    asked = claim((75, 75 + hours), version)
    start, end = asked.window.start, asked.window.end
    history = background.history(world, asked)
    middle = 75 + hours / 2
    usual = [float(e) for e in range(1, 76) if abs((middle - (e - 0.5) + 12) % 24 - 12) <= 1 and middle - e + 0.5 >= 12]
    assert ends(same_hour(history, start, end)) == usual
    assert len(usual) >= 6
    assert len(lately(history, start, end)) == 6
    reach = max(1, 3 * hours)
    before = {float(e) for e in range(1, 76) for ago in (24, 48) if 75 - ago - reach < e - 0.5 <= 75 - ago}
    assert before <= set(ends(history)), "growth is told from these"


def test_where_the_files_of_an_older_champion_are_gone_the_one_before_it_stands_in(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("kept", "half"):
        save(Model.new(world.surface.layout, world.surface.design, seed=1), tmp_path / folder)
    (tmp_path / "half" / "weights.safetensors").unlink()
    at = {5: tmp_path / "nowhere", 6: tmp_path / "half"}
    line = Line(world.connection)
    version: str | None = None
    for hour in range(30):
        where = at.get(hour, tmp_path / "kept").as_uri()
        version = str(line.update("promoted", (hour, hour + 1), parent=version, artifact_uri=where))
    asked = claim((30, 31), version)
    anchors = background.before(world, asked, line.champion, asked.window.start).anchors
    assert [(anchor.name, anchor.version) for anchor in anchors] == [("a day ago", "5")]
    half, gone = [told for told in caplog.messages if "cannot be compared with" in told]
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
    asked = claim((40, 41), version)
    assert background.before(world, asked, line.champion, asked.window.start).anchors == []
    assert len([told for told in caplog.messages if "cannot be compared with" in told]) <= 2 * background.STAND_INS


def test_a_new_design_does_not_learn_what_was_rejected(world: World) -> None:
    line = Line(world.connection)
    line.update("promoted", (0, 1), parent=None)
    line.update("rejected", (1, 2))
    examples = clicks(4, seed=1, candidates=1)
    shown = [START + HOUR * hours for hours in (1, 1.5, 2, 2.5)]
    frame = Frame(pl.DataFrame({"shown_at": pl.Series(shown, dtype=pl.Datetime("us", "UTC"))}), examples, 0)
    kept = judging.sound(world, frame, START, START + 3 * HOUR)
    np.testing.assert_array_equal(kept.examples.time, examples.time[[0, 3]])
