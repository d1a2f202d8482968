"""Feature values as serving logged them, against those the log gives: by the real fold and the real serving app."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.counters.folder import Folder
from features.identity.key import key_of
from features.log.entities import append_entities
from features.log.reading import read_events
from features.skew.comparison import FeatureDifference, ServedComparison, write
from features.skew.probes import Probes, begin, finish
from infra.postgres.connections import connect
from models.serving.follow.live_features import CandidateFeatures
from monitoring.evaluation.skew import Skew, SkewedFeature, skew
from tests.conftest import fresh_database
from tests.worlds.serving import FEATURES, Client, imported, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually

NEVER = 3600.0
COLUMNS = len(FEATURES.schema.dense) + len(FEATURES.schema.ids) + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("skew")


@pytest.fixture(scope="module")
def world(postgres_url: str, folder: Path) -> Iterator[str]:
    """A database with a log from elsewhere, folded, and a champion."""
    with fresh_database(postgres_url) as url:
        with_items(url)
        imported(url)
        promote(url, folder / "models", "1")
        with connect(url, autocommit=True) as connection, Folder(connection, "feed", FEATURES) as folding:
            folding.fold(datetime.now(UTC))
        yield url


@pytest.fixture(scope="module")
def replica(world: str, folder: Path) -> Iterator[Client]:
    """An app that follows the log, its items in memory."""
    with serve(serving_config(world, folder / "replica")) as client:
        rank(client)
        yield client


@contextmanager
def probed(url: str, client: Client, *, requests: int = 200) -> Iterator[list[ServedComparison]]:
    """Probe what serving does in this block; the list then holds what was found."""
    found: list[ServedComparison] = []
    with connect(url, autocommit=True) as connection:
        with Folder(connection, "feed", FEATURES) as folding:
            fold_all(folding)
            assert folding.engine is not None
            caught_up(client, folding.engine.seq)
        probe = begin(connection, "feed", FEATURES)
        yield found
        compared = finish(
            connection,
            probe,
            closed_at=now() + timedelta(seconds=FEATURES.tick),
            random=np.random.default_rng(0),
            requests=requests,
        )
        if compared is not None:
            found.append(compared)


def fold_all(folding: Folder) -> None:
    """Fold until nothing of the log is left, the tick under way included, once it is over."""

    def nothing_left() -> bool:
        folding.fold(now())
        engine = folding.engine
        return engine is not None and not len(read_events(folding.connection, "feed", engine.seq, 1))

    eventually(nothing_left, "the log is folded")


def caught_up(client: Client, seq: int) -> None:
    """Wait until a replica has followed the log to this place."""
    live_features = client.service.rankers["feed"].live_features
    eventually(lambda: live_features._engine.seq >= seq, "the replica has followed the log")


def now() -> datetime:
    return datetime.now(UTC)


def visits(client: Client, user: str, count: int = 4) -> None:
    """Requests of one user, who clicks in each; other ticks pass between some of them."""
    for n in range(count):
        early_in_a_tick()
        answer = rank(client, user_id=user)
        click(client, answer["items"][n % 3]["impression_id"])
        if n % 2:
            followed(client)


def early_in_a_tick() -> None:
    """An event still being committed when its tick ends may be folded after that tick was read: stay clear of it."""
    eventually(lambda: now().timestamp() % FEATURES.tick < FEATURES.tick / 2, "a tick begins")


def click(client: Client, impression_id: str) -> None:
    assert client.post("/v1/feedback", json={"impression_id": impression_id, "kind": "click"}).status_code == 200


def followed(client: Client) -> None:
    """Wait until a replica has folded all that its requests added."""
    live_features = client.service.rankers["feed"].live_features
    eventually(lambda: not live_features._engine.pending, "all that was added is folded")


def test_values_served_are_those_the_log_gives(world: str, replica: Client) -> None:
    with probed(world, replica) as found:
        for user in ("old", "fresh"):
            visits(replica, user)
    assert found[0].differing == {}
    assert (found[0].impressions, found[0].without_row, found[0].columns) == (32, 0, COLUMNS)
    assert found[0].first_shown < found[0].last_shown


def test_a_feature_served_with_another_value_is_named(
    world: str, replica: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_features = replica.service.rankers["feed"].live_features
    column = FEATURES.schema.dense.index("item_shown_1d")

    def in_other_units(*arguments: object) -> CandidateFeatures:
        read = type(live_features).read(live_features, *arguments)  # type: ignore[arg-type]
        dense = read.values.dense.copy()
        dense[:, column] = dense[:, column] / 2 + 1
        return replace(read, values=replace(read.values, dense=dense))

    with probed(world, replica) as found:
        monkeypatch.setattr(live_features, "read", in_other_units)
        visits(replica, "misled")
        monkeypatch.undo()
    assert set(found[0].differing) == {"item_shown_1d"}
    worst = found[0].differing["item_shown_1d"]
    assert worst.impressions == found[0].impressions == 16
    assert worst.served == pytest.approx(worst.joined / 2 + 1, abs=0.01)  # type: ignore[operator]


def test_a_replica_that_missed_a_users_clicks_and_an_items_new_section_is_told(
    world: str, replica: Client, folder: Path
) -> None:
    with probed(world, replica) as found, serve(serving_config(world, folder / "deaf", follow_s=NEVER)) as deaf:
        rank(deaf, user_id="somebody else")  # has the items of now in its memory
        visits(replica, "roamer")
        with connect(world) as connection:
            append_entities(connection, "feed", "items", pl.DataFrame({"item_id": ["d"], "section": ["film"]}))
        roamed = rank(deaf, user_id="roamer", request_id="roamed")
    names = found[0].differing
    assert {"history", "user_clicks"} <= set(names)
    assert names["user_clicks"].impression_id in {item["impression_id"] for item in roamed["items"]}
    assert (names["user_clicks"].served, names["user_clicks"].joined) == (0.0, pytest.approx(np.log(5), abs=0.01))
    assert (names["section"].served, names["section"].joined) == (key_of("section", "art"), key_of("section", "film"))
    with connect(world) as connection:
        append_entities(connection, "feed", "items", pl.DataFrame({"item_id": ["d"], "section": ["art"]}))


def test_rows_of_another_schema_and_reads_older_than_the_probe_are_counted(
    world: str, replica: Client, folder: Path
) -> None:
    other = replace(FEATURES, history=3)
    with serve(serving_config(world, folder / "slow", follow_s=NEVER)) as slow:
        visits(replica, "mover")  # over some ticks that the slow one does not see
        with (
            probed(world, replica) as found,
            serve(serving_config(world, folder / "other", features=other)) as stranger,
        ):
            rank(slow, user_id="late")
            rank(stranger, user_id="strange")
            rank(replica, user_id="well")
    assert (found[0].impressions, found[0].without_row, found[0].left_out) == (4, 4, 4)


def test_where_serving_read_nothing_newer_the_probe_says_so(world: str, replica: Client, folder: Path) -> None:
    with serve(serving_config(world, folder / "stale", follow_s=NEVER)) as stale:
        rank(replica, user_id="mover")
        with probed(world, replica) as found:
            pass
        assert found == []
        with probed(world, replica) as found:
            rank(stale, user_id="late")
    assert (found[0].impressions, found[0].left_out, found[0].differing) == (0, 4, {})


def test_the_folder_probes_now_and_then_and_a_window_adds_it_up(world: str, replica: Client) -> None:
    started = now()
    with connect(world, autocommit=True) as connection, Folder(connection, "feed", FEATURES) as folding:
        rank(replica, user_id="first")
        fold_all(folding)
        assert folding.engine is not None
        caught_up(replica, folding.engine.seq)
        probes = Probes(folding, np.random.default_rng(0), every=timedelta(minutes=10), span=timedelta(minutes=1))
        assert probes.look(started + timedelta(hours=1)) is None  # nothing ranked of late: none begun
        begun = now()
        assert probes.look(begun) is None
        visits(replica, "steady")
        fold_all(folding)
        assert probes.look(begun + timedelta(seconds=30)) is None
        compared = probes.look(begun + timedelta(seconds=61))
        assert compared is not None
        assert compared.impressions == 16
        rank(replica, user_id="steady")
        assert probes.look(begun + timedelta(minutes=2)) is None  # the next is not due
        assert probes.look(begun + timedelta(minutes=12)) is None
        of_window = skew(connection, "feed", started, now())
        assert of_window == Skew(probes=1, rows=16, values=16 * COLUMNS, differing_share=0.0)
        assert skew(connection, "feed", now(), now() + timedelta(hours=1)) == Skew()
        assert skew(connection, "search", started, now()) == Skew()


def test_figures_name_the_features_that_differ_most(world: str, replica: Client) -> None:
    started = now()
    with probed(world, replica) as found:
        visits(replica, "regular")
    planted = [
        {"a": FeatureDifference(4, "x", 1.0, 3.0)},
        {"a": FeatureDifference(4, "y", None, 1.0), "b": FeatureDifference(2, "z", 0, 1)},
    ]
    with connect(world, autocommit=True) as connection:
        for differing in planted:
            write(connection, "feed", "v", replace(found[0], differing=differing))
        of_window = skew(connection, "feed", started, now())
    assert of_window.worst == (
        SkewedFeature("a", 8 / 32, served=None, joined=1.0, impression_id="y"),
        SkewedFeature("b", 2 / 32, served=0, joined=1, impression_id="z"),
    )
    assert of_window.differing_share == pytest.approx(10 / of_window.values)
