"""What a client may send to our servers, and how long it may take: serving and the review desk, as processes."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.http.limits import RequestLimits
from models.serving.app import LIMITS as OF_SERVING
from monitoring.desk.app import LIMITS as OF_THE_DESK
from tests.conftest import free_port, fresh_database
from tests.worlds.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
MB = 1 << 20

COMMANDS = {
    "serving": ("-m", "models.serving", "--surfaces", "tests.worlds.serving:declared"),
    "desk": ("-m", "flows.services.desk"),
}
PATHS = {"serving": "/v1/feed/rank", "desk": "/sign-in"}
LIMITS = {"serving": OF_SERVING, "desk": OF_THE_DESK}


@dataclass(frozen=True)
class Server:
    """A server of ours, in a process of its own."""

    port: int
    path: str
    """Takes POST."""
    limits: RequestLimits
    process: psutil.Process

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def head(self, *lines: str) -> bytes:
        """First line and headers of a POST."""
        told = ("Content-Type: application/json", *lines)
        return "\r\n".join((f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *told, "", "")).encode()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def is_well(self) -> bool:
        """Whether others are answered, and soon."""
        return httpx.get(f"{self.address}/healthz", timeout=2).status_code == 200

    def resident(self) -> int:
        return int(self.process.memory_info().rss)


@pytest.fixture(scope="module", params=["serving", "desk"])
def server(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    name, port, home = request.param, free_port(), tmp_path_factory.mktemp("home")
    ports = {"serving": "MILLRACE_SERVING_PORT", "desk": "MILLRACE_DESK_PORT"}
    with fresh_database(postgres_url) as database, (home / "log").open("w") as log:
        environment = os.environ | {
            "MILLRACE_HOME": str(home),
            "MILLRACE_DATABASE_URL": database,
            "MILLRACE_MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
            ports[name]: str(port),
        }
        running = subprocess.Popen(
            [sys.executable, *COMMANDS[name]], env=environment, cwd=REPOSITORY, stdout=log, stderr=log
        )
        try:
            made = Server(port, PATHS[name], LIMITS[name], psutil.Process(running.pid))

            def ready() -> bool:
                assert running.poll() is None, (home / "log").read_text()
                with contextlib.suppress(httpx.TransportError):
                    return made.is_well()
                return False

            eventually(ready, f"{name} answers", within_s=90)
            yield made
        finally:
            running.terminate()
            running.wait(30)


def answered(connection: socket.socket) -> int | None:
    """The status of the answer, once the connection is closed; None where it was cut without one."""
    said = b""
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            said += data
    return int(said.split()[1]) if said else None


def test_a_body_in_chunks_is_counted_as_it_comes(server: Server) -> None:
    for _ in range(20):  # what a first request brings into memory is no body
        httpx.post(f"{server.address}{server.path}", content=b"{}", timeout=10)
    before = server.resident()
    connection = server.connect()
    connection.sendall(server.head("Transfer-Encoding: chunked"))
    chunk, sent = b"10000\r\n" + b"x" * 0x10000 + b"\r\n", 0
    most = before
    with contextlib.suppress(ConnectionError):
        while sent < 60 * MB:
            connection.sendall(chunk)
            sent += 0x10000
            most = max(most, server.resident())
    assert answered(connection) in (413, None)
    # What is on its way between the two kernels is no business of ours.
    assert sent < server.limits.body + 16 * MB
    assert most - before < 32 * MB
    assert server.is_well()


def test_a_length_beyond_the_limit_is_refused_before_a_byte_is_sent(server: Server) -> None:
    for length in (server.limits.body + 1, 400 * MB, 10**18):
        connection = server.connect()
        connection.sendall(server.head(f"Content-Length: {length}"))
        assert answered(connection) == 413


def test_a_body_as_long_as_is_taken_is_read_to_its_end(server: Server) -> None:
    response = httpx.post(server.address + server.path, content=b" " * server.limits.body)
    assert response.status_code in (403, 422)  # read, and found to be no form and no request


def test_a_client_is_told_that_its_body_was_too_long(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(server.limits.body // 1000 + 2):
            yield b"x" * 1000

    with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # it may still be sending
        response = httpx.post(server.address + server.path, content=chunks())
        assert response.status_code == 413
        assert str(server.limits.body) in response.text


def test_half_sent_bodies_end_in_time_and_hold_up_nobody(server: Server) -> None:
    began = time.monotonic()
    halves = []
    for n in range(40):
        connection = server.connect()
        length = "Transfer-Encoding: chunked" if n % 2 else "Content-Length: 1000"
        connection.sendall(server.head(length) + (b'7\r\n{"user"' if n % 2 else b'{"user'))
        halves.append(connection)
    while time.monotonic() - began < server.limits.arrive_s - 2:
        assert server.is_well()
        time.sleep(0.2)
    assert {answered(connection) for connection in halves} == {408}
    assert time.monotonic() - began < server.limits.arrive_s + 5


@pytest.mark.slow  # waits out the limit, for each server
def test_a_body_that_drips_does_not_buy_time(server: Server) -> None:
    began = time.monotonic()
    connection = server.connect()
    connection.sendall(server.head("Content-Length: 1000"))
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - began < server.limits.arrive_s + 5:
            connection.sendall(b" ")
            time.sleep(0.5)
    assert answered(connection) in (408, None)
    assert server.is_well()


BEGINNINGS = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n",
    "half a first line": b"POST /v1/fe",
    "headers without an end": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-One: 1\r\n",
    "a second request that does not go on": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal",
    "empty lines after a request": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\r\n",
}


@pytest.mark.slow  # waits out the limit, for each server
def test_a_connection_whose_request_does_not_begin_is_closed(server: Server) -> None:
    began = time.monotonic()
    waiting = []
    for beginning in BEGINNINGS.values():
        connection = server.connect()
        connection.sendall(beginning)
        waiting.append(connection)
    found = dict(zip(BEGINNINGS, (answered(connection) for connection in waiting), strict=True))
    assert time.monotonic() - began < server.limits.arrive_s + 5
    assert {status for name, status in found.items() if "request" not in name} == {408}
    assert server.is_well()


def test_headers_are_of_bounded_length(server: Server) -> None:
    before = server.resident()
    beginnings = (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ", b"GET /", b"GET /healthz HTTP/1.1\r\nX-")
    for beginning in beginnings:
        connection = server.connect()
        sent = 0
        with contextlib.suppress(ConnectionError):
            connection.sendall(beginning)
            while sent < 20 * MB:
                connection.sendall(b"a" * 65536)
                sent += 65536
        assert answered(connection) in (431, 400, None)
        assert sent < 16 * MB
    assert server.resident() - before < 16 * MB
    assert server.is_well()


def test_there_are_only_so_many_connections(server: Server) -> None:
    many = [server.connect() for _ in range(server.limits.connections + 60)]
    turned_away = 0
    for connection in many[-60:]:
        turned_away += answered(connection) == 503
    assert turned_away >= 50
    for connection in many[:-60]:
        connection.close()
    eventually(server.is_well, "others are answered again")


NESTED = {
    "lists": b'{"user_id": ' + b"[" * 200_000,
    "closed lists": b'{"user_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects": b'{"context": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "many digits": b'{"user_id": ' + b"9" * 1_000_000 + b"}",
    "empty objects": b'{"items": [' + b"{}," * 1_000_000 + b"{}]}",
    "not unicode": b'{"user_id": "\xff\xfe"}',
}


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED.keys())
def test_a_body_made_to_break_a_parser_is_refused_and_costs_little(server: Server, body: bytes) -> None:
    before = server.resident()
    response = httpx.post(
        server.address + server.path, content=body, headers={"Content-Type": "application/json"}, timeout=10
    )
    refused: tuple[Any, ...] = (400, 403, 413, 422)
    assert response.status_code in refused, response.text[:300]
    assert server.resident() - before < 200 * MB
    assert server.is_well()
