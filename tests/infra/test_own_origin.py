"""Which requests a server of ours takes: by the headers that a browser sets and no page can."""

import asyncio
from typing import Any

import pytest

from infra.host_names import HostNames, HostPort
from infra.http.own_origin import OwnOrigin
from infra.settings import Settings

HERE = HostNames.of("127.0.0.1", 8361)
BEHIND = HostNames.of("0.0.0.0", 8361, ["desk.example", "https://ops.example:8443"])


def answer(names: HostNames, method: str = "POST", kind: str = "http", **headers: str) -> int:
    """The status of a request with these headers; of a web socket's 101 where it is let through."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200 if kind == "http" else 101, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing of a refused request is read")

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": "/", "headers": named} | ({"method": method} if kind == "http" else {})
    asyncio.run(OwnOrigin(app, names)(scope, receive, send))
    return int(sent[0].get("status", 403))


@pytest.mark.parametrize("host", ["127.0.0.1:8361", "localhost:8361", "[::1]:8361", "LOCALHOST:8361", "localhost:9000"])
def test_a_program_that_names_this_server_is_served(host: str) -> None:
    assert answer(HERE, host=host) == 200
    assert answer(HERE, method="GET", host=host) == 200


def test_a_program_without_a_host_is_served() -> None:
    assert answer(HERE) == 200  # HTTP/1.0, as of some balancers' checks; every browser names the host


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8361", "localhost.evil.example", "a b", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_name_is_refused_whatever_is_asked(method: str, host: str) -> None:
    assert answer(HERE, method=method, host=host) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1",
        "file://",
        "",
        "http://127.0.0.1:8361x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_page_of_another_origin_is_refused(method: str, origin: str) -> None:
    assert answer(HERE, method=method, host="127.0.0.1:8361", origin=origin) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000"])
def test_so_is_its_web_socket(origin: str) -> None:
    assert answer(HERE, kind="websocket", host="127.0.0.1:8361", origin=origin) == 403
    assert answer(HERE, kind="websocket", host="127.0.0.1:8361", origin="http://127.0.0.1:8361") == 101
    assert answer(HERE, kind="websocket", host="127.0.0.1:8361") == 101


def test_its_own_page_is_served_under_each_of_its_names() -> None:
    assert answer(HERE, host="127.0.0.1:8361", origin="http://127.0.0.1:8361", sec_fetch_site="same-origin") == 200
    assert answer(HERE, host="127.0.0.1:8361", origin="http://localhost:8361", sec_fetch_site="cross-site") == 200
    assert answer(HERE, host="localhost:9000", origin="http://localhost:9000") == 200  # through a tunnel


def test_a_form_that_tells_no_origin_is_refused_by_where_it_comes_from() -> None:
    for site in ("cross-site", "same-site"):
        assert answer(HERE, host="127.0.0.1:8361", sec_fetch_site=site) == 403
        assert answer(HERE, "GET", host="127.0.0.1:8361", sec_fetch_site=site, sec_fetch_dest="image") == 403
        assert answer(HERE, "GET", host="127.0.0.1:8361", sec_fetch_site=site, sec_fetch_dest="iframe") == 403
    assert answer(HERE, "GET", host="127.0.0.1:8361", sec_fetch_site="cross-site", sec_fetch_dest="document") == 200
    assert answer(HERE, host="127.0.0.1:8361", sec_fetch_site="cross-site", sec_fetch_dest="document") == 403


def test_a_second_host_or_origin_does_not_hide_the_first() -> None:
    sent = {"host": "evil.example", "Host": "127.0.0.1:8361"}
    assert answer(HERE, **sent) == 403
    assert answer(HERE, host="127.0.0.1:8361", origin="http://127.0.0.1:8361", Origin="http://evil.example") == 403


def test_behind_a_balancer_the_names_that_settings_give_are_its_own() -> None:
    for host in ("desk.example", "desk.example:443", "ops.example:8443", "10.0.0.7:8361", "localhost:8361"):
        assert answer(BEHIND, host=host) == 200
    assert answer(BEHIND, host="evil.example") == 403
    assert answer(BEHIND, host="desk.example", origin="https://desk.example") == 200
    assert answer(BEHIND, host="10.0.0.7:8361", origin="https://desk.example") == 200  # the balancer names the machine
    assert answer(BEHIND, host="10.0.0.7:8361", origin="https://ops.example:8443") == 200
    assert answer(BEHIND, host="10.0.0.7:8361", origin="https://ops.example") == 403
    assert answer(BEHIND, host="10.0.0.7:8361", origin="http://10.0.0.8:8361") == 403


@pytest.mark.parametrize("text", ["", "a b/c", "http://", "ann@host", "host/path", "host:99999999"])
def test_what_is_no_host_is_refused_where_it_is_set(text: str) -> None:
    with pytest.raises(ValueError):
        HostPort.parse(text)
    if text:
        with pytest.raises(ValueError, match="allowed_hosts"):
            Settings(allowed_hosts=f"fine.example, {text}")
