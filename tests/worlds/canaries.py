"""Canaries of the small surface: one begun as an update does it, and readers who click on what they are shown."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from features.declare.features import Features
from flows.review.canaries import Judged, act, as_settings, supersede
from infra.postgres.connections import connect
from models.serving.rank.arms import Arm, arm_of
from models.versions import artifact, canaries
from models.versions.canaries import CanaryRecord, Opened, Outcome
from monitoring.gate.findings import Finding
from monitoring.live.arms import Arms
from monitoring.live.canary import Canary, CanaryLook
from monitoring.records.canary_arms import ArmsRead
from tests.worlds.examples import small_model
from tests.worlds.rows import LEARNED_TO
from tests.worlds.serving import FEATURES, Client, layout_of, rank

QUICK = Canary(share=0.5, at_least=timedelta(0), at_most=timedelta(hours=1), slow=0.9, scores=0.9)
"""Half of all users each, no time that must pass, and models that score as they like."""

AT_ONCE = 16
"""Readers who wait for an answer."""

FACTS = {"found": "The canary's success measure is 10 % higher than its control's.", "goal": "better"}
"""Of a finding on the success measure."""


def begin_canary(
    database: str,
    models: Path,
    version: str,
    *,
    canary: Canary = QUICK,
    seed: int = 1,
    champion: str = "1",
    features: Features = FEATURES,
    saved: bool = True,
) -> CanaryRecord:
    """Save a small ranker, and begin it as a canary, as an update does at its end. ``saved``: whether its files are
    there."""
    folder = models / "feed" / version
    if saved:
        artifact.save(small_model(layout_of(features.schema), seed=seed), folder)
    with connect(database) as connection:
        update_id, decision_id = back_canary(connection, version, champion)
        opened = Opened(
            "feed",
            update_id,
            version,
            folder.as_uri(),
            champion,
            salt=f"feed.{update_id}.{version}",
            settings=as_settings(canary),
            learned_to=LEARNED_TO,
            decision_id=decision_id,
        )
        return canaries.begin(connection, opened)


def back_canary(connection: psycopg.Connection, version: str, champion: str | None) -> tuple[int, int]:
    """What a canary stands on: an update whose challenger the gate would promote, and its word to try it."""
    update = connection.execute(
        "INSERT INTO updates (surface, as_of, parent_version, window_start, split_at, window_end, state,"
        " challenger_version) VALUES ('feed', %s, %s, %s, %s, %s, 'canary', %s) RETURNING update_id",
        [LEARNED_TO, champion, LEARNED_TO - timedelta(hours=1), LEARNED_TO, LEARNED_TO, version],
    ).fetchone()
    assert update is not None
    content: dict[str, Any] = {"codes": [], "measured": {}, "reasons": [], "verdict": "promote", "weights_sha256": None}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(text.encode()).hexdigest()
    evidence = connection.execute(
        "INSERT INTO evidence (surface, update_id, occasion, verdict, codes, reasons, measured, checksum)"
        " VALUES ('feed', %s, 'update', 'promote', '{}', '{}', '{}', %s) RETURNING evidence_id",
        [update[0], checksum],
    ).fetchone()
    assert evidence is not None
    decision = connection.execute(
        "INSERT INTO decisions (surface, update_id, evidence_id, evidence_checksum, action, decided_by, reason)"
        " VALUES ('feed', %s, %s, %s, 'canary', 'gate', 'It is not worse.') RETURNING decision_id",
        [update[0], evidence[0], checksum],
    ).fetchone()
    assert decision is not None
    return int(update[0]), int(decision[0])


def users_of(record: CanaryRecord, arm: Arm | None, count: int) -> list[str]:
    """The first users of an arm."""
    names, number = list[str](), 0
    while len(names) < count:
        name = f"u{number}"
        if arm_of(record.salt, name, float(record.settings["share"])) == arm:
            names.append(name)
        number += 1
    return names


@dataclass
class Readers:
    """They are shown what a version ranks, and click with a chance that is the version's."""

    client: Client
    clicks: Mapping[str, float]
    """By version: the chance that one clicks the first item."""
    seed: int = 0
    seen: dict[str, set[str]] = field(default_factory=dict)
    """By user: the versions that ranked for them."""
    _number: int = 0

    def come(self, count: int) -> None:
        """So many new users, each with one request."""
        self.visit([f"reader{self._number + n}" for n in range(count)])
        self._number += count

    def visit(self, users: Sequence[str]) -> None:
        """A request of each user, many at once, and their clicks on the first of what it shows."""
        with ThreadPoolExecutor(AT_ONCE) as pool:  # so that many wait for one sync of the disk
            answers = list(pool.map(lambda user: rank(self.client, user_id=user), users))
        clicked = []
        for user, answer in zip(users, answers, strict=True):
            self.seen.setdefault(user, set()).add(answer["model_version"])
            first = answer["items"][0]
            chance = self.clicks[first.get("model_version", answer["model_version"])]
            if random.Random(f"{self.seed} {user}").random() < chance:
                clicked.append({"impression_id": first["impression_id"], "kind": "click"})
        if clicked:
            assert self.client.post("/v1/feedback", json={"events": clicked}).status_code == 200


def end_canary(database: str, record: CanaryRecord, outcome: Outcome) -> None:
    """End it as promoted, on its own evidence, or as superseded."""
    with connect(database) as connection:
        if outcome == "superseded":
            supersede(connection, record.surface, "what it was compared with is gone")
            return
        said = CanaryLook("promote", (Finding("live_shown", "promote", FACTS),), {"success": 1.1, "elapsed_s": 900.0})
        now = connection.execute("SELECT clock_timestamp()").fetchall()[0][0]
        assert act(connection, Judged(record, said, ArmsRead(Arms(), 1.0), now)) == outcome
