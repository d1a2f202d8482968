"""The model in service: taken up without a restart and without a failed request, or left where it is."""

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from infra.addresses import with_database
from infra.postgres.connections import connect
from models.frames import to_score
from models.versions import artifact, promotions
from tests.conftest import free_port, fresh_database
from tests.worlds.rows import LEARNED_TO, back
from tests.worlds.serving import FEATURES, promote, rank, serve, serving_config, with_items
from tests.worlds.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_promotion_is_served_within_a_second_and_a_step_back_too(database: str, tmp_path: Path) -> None:
    promote(database, tmp_path / "models", "1", seed=1)
    config = serving_config(database, tmp_path / "cache", poll_s=60)  # notified, not found by looking
    with serve(config, settles=False) as client:
        assert rank(client)["model_version"] == "1"
        promote(database, tmp_path / "models", "2", seed=2)
        eventually(lambda: rank(client)["model_version"] == "2", "version 2 serves", within_s=2)
        with connect(database) as connection:
            backing = back(connection)
            promotions.record(
                connection,
                surface="feed",
                version="1",
                artifact_uri=(tmp_path / "models" / "feed" / "1").as_uri(),
                previous_version="2",
                update_id=backing.update_id,
                decision_id=backing.decision_id,
                learned_to=LEARNED_TO,
            )
        eventually(lambda: rank(client)["model_version"] == "1", "version 1 serves again", within_s=2)


def test_a_promotion_whose_notification_is_lost_is_found(database: str, tmp_path: Path) -> None:
    with serve(serving_config(database, tmp_path / "cache", poll_s=0.3)) as client:
        assert rank(client)["model_version"] == "none"
        with connect(database) as connection:
            # As if the notification were lost: promoted while nobody listens to the channel.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%promotions%%'"
                " AND pid <> pg_backend_pid() AND datname = current_database()"
            )
        promote(database, tmp_path / "models", "1")
        eventually(lambda: rank(client)["model_version"] == "1", "version 1 serves", within_s=3)


def test_a_model_of_other_features_is_refused_and_the_champion_stays(database: str, tmp_path: Path) -> None:
    promote(database, tmp_path / "models", "1")
    with serve(serving_config(database, tmp_path / "cache")) as client:
        promote(database, tmp_path / "models", "2", features=replace(FEATURES, history=3))
        eventually(
            lambda: 'millrace_model_load_failures_total{surface="feed"}' in client.get("/metrics").text, "it was tried"
        )
        assert rank(client)["model_version"] == "1"
        promote(database, tmp_path / "models", "3")
        eventually(lambda: rank(client)["model_version"] == "3", "the next one serves")


def test_damaged_weights_are_refused_and_the_champion_stays(database: str, tmp_path: Path) -> None:
    promote(database, tmp_path / "models", "1")
    with serve(serving_config(database, tmp_path / "cache")) as client:
        rank(client)
        # Version 2 is damaged where it comes from.
        with connect(database) as connection:
            folder = tmp_path / "models" / "feed" / "2"
            artifact.save(artifact.load(tmp_path / "models" / "feed" / "1"), folder)
            weights = bytearray((folder / "weights.safetensors").read_bytes())
            weights[-1] ^= 1
            (folder / "weights.safetensors").write_bytes(weights)
            backing = back(connection)
            promotions.record(
                connection,
                surface="feed",
                version="2",
                artifact_uri=folder.as_uri(),
                previous_version="1",
                update_id=backing.update_id,
                decision_id=backing.decision_id,
                learned_to=LEARNED_TO,
            )
        eventually(
            lambda: 'millrace_model_load_failures_total{surface="feed"}' in client.get("/metrics").text, "it was tried"
        )
        assert rank(client)["model_version"] == "1"


def test_a_cached_model_that_was_damaged_is_fetched_again(database: str, tmp_path: Path) -> None:
    promote(database, tmp_path / "models", "1")
    with serve(serving_config(database, tmp_path / "cache")) as client:
        rank(client)
    (weights,) = (tmp_path / "cache" / "models").rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    with serve(serving_config(database, tmp_path / "cache")) as client:
        eventually(lambda: rank(client)["model_version"] == "1", "version 1 serves")


def test_the_cache_keeps_a_few_versions_and_the_one_in_service(database: str, tmp_path: Path) -> None:
    with serve(serving_config(database, tmp_path / "cache")) as client:
        for version in "12345":
            promote(database, tmp_path / "models", version)
            eventually(lambda v=version: rank(client)["model_version"] == v, f"version {version} serves")
        cached = sorted(path.name[0] for path in (tmp_path / "cache" / "models" / "feed").iterdir() if path.is_dir())
    assert cached == ["3", "4", "5"]


def test_a_cached_model_that_no_record_promotes_does_not_serve(
    database: str, postgres_url: str, tmp_path: Path
) -> None:
    promote(database, tmp_path / "models", "1")
    with serve(serving_config(database, tmp_path / "cache")) as client:
        assert rank(client)["model_version"] == "1"
    with fresh_database(postgres_url) as another, serve(serving_config(another, tmp_path / "cache")) as client:
        eventually(lambda: rank(client)["model_version"] == "none", "no model serves")


