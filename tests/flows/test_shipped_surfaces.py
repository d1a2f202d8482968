"""One battery for every example that comes with Millrace, in one stack: from a log in its own format to an answer, and
what was served of it trained on to the bit."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.counters.folder import Folder
from features.feast.store import open_store
from features.ingest.checking import FileTimes
from features.ingest.importing import import_log
from features.ingest.log_files import Files
from features.ingest.simulate import simulate
from features.ingest.simulated_headlines import simulate_headlines
from features.ingest.simulated_movies import simulate_movies
from features.ingest.simulated_search import simulate_search
from features.ingest.simulated_shop import simulate_shop
from flows.surface import Surface
from flows.surfaces.feed import SURFACE as FEED
from flows.surfaces.headlines import SURFACE as HEADLINES
from flows.surfaces.movies import SURFACE as MOVIES
from flows.surfaces.search import SURFACE as SEARCH
from flows.surfaces.shop import SURFACE as SHOP
from flows.surfaces.single import SURFACE as SINGLE
from infra.addresses import sqlalchemy_url, with_database
from infra.postgres.connections import connect, create_database
from infra.postgres.migrations import migrate
from infra.settings import OWNER_ROLE
from models.learning.design import Design
from models.serving.config import ServedSurface
from models.text.text_design import TextDesign
from tests.roles import with_user
from tests.worlds.loop import START, Loop, copied, run_update
from tests.worlds.serving import Client, serve, serving_config

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:mlflow"), pytest.mark.slow, pytest.mark.timeout(600)]

NOW = datetime.now(UTC)


def feed_log(folder: Path) -> Files:
    log, items, dwell = simulate(seed=5, start=START, days=0.6, users=150, items_per_day=60, requests_per_day=2_000)
    return written(folder, log=log, items=items, feedback=dwell)


def headlines_log(folder: Path) -> Files:
    made = simulate_headlines(seed=5, start=START, days=0.6, users=200, articles_per_day=12, requests_per_day=9_000)
    return written(folder, log=made.log, items=made.items)


def movies_log(folder: Path) -> Files:
    made = simulate_movies(seed=5, start=START, days=40, users=200, movies=150, ratings_per_day=120)
    return written(folder, log=made.ratings, items=made.movies)


def search_log(folder: Path) -> Files:
    made = simulate_search(seed=5, start=START, days=0.6, users=200, items=300, queries=30, requests_per_day=1_000)
    return written(folder, log=made.log, items=made.items)


def shop_log(folder: Path) -> Files:
    made = simulate_shop(seed=5, start=START, days=1.0, users=300, items=150, requests_per_day=3_000)
    return written(folder, log=made.log.rename({"entry": "channel"}), items=made.items, feedback=made.feedback)


def single_log(folder: Path) -> Files:
    """Clicks on ads as the ad network's file has them: some apps are installed, most are not."""
    random, count = np.random.default_rng(5), 6_000
    app = random.integers(0, 30, count)
    at = np.sort(random.integers(0, 40_000, count))
    installed = random.random(count) < np.where(app % 10 == 0, 0.2, 0.002)
    naive = START.replace(tzinfo=None)
    times = pl.Series("click_time", [naive + timedelta(seconds=int(second)) for second in at])
    log = pl.DataFrame(
        {
            "ip": random.integers(0, 2_000, count),
            "app": app,
            "device": random.integers(0, 3, count),
            "os": random.integers(0, 9, count),
            "channel": random.integers(0, 20, count),
            "click_time": times,
            "attributed_time": pl.select(pl.when(pl.Series(installed)).then(times + timedelta(minutes=5))).to_series(),
        }
    )
    return written(folder, log=log)


def written(folder: Path, **frames: pl.DataFrame) -> Files:
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return Files(**{name: folder / f"{name}.parquet" for name in frames})


@dataclass(frozen=True)
class Shipped:
    """An example, and how its world asks for a ranking."""

    surface: Surface
    files: Callable[[Path], Files]
    request: Mapping[str, object]


SHIPPED = {
    "feed": Shipped(FEED, feed_log, {"items": ["a1", "a2", "a3"], "context": {"device": "phone", "region": "north"}}),
    "headlines": Shipped(HEADLINES, headlines_log, {"items": ["h1", "h2", "h3"], "context": {"device": "phone"}}),
    "movies": Shipped(MOVIES, movies_log, {"items": [1, 2, 3, 4]}),
    "search": Shipped(
        SEARCH, search_log, {"items": ["t1", "t2", "t3"], "context": {"query": "warm gloves", "device": "phone"}}
    ),
    "shop": Shipped(
        SHOP,
        shop_log,
        {"items": [{"id": "p1", "price": 9.5}, "p2", {"id": "p3", "price": None}], "context": {"device": "phone"}},
    ),
    "single": Shipped(SINGLE, single_log, {"items": [10], "context": {"device": 1, "os": 3, "channel": 7}}),
}


@pytest.fixture(scope="module")
def stack(postgres_url: str, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loop]:
    """One installation with all of them, their logs imported."""
    from models.versions.mlflow_client import prepare

    folder = tmp_path_factory.mktemp("shipped")
    url, mlflow = (with_database(postgres_url, f"{name}_{uuid.uuid4().hex[:12]}") for name in ("all", "all_mlflow"))
    create_database(with_user(url, OWNER_ROLE))
    migrate(with_user(url, OWNER_ROLE), user_url=url)
    prepare(sqlalchemy_url(mlflow), url)
    for name, shipped in SHIPPED.items():
        (folder / name).mkdir()
        features = shipped.surface.features
        done = import_log(
            url,
            name,
            shipped.files(folder / name),
            times=FileTimes(NOW),
            label=features.label.kind,
            mapping=shipped.surface.log,
            declared=features.columns,
        )
        assert done.dead_letters == 0, done.reasons
        assert done.imported > 3_000
        assert not any("declared, in no row" in note for note in done.notes if name != "movies")
        with open_store(url, name) as store:
            store.apply()
    loop = Loop(url, sqlalchemy_url(mlflow), folder / "artifacts", folder / "home", FEED)
    return {name: replace(loop, surface=shipped.surface) for name, shipped in SHIPPED.items()}


