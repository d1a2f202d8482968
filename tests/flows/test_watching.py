"""The live watch on a small site: a bad champion is rolled back once and the surface held, a good one is left."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from features.counters.folder import ensure_folded
from flows.services.live_watch import WATCH, _act, look, watch
from infra.postgres.connections import connect
from infra.stack.environment import settings_environment
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.versions import promotions
from models.versions.artifact import save
from models.versions.registry import Registry
from monitoring.live.watch import Finding, Watch
from monitoring.records import evidence_store as records
from monitoring.records import holds
from tests.worlds.loop import Loop, after, copied

if TYPE_CHECKING:
    from flows.world import World

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

LIMITS = Watch(requests=50)

Told = list[tuple[str, str]]


@pytest.fixture(scope="module")
def learned(site: Loop, tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A loop whose first model serves: it has learned thirteen hours, and its evidence is of the hour after."""
    from monitoring.evaluation.compare import compare

    loop, folder = copied(site), tmp_path_factory.mktemp("first")
    with loop.world() as world:
        ensure_folded(world.url, world.surface.name, world.surface.features, after(14))
        past, judged = (world.frame(after(a), after(b), known_by=after(15)).examples for a, b in ((-1, 13), (13, 13.9)))
        surface = loop.surface
        model, _ = fine_tune(Model.new(surface.layout, surface.design, 0), past, seed=0, clock=time.monotonic)
        quality = compare(judged.label, judged.request, challenger=model.score(judged), champion=None)
        put(world, folder, model, version="1", figures={"quality": quality})
    return loop


