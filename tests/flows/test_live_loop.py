"""The whole loop, live: readers click on what is served, updates train on it, a challenger is a canary before it is the
champion. Real serving, PostgreSQL, Feast, MLflow and Prefect; the clock is the world's.
"""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features.declare.columns import Id
from features.declare.families import HOUR, Family
from features.declare.features import Features
from features.declare.labels import Label
from flows.services.canary import Looked, look
from flows.surface import Surface
from infra.postgres.connections import connect
from models.exploration.epsilon_greedy import EpsilonGreedy
from models.learning.design import Design
from models.serving.config import ServedSurface
from models.versions import canaries, promotions
from monitoring.checks.limits import Limits
from monitoring.gate.policy import Limit, Policy
from monitoring.live.canary import Canary
from monitoring.records.decisions import read_decisions
from monitoring.records.evidence_store import read_all_evidence
from tests.worlds.canaries import begin_canary
from tests.worlds.loop import Loop, expect_trained_once, run_update
from tests.worlds.serving import Client, serve, serving_config
from tests.worlds.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::UserWarning:mlflow")]

MATURES = timedelta(seconds=4)

ITEMS = {f"{section}{number}": section for section in ("art", "news", "sport") for number in range(7)} | {
    f"tech{number}": "tech" for number in range(2)
}
"""Items and their sections, by which readers choose."""

APPEALS = {"art": 0.05, "news": 0.2, "sport": 0.6, "tech": 0.9}

CANDIDATES, SHOWN, AT_ONCE = 12, 4, 12

WIDE = (
    *("calibration", "mean_prediction", "prediction_shift", "flattened", "features", "drift"),
    *("slices", "forgetting", "in_sample", "too_good"),
)

# No counter tells the sections apart, so that a version ranks by what it has learned of them.
FEATURES = Features(
    columns=(Id("section", of="item"), Id("device")),
    families=(Family("all", (), (HOUR,)),),
    labels=(Label("click", within=MATURES),),
    tick=0.5,
)

DESIGN = Design()

EXPLORE = EpsilonGreedy(0.3)
"""So that what is seldom shown can be learned anew."""

SURFACE = Surface(
    name="feed",
    features=FEATURES,
    design=replace(DESIGN, learning=replace(DESIGN.learning, batch_requests=4)),
    fewest=400,
    explore=EXPLORE,
    rehearse=timedelta(hours=1),
    limits=Limits(labels_factor=20.0, disagreement=1.0),  # tastes turn at once, which is taken for a fault else
    policy=Policy(margin=0.3, early="pass", **{name: Limit(100.0) for name in WIDE if hasattr(Policy(), name)}),
    canary=Canary(
        share=0.5,
        goal="superior",
        at_least=timedelta(0),
        at_most=timedelta(minutes=30),
        every=timedelta(seconds=30),
        slow=0.9,
        scores=0.9,
    ),
)