@pytest.fixture(scope="module")
def updated(stack: dict[str, Loop]) -> dict[str, Loop]:
    """Each with two updates by Prefect: of two thirds of its log, and of the rest."""
    for name, loop in stack.items():
        [(first, last)] = loop.query("SELECT min(shown_at), max(shown_at) FROM impressions WHERE surface = %s", name)
        late = loop.surface.attribution + timedelta(seconds=loop.surface.features.tick)
        with loop.world(fewest=200) as world:
            for as_of in (first + (last - first) * 0.67 + late, last + late):
                run_update(world, as_of)
    return stack


@pytest.mark.parametrize("name", SHIPPED)
def test_the_log_folded_as_it_came_and_at_once_says_the_same_to_the_bit(name: str, stack: dict[str, Loop]) -> None:
    loop = copied(stack[name])
    [(first, last)] = loop.query("SELECT min(shown_at), max(shown_at) FROM impressions WHERE surface = %s", name)

    def folded(steps: int) -> dict[str, bytes]:
        own = copied(loop)
        with connect(own.url, autocommit=True) as connection, Folder(connection, name, loop.surface.features) as it:
            for step in range(1, steps + 1):
                it.fold(first + (last - first) * step / steps + timedelta(days=1) * (step == steps))
        return dict(own.query("SELECT impression_id, row FROM served WHERE surface = %s", name))

    at_once = folded(1)
    assert len(at_once) == loop.query("SELECT count(*) FROM impressions WHERE surface = %s", name)[0][0]
    assert folded(7) == at_once


@pytest.mark.parametrize("name", SHIPPED)
def test_updates_learn_are_judged_by_evidence_and_publish(name: str, updated: dict[str, Loop]) -> None:
    loop = updated[name]
    rows = loop.query("SELECT verdict, evidence FROM evidence WHERE surface = %s ORDER BY update_id", name)
    assert rows[0][0] == "promote", rows[0]
    assert len(rows) == 2
    assert {verdict for verdict, _ in rows} <= {"promote", "hold"}
    [(champion,)] = loop.query(
        "SELECT version FROM promotions WHERE surface = %s AND update_id = (SELECT min(update_id)"
        " FROM promotions WHERE surface = %s)",
        name,
        name,
    )
    assert champion == "1"


@pytest.fixture(scope="module")
def client(updated: dict[str, Loop], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One serving process for all of them."""
    loop = updated["feed"]
    surfaces = {name: shipped.surface for name, shipped in SHIPPED.items()}
    served = {name: ServedSurface(one.features, text=one.design.text) for name, one in surfaces.items()}
    config = serving_config(
        loop.url,
        tmp_path_factory.mktemp("cache"),
        declared=lambda: served,
        tracking_uri=loop.tracking,
        artifact_root=loop.artifacts.as_uri(),
    )
    with ExitStack() as stack:
        yield stack.enter_context(serve(config))


@pytest.mark.parametrize("name", SHIPPED)
def test_it_ranks_logs_what_it_read_and_counts_the_feedback(
    name: str, updated: dict[str, Loop], client: Client
) -> None:
    loop, surface = updated[name], SHIPPED[name].surface
    asked = {"user_id": "17", **SHIPPED[name].request}
    answer = client.post(f"/v1/{name}/rank", json=asked).json()
    [(champion,)] = loop.query(
        "SELECT version FROM promotions WHERE surface = %s ORDER BY promotion_id DESC LIMIT 1", name
    )
    assert answer["model_version"] == champion, answer
    assert answer["degraded"] == []
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == len(SHIPPED[name].request["items"])  # type: ignore[arg-type]
    first = answer["items"][0]["impression_id"]
    kinds = [{"impression_id": first, "kind": label.kind, "value": 5.0} for label in surface.features.labels]
    kinds.append({"impression_id": first, "kind": "wink", "value": 1.0})
    said = client.post("/v1/feedback", json={"events": kinds}).json()
    assert "kinds" in said, said
    assert said["kinds"] == {label.kind: {"counted": 1} for label in surface.features.labels} | {
        "wink": {"undeclared": 1}
    }
    row = "SELECT row FROM served WHERE surface = %s AND impression_id = %s"
    [(served,)] = loop.query(row, name, first)
    read = surface.features.schema.unpack([bytes(served)])
    assert np.isfinite(read.dense).all()
    assert dict(zip(surface.features.schema.dense, read.dense[0].tolist(), strict=True)).keys() >= {"hour_sin"}
    with connect(loop.url, autocommit=True) as connection, Folder(connection, name, surface.features) as folder:
        folder.fold(datetime.now(UTC) + timedelta(minutes=1))
    assert loop.query(row, name, first) == [(served,)], "what was read is what is trained on"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"design": Design(text=TextDesign("title", "title"))},
            r"text\.query is 'title', which is no Id of the request",
        ),
        ({"design": Design(text=TextDesign("query", "price"))}, r"text\.item is 'price'.*there are kind, brand, title"),
        (
            {"design": Design()},
            r"recommend has Similar, which looks for what queries mean, and none are read: write design=",
        ),
    ],
)
def test_texts_are_ids_of_the_request_and_of_the_item(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SHIPPED["search"].surface, **changes)
