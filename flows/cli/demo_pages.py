"""Where to look at what a demo made: each address opens on the thing itself, not on a product's first page."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from infra.postgres.connections import connect
from infra.settings import Settings
from models.versions.registry import Registry
from monitoring.desk import accounts
from monitoring.records import review
from monitoring.reports import workspace

GUEST = "demo"
"""The desk's user that a demo makes."""

NEWEST = """
SELECT update_id, flow_run_id FROM updates WHERE surface = %s AND flow_run_id IS NOT NULL
ORDER BY update_id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Account:
    """What a person signs in to the desk with."""

    name: str
    password: str


@dataclass(frozen=True)
class Page:
    """An address, and what is to be seen there."""

    what: str
    address: str


@dataclass(frozen=True)
class _Update:
    update_id: int
    flow_run_id: str


def make_guest(settings: Settings, surface: str) -> Account:
    """A user of the desk who may do everything on the surface, with a password drawn at random."""
    account = Account(GUEST, secrets.token_urlsafe(12))
    with connect(settings.database) as connection:
        accounts.add_user(connection, account.name, account.password, role="operator", surface=surface)
    return account


def pages(settings: Settings, surface: str, version: str, now: datetime) -> list[Page]:
    """Where to look. ``version``: the one to open in MLflow. The desk opens on what waits for a decision, or else on
    the newest update, once a person has signed in."""
    with connect(settings.database) as connection, connection.cursor(row_factory=class_row(_Update)) as cursor:
        newest = cursor.execute(NEWEST, [surface]).fetchone()
        waiting = review.waiting(connection, [surface], now)
    registry = Registry(settings.mlflow_tracking, settings.mlflow_artifact_root)
    found = [
        Page("the newest version, its run and files", registry.version_page(settings.mlflow_pages, surface, version))
    ]
    decide = f"/{surface}"
    if newest is not None:
        story = f"{settings.prefect_pages}/runs/flow-run/{newest.flow_run_id}"
        found.insert(0, Page("the newest update, step by step", story))
        decide = f"/{surface}/updates/{newest.update_id}"
    if waiting:
        decide = f"/{surface}/updates/{max(one.update_id for one in waiting)}"
    what = "what waits for your decision" if waiting else "the gate's last decision, and its evidence"
    return [
        *found,
        Page("quality and drift over time", workspace.project_url(settings.evidently, surface)),
        Page(what, f"{settings.desk}/sign-in?next={decide}"),
        Page("what serves, and how fresh it is", f"{settings.serving}/readyz"),
    ]