@dataclass
class Site:
    """Readers of a feed: each is shown items, and clicks the first by its section's appeal, and those below it less
    often for where they are."""

    client: Client
    appeals: dict[str, float]
    draw: random.Random = field(default_factory=lambda: random.Random(7))
    readers: int = 0

    def turn(self) -> None:
        """News are what sport was."""
        self.appeals = {**self.appeals, "news": self.appeals["sport"], "sport": self.appeals["news"]}

    def come(self, count: int) -> None:
        """So many new readers, with a request each, and their clicks soon after."""
        for first in range(0, count, AT_ONCE):
            self._visit(min(AT_ONCE, count - first))

    def _visit(self, count: int) -> None:
        bodies = []
        for _ in range(count):
            self.readers += 1
            items = self.draw.sample([*ITEMS], CANDIDATES)
            context = {"device": self.draw.choice(["phone", "tv"])}
            bodies.append({"user_id": f"r{self.readers}", "items": items, "context": context, "limit": SHOWN})
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(self._rank, bodies))
        clicks = [
            {"impression_id": item["impression_id"], "kind": "click"}
            for answer in answers
            for item in answer["items"]
            if self.draw.random() < self.appeals[ITEMS[item["item_id"]]] / (1 + 0.5 * item["position"])
        ]
        if clicks:
            given = self.client.post("/v1/feedback", json={"events": clicks})
            assert given.status_code == 200, given.text

    def _rank(self, body: dict[str, Any]) -> dict[str, Any]:
        response = self.client.post("/v1/feed/rank", json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def matured(self) -> datetime:
        """When all that was shown so far is mature, and in the log."""
        eventually(lambda: not self.client.service.state().journaled, "the journal is empty")
        at = datetime.now(UTC) + MATURES + timedelta(seconds=1)
        eventually(lambda: datetime.now(UTC) > at, "labels are mature")
        return at


def until_it_ends(site: Site, loop: Loop) -> Looked:
    """Readers come, and it is looked at again and again."""
    for _ in range(12):
        site.come(150)
        now = site.matured()
        with connect(loop.url, autocommit=True) as connection:
            looked = look(connection, "feed", FEATURES, now)
        if looked.state != "wait":
            return looked
    raise AssertionError(f"the canary did not end: {looked.reasons}")


def serves(site: Site, version: str) -> bool:
    champion = site.client.service.champions.current("feed")
    return champion is not None and champion.version == version


def recorded(loop: Loop, update_id: int) -> tuple[Sequence[str], str, str]:
    """What was decided of an update, in order; the occasion of its last evidence, and the word of its last look."""
    with connect(loop.url) as connection:
        ended = canaries.of_update(connection, update_id)
        evidence = read_all_evidence(connection, update_id)[-1]
        decisions = read_decisions(connection, update_id)
        assert ended is not None
        path = canaries.looks(connection, ended.canary_id)
    assert evidence.evidence.canary is not None
    assert len(evidence.evidence.canary.looks) == len(path)
    assert decisions[-1].evidence_id == evidence.evidence_id
    return [decision.action for decision in decisions], evidence.occasion, path[-1].word


def test_what_readers_do_makes_versions_and_a_worse_canary_goes_and_a_better_one_stays(
    loop: Loop, database: str, tmp_path: Path
) -> None:
    loop = replace(loop, url=database, surface=SURFACE)
    declared = {"feed": ServedSurface(FEATURES, explore=EXPLORE)}
    config = serving_config(database, tmp_path / "cache", declared=lambda: declared, tracking_uri=loop.tracking)
    with serve(config, settles=False) as client, loop.world() as world:
        site = Site(client, APPEALS)
        put = {"items": [{"id": item, "section": section} for item, section in ITEMS.items()]}
        response = client.put("/v1/feed/items", json=put)
        assert response.json()["accepted"] == len(ITEMS)

        # Nothing serves yet: what is shown is shown in any order, and the first version learns from it.
        site.come(600)
        first = run_update(world, site.matured())
        assert first.published.state == "promoted", first.verdict.reasons
        assert first.published.version is not None
        eventually(lambda: serves(site, first.published.version or ""), "the first version serves")

        # Tastes turn. The next version knows, and is a canary before it serves everybody.
        site.turn()
        site.come(600)
        second = run_update(world, site.matured())
        assert second.published.state == "canary", second.verdict.reasons
        assert serves(site, first.published.version)
        assert until_it_ends(site, loop).state == "promoted"
        assert second.published.version is not None
        eventually(lambda: serves(site, second.published.version or ""), "the second version serves")
        assert recorded(loop, second.claimed.update_id) == (["canary", "promote"], "canary", "promote")

        # One that ranks at random is planted.
        bad = begin_canary(
            database,
            tmp_path / "models",
            "bad",
            canary=replace(SURFACE.canary or Canary(), goal="not inferior"),
            champion=second.published.version,
            features=FEATURES,
        )
        assert until_it_ends(site, loop).state == "rolled back"
        assert recorded(loop, bad.update_id) == (["canary", "reject"], "canary", "roll back")
        assert serves(site, second.published.version)

        # And the loop goes on.
        third = run_update(world, site.matured())
        assert third.published.state in ("canary", "held", "rejected"), third.verdict.reasons
    with connect(database) as connection:
        champion = promotions.current(connection, "feed")
        assert champion is not None
        assert champion.version == second.published.version
        expect_trained_once(connection, "feed")