@pytest.fixture
def live(learned: Loop) -> Loop:
    return copied(learned)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The notices sent, as kind and sentence."""
    sent: Told = []

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
    figures = records.evidence_of(world.connection, champion.decision_id).figures
    put(world, folder, model, version=version, figures=figures)


def put(world: "World", folder: Path, model: Model, *, version: str, figures: dict[str, Any]) -> None:
    """Take a model into service as the gate does, on these figures. It has learned the first thirteen hours."""
    connection, champion = world.connection, promotions.current(world.connection, "feed")
    before = champion.version if champion else None
    save(model, folder / version)
    made = connection.execute(
        "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
        " challenger_version) VALUES ('feed', %s, %s, %s, %s, %s, 'promoted', %s) RETURNING update_id",
        [after(14), before, after(0), after(13), after(13.9), version],
    ).fetchone()
    assert made is not None
    reasons = ["It is not worse."]
    evidence = records.write_evidence(
        connection, "feed", made[0], champion_version=before, verdict="promote", reasons=reasons, figures=figures
    )
    decision = records.write_decision(connection, evidence, action="promote", decided_by="gate", reason=reasons[0])
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


def test_a_bad_champion_is_rolled_back_once_and_the_surface_held(live: Loop, told: Told, tmp_path: Path) -> None:
    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        watched = look(world, after(16), LIMITS)
        assert watched.state == "rolled back", watched.reasons
        assert watched.version == "2"
        assert serving(world) == ("1", "rollback")
        assert (
            "Version 1 is the champion of feed again, in place of version 2. No serving process" in watched.reasons[0]
        )
        assert "higher than that of version 1" in watched.reasons[1]

        [evidence] = [e for e in records.read_all_evidence(world.connection, 2) if e.occasion == WATCH]
        assert (evidence.verdict, evidence.champion_version) == ("reject", "1")
        assert evidence.figures["watch"]["version"] == "2"
        assert evidence.figures["quality"]["paired"]["gain_share"] < -LIMITS.margin
        [decision] = [d for d in records.read_decisions(world.connection, 1) if d.action == "rollback"]
        assert (decision.decided_by, decision.through) == (WATCH, WATCH)
        hold = holds.held(world.connection, "feed")
        assert hold is not None
        assert hold.decided_by == WATCH
        assert [kind for kind, _ in told] == ["rolled-back"]

        again = look(world, after(16), LIMITS)  # the next hour
        assert again.state == "held"
        assert "feed is held since" in again.reasons[0]
        assert serving(world) == ("1", "rollback")
        assert [kind for kind, _ in told] == ["rolled-back"]


def test_the_alias_follows_the_record_and_not_before_others_can_read_it(live: Loop, told: Told, tmp_path: Path) -> None:
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
        assert look(world, after(16), LIMITS).state == "rolled back"
    assert read == ["1"]


def test_of_two_looks_at_the_same_time_one_acts(live: Loop, told: Told) -> None:
    broken = Finding("breach", ("It broke.",))
    with live.world() as world:
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        states = [_act(world, champion, None, {"look": look}, broken).state for look in (1, 2)]
        assert states == ["surface held", "held"]
        assert [e.occasion for e in records.read_all_evidence(world.connection, 1)] == ["update", WATCH]
    assert [kind for kind, _ in told] == ["surface-held"]


def test_a_champion_gone_back_to_is_not_left_for_a_third(live: Loop, told: Told, tmp_path: Path) -> None:
    """Version 3 was rolled back to 2 by hand, and 2 is bad: the watch holds the surface and goes no further back."""
    from flows.review.rollback import rollback

    with live.world() as world:
        plant(world, tmp_path, noise=0.6, version="2")
        plant(world, tmp_path, noise=0.0, version="3")
        rollback(world.connection, world.registry, "feed", person="ann", reason="It looked odd.", through="desk")
        assert serving(world) == ("2", "rollback")
        watched = look(world, after(16), LIMITS)
        assert watched.state == "surface held", watched.reasons
        assert "does not go further back" in watched.reasons[0]
        assert serving(world) == ("2", "rollback")
        assert holds.held(world.connection, "feed") is not None
        assert [kind for kind, _ in told] == ["surface-held"]


def test_a_good_champion_is_left_alone(live: Loop, told: Told, tmp_path: Path) -> None:
    with live.world() as world:
        plant(world, tmp_path, noise=0.001)
        watched = look(world, after(16), LIMITS)
        assert watched.state == "well", watched.reasons
        assert serving(world) == ("2", "update")
        assert holds.held(world.connection, "feed") is None
    assert told == []


def test_little_that_is_mature_says_nothing(live: Loop, told: Told, tmp_path: Path) -> None:
    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        champion = promotions.current(world.connection, "feed")
        assert champion is not None
        for now in (champion.learned_to, champion.learned_to + world.surface.attribution, after(16)):
            limits = LIMITS if now < after(16) else Watch(requests=100_000)
            assert look(world, now, limits).state == "thin"
        assert serving(world) == ("2", "update")
    assert told == []


def test_only_what_the_champion_served_itself_is_held_against_it(live: Loop, tmp_path: Path) -> None:
    with connect(live.url) as connection:
        connection.execute("UPDATE impressions SET model_version = '1' WHERE shown_at > %s", [after(13)])
    with live.world() as world:
        plant(world, tmp_path, noise=0.6)
        watched = look(world, after(16), LIMITS)
        assert watched.state == "thin"
        assert "Nothing that version 2 has served" in watched.reasons[0]


def test_a_first_champion_that_breaks_is_held_for_want_of_one_before_it(live: Loop, told: Told) -> None:
    with connect(live.url) as connection:  # every impression after its training is clicked: nothing it ever saw
        connection.execute(
            "INSERT INTO feedback (surface, impression_id, kind, value, at, known_at, seq)"
            " SELECT surface, impression_id, 'click', 1, shown_at, known_at, seq"
            " FROM impressions WHERE shown_at > %s AND shown_at <= %s"
            " AND right(impression_id, 1) <> '0' ON CONFLICT DO NOTHING",
            [after(14), after(16)],
        )
    with live.world() as world:
        watched = look(world, after(16), LIMITS)
        assert watched.state == "surface held", watched.reasons
        assert "no version before 1" in watched.reasons[0]
        assert serving(world) == ("1", "update")
    assert [kind for kind, _ in told] == ["surface-held"]


def test_a_champion_that_has_not_learned_for_long_is_told_of(live: Loop, told: Told) -> None:
    with live.world() as world:
        watched = look(world, after(17), LIMITS)
        assert watched.stale
        assert watched.state == "well", watched.reasons
        assert "has learned nothing newer than" in watched.reasons[-1]
    assert [kind for kind, _ in told] == ["stale"]


def test_a_surface_without_a_champion_has_nothing_to_watch(site: Loop, told: Told) -> None:
    with copied(site).world() as world:
        assert look(world, after(14), LIMITS).state == "idle"
    assert told == []


def test_the_flow_tells_what_it_saw_on_prefects_run_page(
    live: Loop, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import surfaces

    for name, value in settings_environment(live.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(surfaces.SURFACES, "feed", live.surface)
    run: Callable[[str, datetime], Any] = watch
    assert run("feed", after(16)).startswith("well: On ")