def test_no_pickle_is_loaded_on_the_serving_path(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(load: Callable[..., Any]) -> Callable[..., Any]:
        def loaded(*arguments: Any, **options: Any) -> Any:
            # Numba keeps the machine code of our own functions beside their .pyc files, as a pickle: code, no data.
            caller = sys._getframe(1).f_globals["__name__"]
            assert caller.startswith("numba."), f"{caller} loads a pickle"
            return load(*arguments, **options)

        return loaded

    promote(database, tmp_path / "models", "1")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, guarded(getattr(pickle, name)))
    monkeypatch.setattr(torch, "load", guarded(torch.load))
    with serve(serving_config(database, tmp_path / "cache")) as client:
        eventually(lambda: rank(client)["model_version"] == "1", "version 1 serves")
    suffixes = {path.suffix for path in (tmp_path / "cache" / "models").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}


@contextmanager
def process(database: str, home: Path) -> Iterator[tuple[str, Path]]:
    """``python -m models.serving`` on a free port: its address, and the file of its log."""
    port = free_port()
    home.mkdir()
    log = home / "serving.log"
    environment = os.environ | {
        "MILLRACE_HOME": str(home),
        "MILLRACE_DATABASE_URL": database,
        "MILLRACE_MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MILLRACE_SERVING_PORT": str(port),
    }
    command = [sys.executable, "-m", "models.serving", "--surfaces", "tests.worlds.serving:declared"]
    with log.open("w") as out:
        running = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert running.poll() is None, log.read_text()
        try:
            return httpx.get(f"{address}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(ready, "the process is ready", within_s=90)
        yield address, log
    finally:
        running.terminate()
        assert running.wait(30) in (0, -15)


@dataclass
class Hammer:
    """Clients that rank without pause until stopped, and what they met."""

    address: str
    answers: list[dict] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, client: int) -> None:
        with httpx.Client(base_url=self.address, timeout=10) as http:
            n = 0
            while not self.stopping.is_set():
                n += 1
                body = {
                    "user_id": f"u{client}-{n % 5}",
                    "items": ["a", "b", "c", "d"],
                    "context": {"device": "tv"},
                    "request_id": f"{client}-{n}",
                }
                began = time.perf_counter()
                try:
                    response = http.post("/v1/feed/rank", json=body)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                self.slowest = max(self.slowest, time.perf_counter() - began)
                if response.status_code != 200:
                    self.failures.append(response.text)
                else:
                    self.answers.append(response.json())


def test_a_new_champion_is_taken_up_without_a_failed_request_and_each_response_is_computed_by_exactly_one(
    database: str, tmp_path: Path
) -> None:
    with_items(database)
    versions = ["1", "2", "3", "4"]
    promote(database, tmp_path / "models", "1", seed=1)
    with process(database, tmp_path / "home") as (address, log):
        hammer = Hammer(address)
        clients = [threading.Thread(target=hammer.run, args=(n,)) for n in range(3)]
        for client in clients:
            client.start()
        try:
            for version in versions[1:]:
                time.sleep(0.7)
                promote(database, tmp_path / "models", version, seed=int(version))
                eventually(
                    lambda v=version: hammer.answers[-1]["model_version"] == v, f"version {version} serves", within_s=10
                )
            time.sleep(0.5)
        finally:
            hammer.stopping.set()
            for client in clients:
                client.join()
        lines = [json.loads(line) for line in log.read_text().splitlines()]

    assert hammer.failures == []
    assert len(hammer.answers) > 50
    assert {answer["model_version"] for answer in hammer.answers} == set(versions)
    assert {"version 2 serves feed", "version 4 serves feed"} <= {line["message"] for line in lines}

    # Every score is that of the named version on the row that was served with it.
    models = {version: artifact.load(tmp_path / "models" / "feed" / version) for version in versions}
    with connect(database) as connection:
        served = {
            name: (version, bytes(row))
            for name, version, row in connection.execute(
                "SELECT impression_id, model_version, row FROM impressions"
                " JOIN served USING (surface, impression_id, shown_at)"
            )
        }
    assert len(served) == 4 * len(hammer.answers)
    for answer in hammer.answers[:: max(1, len(hammer.answers) // 200)]:
        rows = [served[item["impression_id"]] for item in answer["items"]]
        assert {version for version, _ in rows} == {answer["model_version"]}
        read = FEATURES.schema.unpack([row for _, row in rows])
        scores = models[answer["model_version"]].score(
            to_score(read, np.zeros((4, 0), np.float32), FEATURES.schema, 0.0)
        )
        np.testing.assert_allclose(scores, [item["score"] for item in answer["items"]], rtol=1e-5)


def test_the_process_refuses_to_start_on_a_surface_that_is_not_declared(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "models.serving", "--surfaces", "tests.worlds.serving:NOTHING"]
    done = subprocess.run(
        command, env=os.environ | {"MILLRACE_HOME": str(tmp_path)}, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "NOTHING" in done.stderr


@pytest.mark.parametrize("name", ["poll_s", "follow_s", "drain_s", "threads", "patience_s"])
def test_a_setting_that_makes_no_sense_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        serving_config(with_database("postgresql://x@127.0.0.1:1/x", "x"), tmp_path, **{name: 0})
