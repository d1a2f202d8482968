"""A small surface to serve: its features, its models, its champion, and an app around them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from features.declare.columns import Id
from features.declare.families import DAY, HOUR, Family
from features.declare.features import Features
from features.declare.schema import RowSchema
from features.declare.views import TeamView
from features.log.entities import append_entities
from features.log.writing import append
from infra.postgres.connections import connect
from infra.settings import Settings
from models.examples import Layout
from models.retrieval import artifact as towers_artifact
from models.retrieval.artifact import VersionTowers
from models.serving.app import create_app
from models.serving.config import ServedSurface, ServingConfig
from models.serving.service import RankingService
from models.versions import artifact, promotions
from models.versions.promotions import Promotion
from tests.worlds.examples import small_model
from tests.worlds.rows import LEARNED_TO, back
from tests.worlds.waiting import eventually

FEATURES = Features(
    columns=(Id("section", of="item"), Id("device")),
    families=(
        Family("all", (), (DAY,), trend=True, sizes=0),
        Family("item", ("item",), (HOUR, DAY), prior="all", trend=True, ages=True),
        Family("user_section", ("user", "section"), (DAY,), prior="all"),
    ),
    history=4,
    tick=0.5,
)

ITEMS = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "section": ["news", "sport", "news", "art"]})


def layout_of(schema: RowSchema) -> Layout:
    return Layout(schema.version, schema.dense, schema.ids, schema.history)


def promote(
    database: str,
    models: Path,
    version: str,
    *,
    seed: int = 0,
    surface: str = "feed",
    features: Features = FEATURES,
    learned_to: datetime = LEARNED_TO,
    retrieves: VersionTowers | None = None,
    by_posterior: bool = False,
) -> Promotion:
    """Save a small ranker, and the towers given, and record its promotion, as an update does at its end."""
    folder = models / surface / version
    artifact.save(small_model(layout_of(features.schema), seed=seed, by_posterior=by_posterior), folder)
    if retrieves is not None:
        towers_artifact.save(retrieves.towers, folder / towers_artifact.FOLDER, retrieves.names)
    with connect(database) as connection:
        backing = back(connection, surface)
        champion = promotions.current(connection, surface)
        return promotions.record(
            connection,
            surface=surface,
            version=version,
            artifact_uri=folder.as_uri(),
            previous_version=champion.version if champion else None,
            update_id=backing.update_id,
            decision_id=backing.decision_id,
            learned_to=learned_to,
        )


def serving_config(
    database: str,
    cache: Path,
    features: Features = FEATURES,
    views: tuple[TeamView, ...] = (),
    declared: Callable[[], Mapping[str, ServedSurface]] | None = None,
    **changes: Any,
) -> ServingConfig:
    """The configuration of a serving process of this world, or of a feed with other features or views."""
    settings: dict[str, Any] = {
        "database_url": database,
        "surfaces": declared or (lambda: {"feed": ServedSurface(features, views)}),
        "cache": cache,
        "tracking_uri": "http://127.0.0.1:1",
        "open_without_keys": True,
        "poll_s": 0.5,
        "follow_s": 0.2,
        "drain_s": 0.02,
        "compiles": False,  # which takes as long as twenty tests; those of what is compiled say so
    }
    return ServingConfig(**settings | changes)


def waiting_for_the_log(database: str, cache: Path, **changes: Any) -> ServingConfig:
    """One whose answers say what the log made of each event."""
    return serving_config(database, cache, durable="database", patience_s=60.0, **changes)


@dataclass(frozen=True)
class Client:
    """Calls an app directly, from any thread; the app runs in an event loop of its own."""

    app: FastAPI
    portal: BlockingPortal
    http: httpx.AsyncClient
    settles: bool
    """Whether an answer is looked at once the log has what was accepted, where the database is there."""

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.portal.call(partial(self.http.get, path, **options))

    def put(self, path: str, **body: Any) -> httpx.Response:
        return self.portal.call(partial(self.http.put, path, **body))

    def post(self, path: str, **body: Any) -> httpx.Response:
        response = self.portal.call(partial(self.http.post, path, **body))
        if self.settles:
            eventually(self._settled, "the journal is empty")
        return response

    def _settled(self) -> bool:
        service = self.service
        return not service.database.available or not service.state().journaled

    @property
    def service(self) -> RankingService:
        service: RankingService = self.app.state.service
        return service


@contextmanager
def serve(config: ServingConfig, *, ready: bool = True, settles: bool = True) -> Iterator[Client]:
    """The app, started; and by default ready."""
    app = create_app(config)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://serving")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        client = Client(app, portal, http, settles)
        if ready:
            # of a fresh clone the first compiles what reads features
            eventually(lambda: client.get("/readyz").status_code == 200, "ready", within_s=120)
        yield client
        portal.call(http.aclose)


def rank(client: Client, **changes: Any) -> dict[str, Any]:
    """A well-formed request, and the body of its answer."""
    body = {"user_id": "u1", "context": {"device": "phone"}, "items": ["a", "b", "c", "d"]} | changes
    response = client.post("/v1/feed/rank", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def recommend(client: Client, **changes: Any) -> dict[str, Any]:
    """A well-formed request for recommendations, and the body of its answer."""
    body = {"user_id": "u1", "context": {"device": "phone"}} | changes
    response = client.post("/v1/feed/recommend", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def click(client: Client, *items: str, user: str) -> None:
    """A user is shown all items and clicks these, in this order."""
    shown = {one["item_id"]: one["impression_id"] for one in rank(client, user_id=user)["items"]}
    events = [{"impression_id": shown[item], "kind": "click"} for item in items]
    assert client.post("/v1/feedback", json={"events": events}).status_code == 200


def impression_id(client: Client, user: str, request_id: str, item: str) -> str:
    """What the impression of an item is, or will be, called."""
    return client.service.signer.impression_ids("feed", user, request_id, [item])[0]


def with_items(database: str) -> None:
    with connect(database) as connection:
        append_entities(connection, "feed", "items", ITEMS)


def imported(database: str, clicks: int = 20) -> None:
    """A log from elsewhere: ``old`` was shown item a and clicked it every minute, until an hour ago."""
    now = datetime.now(UTC)
    times = [now - timedelta(hours=1, minutes=clicks - i) for i in range(clicks)]
    names = [f"old-{i}" for i in range(clicks)]
    shown = pl.DataFrame(
        {
            "impression_id": names,
            "request_id": names,
            "user_id": ["old"] * clicks,
            "item_id": ["a"] * clicks,
            "shown_at": times,
            "known_at": times,
            "context": ['{"device": "phone"}'] * clicks,
        }
    )
    clicked = pl.DataFrame(
        {
            "impression_id": names,
            "kind": ["click"] * clicks,
            "value": [1.0] * clicks,
            "at": [t + timedelta(seconds=5) for t in times],
            "known_at": [t + timedelta(seconds=5) for t in times],
        }
    )
    with connect(database) as connection:
        append(connection, "feed", impressions=shown, feedback=clicked, now=now, source="test")


def declared(_: Settings) -> Callable[[], Mapping[str, ServedSurface]]:
    """What ``python -m models.serving --surfaces`` is pointed to."""
    return lambda: {"feed": ServedSurface(FEATURES)}
