"""Metrics for Prometheus, and log lines in JSON on standard output."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("millrace.serving")

FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Journaled(Protocol):
    """What waits in the journal for the database."""

    @property
    def waiting(self) -> int: ...

    @property
    def age_s(self) -> float: ...


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"millrace_{name}", text, labels, registry=own)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"millrace_{name}", text, labels, registry=own)

        self.requests = counter("requests", "Requests answered", "route", "status")
        self.seconds = Histogram("millrace_request_seconds", "Time to answer", ["route"], buckets=FAST, registry=own)
        self.degraded = counter("degraded", "Responses that did without something", "surface", "reason")
        self.ranked = counter("ranked", "Items scored", "surface")
        self.swaps = counter("swaps", "Champions taken into service", "surface")
        self.load_failures = counter("model_load_failures", "Champions that could not be loaded", "surface")
        self.champion = gauge("champion", "1 for the version in service", "surface", "model_version")
        self.canary = gauge("canary", "1 for each arm of a canary that runs", "surface", "version", "arm")
        self.canary_requests = counter(
            "canary_requests",
            "Requests of the arms of a canary, with an error or answered",
            "surface",
            "arm",
            "outcome",
        )
        self.behind = gauge(
            "champion_behind", "1 while another version may be promoted than the one in service", "surface"
        )
        self.learned_to = gauge(
            "champion_learned_to_seconds", "Event time up to which the champion was trained, since 1970", "surface"
        )
        self.freshness = gauge(
            "freshness_seconds",
            "From the newest event the champion was trained on to the first request it served",
            "surface",
        )
        self.lag = gauge("features_lag_seconds", "Since the log was last followed to its end", "surface")
        self.database = gauge("database_up", "1 while the database answers")
        self.journaled = gauge("journal_entries", "Accepted requests that wait in the journal for the database")
        self.journal_age = gauge("journal_age_seconds", "How long the oldest of them has waited")
        self.commits = counter("commits", "Commits of accepted events")
        self.committed = counter("committed_entries", "Accepted requests that those commits held")
        self.refused = counter("refused_entries", "Accepted requests the log refused: dead letters")
        self.unread = counter("unread_entries", "Entries that could not be read: their files are set aside")
        self.repeated = counter("repeated_events", "Events that were in the log already", "surface", "event")
        self.unfit = counter("unfit_events", "Events refused as they were sent", "surface")
        self.dead_letters = counter("dead_letter_events", "Events that the log refused", "surface", "event")

    def follow_journal(self, segments: Journaled) -> None:
        """Show what waits there."""
        self.journaled.set_function(lambda: float(segments.waiting))
        self.journal_age.set_function(lambda: segments.age_s)

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class Measured:
    """ASGI: counts every request by its route and status, and how long it took."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)


class JsonLines(logging.Formatter):
    """One JSON object a line. What ``extra={"facts": {...}}`` holds becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stdout(level: int = logging.INFO) -> None:
    """Send every logger of the process to standard output, as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
