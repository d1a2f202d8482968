"""uvicorn's connections with limits on what comes before a request has begun: the other half of ``infra.http.limits``.

    uvicorn.run(app, http=limited(RequestLimits()))

uvicorn closes a connection that is idle after an answer. One that never sends a request, or sends headers without an
end, stays open for ever, and headers may be of any length.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from infra.http.limits import RequestLimits


class LimitedProtocol(HttpToolsProtocol):
    """A connection whose requests begin in time, with headers of bounded length; one of a bounded number."""

    limits = RequestLimits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._awaited: asyncio.TimerHandle | None = None
        """Runs until the headers of a request are complete."""
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.limits.connections:
            self._refuse(503)
        else:
            self._await_headers(self.limits.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._awaited is not None and self._header_bytes == 0:
            self._await_headers(self.limits.arrive_s)
        self._header_bytes += len(data)
        super().data_received(data)
        if self._awaited is not None and self._header_bytes > self.limits.headers:
            self._refuse(431)
        elif self._awaited is None and self.timeout_keep_alive_task is None and self._idle():
            self._await_headers(self.limits.arrive_s)  # what came is no request, as empty lines are not

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._awaited is None:  # not the first of its connection
            self._await_headers(self.limits.arrive_s)

    def on_headers_complete(self) -> None:
        self._headers_are_there()
        super().on_headers_complete()

    def _idle(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        return not self.transport.is_closing() and (cycle is None or cycle.response_complete)

    def _await_headers(self, within_s: float) -> None:
        self._headers_are_there()
        self._awaited = self.loop.call_later(within_s, self._refuse, 408)

    def _headers_are_there(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None
        self._header_bytes = 0

    def _refuse(self, status: int) -> None:
        self._headers_are_there()
        if not self.transport.is_closing():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


def limited(limits: RequestLimits) -> type[LimitedProtocol]:
    """The protocol with these limits, for uvicorn's ``http``."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})
