"""The look at a surface's canary, as often as it declares.

    python -c "from flows.services.canary import canary; canary('feed')"

It reads what both arms have had since the canary began, adds a point to its path, and promotes it, rolls it back or
waits. Killed at any point and run again it ends the same.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import psycopg
from prefect import flow, get_run_logger

from features.declare.features import Features
from flows.after_update import A_WHILE, watch_later
from flows.review import canaries as review
from flows.review.notices import notify, page_of
from flows.taken_up import running
from infra.postgres.connections import connect
from infra.settings import Settings
from models.versions import alias, canaries, promotions
from models.versions.registry import Registry


@dataclass(frozen=True)
class Looked:
    """What a look came to."""

    state: Literal["idle", "wait", "promoted", "rolled back"]
    reasons: tuple[str, ...]
    update_id: int | None = None


@flow(name="canary", flow_run_name="canary {surface}", persist_result=False)
def canary(surface: str) -> str:
    """Look at the canary of a surface, and promote it or roll it back where it has shown enough."""
    settings = Settings()
    declared = running(settings, surface)
    registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    now = datetime.now(UTC)
    with connect(settings.database, autocommit=True) as connection:
        looked = look(connection, surface, declared.features, now)
        for reason in looked.reasons:
            get_run_logger().info(reason)
        if looked.update_id is not None:
            page = page_of(settings, surface, looked.update_id)
            if looked.state == "rolled back":
                notify(settings, "rejected", surface, looked.reasons[0], page)
            else:
                with registry.answering():
                    alias.follow(connection, registry, surface)
                champion = promotions.current(connection, surface)
                if champion is not None and champion.update_id == looked.update_id:
                    watch_later(surface, champion.promotion_id, now + declared.attribution + A_WHILE)
    return f"{looked.state}: {looked.reasons[0]}"


def look(connection: psycopg.Connection, surface: str, features: Features, now: datetime) -> Looked:
    """One look at the surface's canary as of ``now``; acts on what it says. ``connection`` is in autocommit mode."""
    record = canaries.running(connection, surface)
    if record is None:
        return Looked("idle", (f"{surface} has no canary.",))
    judged = review.judge(connection, record, features, now)
    outcome = review.act(connection, judged)
    reasons = tuple(dict.fromkeys((judged.reason, *judged.said.reasons)))
    if outcome is None:
        return Looked("wait", reasons)
    return Looked("promoted" if outcome == "promoted" else "rolled back", reasons, record.update_id)
