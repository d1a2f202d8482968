"""The live watch on a small site: a bad champion is rolled back once and the surface held, a good one is left."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from features.counters.folder import ensure_folded
from flows.services.live_watch import _act, look, watch
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.versions import promotions
from models.versions.artifact import save
from models.versions.registry import Registry
from monitoring.evaluation.evidence import Evidence, WindowFacts
from monitoring.gate.decide import Verdict
from monitoring.gate.findings import Finding
from monitoring.live.watch import Watch, Watching
from monitoring.names import WATCH
from monitoring.records import holds
from monitoring.records.decisions import read_decisions, write_decision
from monitoring.records.evidence_store import Measured, evidence_of, read_all_evidence, write_evidence
from tests.worlds.loop import Loop, after, copied

if TYPE_CHECKING:
    from flows.world import World

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

LIMITS = Watch(requests=50)

Notices = list[tuple[str, str]]


@pytest.fixture(scope="module")
def at_work(site: Loop, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A loop whose first model serves: it was trained on thirteen hours, and its evidence is of the hour after."""
    from monitoring.evaluation.compare import compare

    loop, folder = copied(site), tmp_path_factory.mktemp("first")
    loop = replace(loop, surface=replace(loop.surface, watch=LIMITS))
    with loop.world() as world:
        ensure_folded(world.url, world.surface.name, world.surface.features, after(14))
        past, judged = (world.frame(after(a), after(b), known_by=after(15)).examples for a, b in ((-1, 13), (13, 13.9)))
        surface = loop.surface
        model, _ = fine_tune(Model.new(surface.layout, surface.design, 0), past, seed=0, clock=time.monotonic)
        comparison = compare(judged.label, judged.request, challenger=model.score(judged), champion=None)
        window = WindowFacts(after(0), after(13.9), len(judged), comparison.label_rate, 0)
        put(world, folder, model, version="1", evidence=Evidence(window, judged="tail", comparison=comparison))
    return loop


@pytest.fixture
def live(at_work: Loop) -> Loop:
    return copied(at_work)


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Notices:
    """The notices sent, as kind and sentence."""
    sent: Notices = []

    def listen(settings: object, kind: str, surface: str, sentence: str, link: str) -> bool:
        sent.append((kind, sentence))
        return True

    monkeypatch.setattr("flows.services.live_watch.notify", listen)
    return sent


def plant(world: "World", folder: Path, *, noise: float, version: str = "2") -> None:
    """A model that got through: the champion with noise in its weights, promoted on the champion's own evidence."""
    champion = promotions.current(world.connection, "feed")
    assert champion is not None
    model = world.model(champion).copy()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=random))
    evidence = evidence_of(world.connection, champion.decision_id).evidence
    put(world, folder, model, version=version, evidence=evidence)


def put(world: "World", folder: Path, model: Model, *, version: str, evidence: Evidence) -> None:
    """Take a model into service as the gate does, on this evidence. It was trained on the first thirteen hours."""
    connection, champion = world.connection, promotions.current(world.connection, "feed")
    before = champion.version if champion else None
    save(model, folder / version)
    made = connection.execute(
        "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
        " challenger_version) VALUES ('feed', %s, %s, %s, %s, %s, 'promoted', %s) RETURNING update_id",
        [after(14), before, after(0), after(13), after(13.9), version],
    ).fetchone()
    assert made is not None
    verdict = Verdict("promote", (Finding("no_reference", "promote"),))
    on_record = write_evidence(connection, Measured("feed", made[0], "update", before, verdict, evidence))
    decision = write_decision(connection, on_record, action="promote", decided_by="gate", reason=verdict.reasons[0])
    promotions.record(
        connection,
        surface="feed",
        version=version,
        artifact_uri=(folder / version).as_uri(),
        previous_version=before,
        update_id=made[0],
        decision_id=decision.decision_id,
        learned_to=after(13),
    )


def serving(world: "World") -> tuple[str, str]:
    champion = promotions.current(world.connection, "feed")
    assert champion is not None
    return champion.version, champion.kind


def test_a_bad_champion_is_rolled_back_once_and_the_surface_held(live: Loop, notices: Notices, tmp_path: Path) -> None:
    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        watched = look(world, after(16))
        assert watched.state == "rolled back", watched.reasons
        assert watched.version == "2"
        assert serving(world) == ("1", "rollback")
        assert (
            "Version 1 is the champion of feed again, in place of version 2. No serving process" in watched.reasons[0]
        )
        assert "higher than that of version 1" in watched.reasons[1]

        [on_record] = [e for e in read_all_evidence(world.connection, 2) if e.occasion == WATCH]
        assert (on_record.verdict, on_record.codes[0], on_record.champion_version) == ("reject", "served_worse", "1")
        evidence = on_record.evidence
        assert evidence.judged == "served"
        assert evidence.at_work is not None
        assert (evidence.at_work.version, evidence.at_work.before) == ("2", "1")
        assert evidence.comparison is not None
        assert (evidence.comparison.gain.share or 0) < -LIMITS.margin
        [decision] = [d for d in read_decisions(world.connection, 1) if d.action == "rollback"]
        assert (decision.decided_by, decision.through) == (WATCH, WATCH)
        hold = holds.held(world.connection, "feed")
        assert hold is not None
        assert hold.decided_by == WATCH
        assert [kind for kind, _ in notices] == ["rolled-back"]

        later = look(world, after(16))  # the next hour
        assert later.state == "held"
        assert "feed is held since" in later.reasons[0]
        assert serving(world) == ("1", "rollback")
        assert [kind for kind, _ in notices] == ["rolled-back"]


