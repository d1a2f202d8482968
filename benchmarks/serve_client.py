"""A light HTTP client for the bench of serving: keep-alive connections, requests encoded beforehand, each answer timed.

    load = await closed_loop(server, posts, connections=8, seconds=3.0, clock=time.perf_counter)
    load = await open_loop(server, posts, arrivals, clock=time.perf_counter)

It reads of an answer its status and its length, and nothing else, so that it costs little beside the server that it
measures.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Clock

PATIENCE_S = 30.0
"""Seconds that an answer is waited for."""

FRESH_S = 2.0
"""Seconds that a connection may be idle before it is used again; servers close them after some more."""

NO_ANSWER = 0
"""In place of a status."""


@dataclass(frozen=True)
class Server:
    """Where a server listens."""

    host: str
    port: int

    def post(self, path: str, body: bytes) -> bytes:
        """A request as it goes over the wire."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True)
class Post:
    """A request to send."""

    name: str
    """Of the request, as the log has it."""

    events: int
    """Candidates, or feedback, that it brings."""

    sent: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    name: str
    events: int
    status: int
    seconds: float
    body: bytes = field(default=b"", repr=False)
    """Empty unless the bodies were to be kept."""

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Load:
    """The answers of one load, and how long it took."""

    answers: tuple[Answer, ...] = ()
    seconds: float = 0.0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.answers + other.answers, self.seconds + other.seconds)

    @property
    def taken(self) -> list[Answer]:
        """The answers of 2xx."""
        return [answer for answer in self.answers if answer.taken]

    @property
    def refused(self) -> int:
        """Requests with another answer, or none."""
        return len(self.answers) - len(self.taken)

    @property
    def milliseconds(self) -> NDArray[np.float64]:
        """Of each answer of 2xx."""
        return np.array([answer.seconds for answer in self.taken]) * 1e3

    def quantile(self, share: float) -> float | None:
        """Milliseconds within which such a share of the requests was answered; None where none was."""
        found = self.milliseconds
        return float(np.quantile(found, share)) if len(found) else None

    @property
    def per_second(self) -> float:
        """Requests answered with 2xx, a second."""
        return len(self.taken) / max(self.seconds, 1e-9)

    @property
    def events_per_second(self) -> float:
        """What those requests brought, a second."""
        return sum(answer.events for answer in self.taken) / max(self.seconds, 1e-9)


class Connection(asyncio.Protocol):
    """One connection, kept alive; a request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._body_at = 0
        self._whole = 0
        """Bytes of the answer that is coming; 0 until its headers are there."""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._whole:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body_at = end + 4
            self._whole = self._body_at + _content_length(bytes(self._received[:end]))
        if len(self._received) >= self._whole and self._answer is not None and not self._answer.done():
            status = int(self._received[9:12])
            self._answer.set_result((status, bytes(self._received[self._body_at : self._whole])))
            self._received.clear()
            self._whole = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, sent: bytes) -> tuple[int, bytes]:
        """The answer's status and body. Raises ConnectionError, TimeoutError."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without its length: {head!r}")


class Connections:
    """Connections to one server, taken and given back; that which was used last is used next."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server, self._clock = server, clock
        self._idle: list[Connection] = []

    async def send(self, post: Post, due: float, *, keep: bool = False) -> Answer:
        """The answer to a request that was due then, on the clock."""
        try:
            connection = await self._taken()
            try:
                status, body = await connection.send(post.sent)
            except BaseException:
                connection.close()
                raise
        except OSError:  # of the connection, or a TimeoutError
            return Answer(post.name, post.events, NO_ANSWER, self._clock() - due)
        seconds = self._clock() - due
        connection.idle_since = self._clock()
        self._idle.append(connection)
        return Answer(post.name, post.events, status, seconds, body if keep else b"")

    async def _taken(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and self._clock() - connection.idle_since < FRESH_S:
                return connection
            connection.close()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._server.host, self._server.port)
        return connection

    async def close(self) -> None:
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)  # the loop closes them then


async def closed_loop(
    server: Server, posts: Iterator[Post], *, connections: int, seconds: float, clock: Clock, keep: bool = False
) -> Load:
    """So many clients, each of which sends the next request as soon as it has its answer; until the time is up, or the
    requests are."""
    pool = Connections(server, clock)
    began = clock()

    async def client() -> list[Answer]:
        answers = []
        while clock() < began + seconds and (post := next(posts, None)) is not None:
            answers.append(await pool.send(post, clock(), keep=keep))
        return answers

    parts = await asyncio.gather(*(client() for _ in range(connections)))
    ended = clock()
    await pool.close()
    return Load(tuple(answer for part in parts for answer in part), ended - began)


async def open_loop(server: Server, posts: Iterator[Post], arrivals: Sequence[float], *, clock: Clock) -> Load:
    """A request at each of those seconds from now on, whether earlier ones were answered or not. Its time counts from
    when it was due: a server that stands still delays those that come meanwhile too (Tene 2013, coordinated
    omission)."""
    pool = Connections(server, clock)
    began = clock()
    tasks = []
    for arrival, post in zip(arrivals, posts, strict=False):
        if (wait := began + arrival - clock()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(pool.send(post, began + arrival)))
    answers = await asyncio.gather(*tasks)
    ended = clock()
    await pool.close()
    return Load(tuple(answers), ended - began)
