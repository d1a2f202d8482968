"""Surfaces taken up anew while requests are served: none fails, each is ranked by one declaration."""

import threading
from dataclasses import replace
from pathlib import Path

from features.declare.families import HOUR, Family
from models.serving.config import ServedSurface
from tests.worlds.serving import FEATURES, rank, serve, serving_config
from tests.worlds.waiting import eventually

WIDER = replace(FEATURES, families=(*FEATURES.counted, Family("by_device", ("device",), (HOUR,))))


def test_a_changed_declaration_takes_over_without_a_failed_request(database: str, tmp_path: Path) -> None:
    declared = {"feed": ServedSurface(FEATURES, version="one")}
    said: list[dict[str, str]] = []
    config = serving_config(
        database, tmp_path / "cache", declared=lambda: dict(declared), report=lambda v: said.append(dict(v))
    )
    with serve(config) as client:
        failed, stopping = list[object](), threading.Event()

        def hammer() -> None:
            while not stopping.is_set():
                answer = client.post("/v1/feed/rank", json={"user_id": "u", "items": ["a", "b"]})
                if answer.status_code != 200 or len(answer.json()["items"]) != 2:
                    failed.append(answer.text)

        thread = threading.Thread(target=hammer)
        thread.start()
        declared["feed"] = ServedSurface(WIDER, version="two")
        declared["shelf"] = ServedSurface(FEATURES, version="one")
        eventually(lambda: said[-1:] == [{"feed": "two", "shelf": "one"}], "the new declarations serve", within_s=60)
        stopping.set()
        thread.join()
        assert failed == []
        assert rank(client, items=["a"])["items"]
        assert client.post("/v1/shelf/rank", json={"user_id": "u", "items": ["a"]}).status_code == 200
        assert client.get("/readyz").json()["surfaces"]["feed"]["version"] == "two"
        del declared["shelf"]
        eventually(
            lambda: client.post("/v1/shelf/rank", json={"user_id": "u", "items": ["a"]}).status_code == 404,
            "what is gone is served no longer",
            within_s=60,
        )


def test_a_process_may_begin_with_no_surface_at_all(database: str, tmp_path: Path) -> None:
    declared = dict[str, ServedSurface]()
    with serve(serving_config(database, tmp_path / "cache", declared=lambda: dict(declared))) as client:
        assert client.get("/readyz").json()["surfaces"] == {}
        declared["feed"] = ServedSurface(FEATURES, version="one")
        eventually(
            lambda: client.post("/v1/feed/rank", json={"user_id": "u", "items": ["a"]}).status_code == 200,
            "the first surface is served",
            within_s=60,
        )
