"""Notices reach people through Prefect, and cost an update nothing when they do not."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flows.review.notices import notify, page_of
from infra.settings import Settings
from tests.conftest import free_port
from tests.worlds.waiting import eventually


@pytest.fixture
def letterbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of an endpoint as a chat system has one, and what has been posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", posted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def make_block(prefect_server: str) -> Callable[[str, str], str]:
    """Saves a webhook block that posts to a URL; gives the name to put into MILLRACE_NOTICE_BLOCK."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    def make(name: str, url: str) -> str:
        body = {"title": "{{subject}}", "text": "{{body}}"}
        block = CustomWebhookNotificationBlock(
            name=name, url=url, json_data=body, headers=None, cookies=None, timeout=2
        )
        block.save(name, overwrite=True)
        return f"custom-webhook/{name}"

    return make


def settings_with(*, block: str | None = None) -> Settings:
    return Settings(notice_block=block, desk_url="https://desk.example")


def test_a_notice_reaches_the_webhook_with_its_sentence_and_the_link(
    make_block: Callable[[str, str], str], letterbox: tuple[str, list[dict[str, Any]]]
) -> None:
    address, posted = letterbox
    settings = settings_with(block=make_block("team", address))
    assert notify(settings, "held", "feed", "Predictions have gone flat.", page_of(settings, "feed", 12))
    assert posted == [
        {
            "title": "feed: a challenger waits for a person",
            "text": "Predictions have gone flat.\nhttps://desk.example/feed/updates/12",
        }
    ]


def test_a_notice_is_an_event_of_prefects_with_the_surface_as_its_resource(prefect_server: str) -> None:
    import httpx

    settings = settings_with()
    assert notify(settings, "rolled-back", "search", "Version 3 serves again.", page_of(settings, "search"))
    query = {"filter": {"event": {"name": ["millrace.rolled-back"]}}}

    def events() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.post(f"{prefect_server}/events/filter", json=query).json()["events"]
        return found

    eventually(lambda: len(events()) == 1, "the event is there", within_s=30)
    [event] = events()
    assert event["resource"]["prefect.resource.id"] == "millrace.surface.search"
    assert event["payload"] == {
        "surface": "search",
        "sentence": "Version 3 serves again.",
        "link": "https://desk.example/",
    }


@pytest.mark.parametrize("fault", ["nobody there", "no such block", "another kind of block"])
def test_a_notice_that_cannot_be_sent_is_a_warning(
    fault: str, make_block: Callable[[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    if fault == "nobody there":
        block = make_block("gone", f"http://127.0.0.1:{free_port()}")
    elif fault == "no such block":
        block = "slack-webhook/never-made"
    else:
        from prefect.blocks.system import Secret
        from pydantic import SecretStr

        Secret(value=SecretStr("x")).save("password", overwrite=True)
        block = "secret/password"
    with caplog.at_level(logging.WARNING):
        assert not notify(
            settings_with(block=block), "stale", "feed", "Nothing newer than 4.0 hours ago.", "https://desk.example/"
        )
    assert f"the notice 'stale' of feed through {block} was not sent" in caplog.text


def test_a_webhook_that_hangs_is_not_waited_for(
    make_block: Callable[[str, str], str], caplog: pytest.LogCaptureFixture
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        block = make_block("silent", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with caplog.at_level(logging.WARNING):
            assert not notify(settings_with(block=block), "held", "feed", "x", "https://desk.example/", timeout_s=0.5)
    assert "no answer in 0.5 s" in caplog.text


def test_a_process_without_a_prefect_server_sends_no_event_and_starts_none(
    prefect_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}), caplog.at_level(logging.WARNING):
        assert not notify(settings_with(), "held", "feed", "x", "https://desk.example/")
    assert "was not told where Prefect's server is" in caplog.text


def test_the_name_of_a_block_has_a_type_and_a_name() -> None:
    with pytest.raises(ValueError, match="notice_block"):
        Settings(notice_block="team")