def test_the_alias_follows_the_record_and_not_before_others_can_read_it(
    live: Loop, notices: Notices, tmp_path: Path
) -> None:
    read: list[str] = []

    class Witness(Registry):
        def set_champion(self, surface: str, version: str, artifact_uri: str) -> None:
            with connect(live.url) as connection:
                champion = promotions.current(connection, surface)
            assert champion is not None
            read.append(champion.version)

    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        world.registry = Witness(live.settings.mlflow_tracking, live.settings.mlflow_artifact_root)
        assert look(world, after(16)).state == "rolled back"
    assert read == ["1"]


def test_of_two_looks_at_the_same_time_one_acts(live: Loop, notices: Notices) -> None:
    facts = {"version": "1", "count": "3", "impressions": "3 impressions"}
    broken = Watching("breach", (Finding("served_not_finite", "reject", facts),))
    with live.world() as world:
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        looks = [Evidence(WindowFacts(after(14), after(hour), 3, None, 0), judged="served") for hour in (15, 16)]
        states = [_act(world, champion, None, evidence, broken).state for evidence in looks]
        assert states == ["surface held", "held"]
        assert [e.occasion for e in read_all_evidence(world.connection, 1)] == ["update", WATCH]
    assert [kind for kind, _ in notices] == ["surface-held"]


def test_a_champion_gone_back_to_is_not_left_for_a_third(live: Loop, notices: Notices, tmp_path: Path) -> None:
    """Version 3 was rolled back to 2 by hand, and 2 is bad: the watch holds the surface and goes no further back."""
    from flows.review.rollback import rollback

    with live.world() as world:
        plant(world, tmp_path, noise=0.6, version="2")
        plant(world, tmp_path, noise=0.0, version="3")
        rollback(world.connection, world.registry, "feed", person="ann", reason="It looked odd.", through="desk")
        assert serving(world) == ("2", "rollback")
        watched = look(world, after(16))
        assert watched.state == "surface held", watched.reasons
        assert "does not go further back" in watched.reasons[0]
        assert serving(world) == ("2", "rollback")
        assert holds.held(world.connection, "feed") is not None
        assert [kind for kind, _ in notices] == ["surface-held"]


def test_a_good_champion_is_left_alone(live: Loop, notices: Notices, tmp_path: Path) -> None:
    with live.world() as world:
        plant(world, tmp_path, noise=0.001)
        watched = look(world, after(16))
        assert watched.state == "well", watched.reasons
        assert serving(world) == ("2", "update")
        assert holds.held(world.connection, "feed") is None
    assert notices == []


def test_little_that_is_mature_says_nothing(live: Loop, notices: Notices, tmp_path: Path) -> None:
    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        for now in (champion.learned_to, champion.learned_to + world.surface.attribution):
            assert look(world, now).state == "thin"
        world.surface = replace(world.surface, watch=Watch(requests=100_000))
        assert look(world, after(16)).state == "thin"
        assert serving(world) == ("2", "update")
    assert notices == []


def test_only_what_the_champion_served_itself_is_held_against_it(live: Loop, tmp_path: Path) -> None:
    with connect(live.url) as connection:
        connection.execute("UPDATE impressions SET model_version = '1' WHERE shown_at > %s", [after(13)])
    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        watched = look(world, after(16))
        assert watched.state == "thin"
        assert "Nothing that version 2 has served" in watched.reasons[0]


def test_a_first_champion_that_breaks_is_held_for_want_of_one_before_it(live: Loop, notices: Notices) -> None:
    with connect(live.url) as connection:  # every impression after its training is clicked: nothing it ever saw
        connection.execute(
            "INSERT INTO feedback (surface, impression_id, kind, value, at, known_at, seq)"
            " SELECT surface, impression_id, 'click', 1, shown_at, known_at, seq"
            " FROM impressions WHERE shown_at > %s AND shown_at <= %s"
            " AND right(impression_id, 1) <> '0' ON CONFLICT DO NOTHING",
            [after(14), after(16)],
        )
    with live.world() as world:
        watched = look(world, after(16))
        assert watched.state == "surface held", watched.reasons
        assert "no version before 1" in watched.reasons[0]
        assert serving(world) == ("1", "update")
    assert [kind for kind, _ in notices] == ["surface-held"]


def test_a_champion_that_was_trained_long_ago_is_called_stale(live: Loop, notices: Notices) -> None:
    with live.world() as world:
        watched = look(world, after(17))
        assert watched.stale
        assert watched.state == "well", watched.reasons
        assert "was trained on nothing newer than" in watched.reasons[-1]
    assert [kind for kind, _ in notices] == ["stale"]


def test_a_surface_without_a_champion_has_nothing_to_watch(site: Loop, notices: Notices) -> None:
    with copied(site).world() as world:
        assert look(world, after(14)).state == "idle"
    assert notices == []


def test_what_the_flow_saw_is_on_prefects_run_page(
    live: Loop, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings_environment(live.settings).items():
        monkeypatch.setenv(name, value)
    run: Callable[[str, datetime], str] = watch
    assert run("feed", after(16)).startswith("well: On ")
