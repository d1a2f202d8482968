"""Metrics for Prometheus, and log lines in JSON on standard output."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.serving.stages import RequestStages, Stage
from models.serving.traces import Traces

LOG = logging.getLogger("millrace.serving")

FAST = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds: of a request and its stages."""

AGES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: of what features know."""

SPANS = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21600.0, 86400.0, 604800.0)
"""Seconds: of freshness, from a few to a week."""

SWAPS = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds: of a swap."""


class Journaled(Protocol):
    """What waits in the journal for the database."""

    @property
    def waiting(self) -> int: ...

    @property
    def age_s(self) -> float: ...


class Metrics:
    """The metrics of one app, in a registry of its own. Labels take few values: what a stranger sends is none of them.

    ``shared_metrics`` adds those of other processes behind the port, with a label of their own: ``docs/operating.md``
    has how each gauge is put together.
    """

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"millrace_{name}", text, labels, registry=own)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"millrace_{name}", text, labels, registry=own)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"millrace_{name}", text, labels, buckets=buckets, registry=own)

        self.requests = counter("requests", "Requests answered", "surface", "route", "status")
        self.seconds = histogram("request_seconds", "Time to answer", FAST, "surface", "route")
        self.stages = histogram(
            "stage_seconds", "Time of each stage of a request that was answered 2xx", FAST, "surface", "route", "stage"
        )
        self.degraded = counter("degraded", "Responses that did without something", "surface", "reason")
        self.ranked = counter("ranked", "Items scored", "surface")
        self.swaps = counter("swaps", "Champions taken into service", "surface")
        self.swap_seconds = histogram(
            "swap_seconds", "From a promotion found to its version in service", SWAPS, "surface"
        )
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
        self.freshness = histogram(
            "freshness_seconds",
            "From the newest impression a version was trained on to the first request it served here",
            SPANS,
            "surface",
        )
        self.lag = gauge("features_lag_seconds", "Since the log was last followed to its end", "surface")
        self.feature_age = histogram(
            "feature_age_seconds", "The same as each ranking request found it", AGES, "surface"
        )
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
    """ASGI: counts every request by its route and status, and how long it took, stage by stage.

    Routes find its :class:`RequestStages` in ``request.state.stages``.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, traces: Traces | None) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces
        self._stages: dict[tuple[str, str, Stage], Histogram] = {}
        """The series of each: to find one by its labels takes longer than to add to it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stages, status = RequestStages(), 500
        scope.setdefault("state", {})["stages"] = stages

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            stages.end("answer")
            route = getattr(scope.get("route"), "path", "none")
            self._observe(stages, route, status)
            if self._traces is not None:
                self._traces.add(stages, scope, route, status)

    def _observe(self, stages: RequestStages, route: str, status: int) -> None:
        metrics, surface, ended = self._metrics, stages.surface, stages.began
        answered = 200 <= status < 300
        for stage, began, ended in stages.spans():
            if answered:
                series = self._stages.get((surface, route, stage))
                if series is None:
                    series = self._stages[surface, route, stage] = metrics.stages.labels(surface, route, stage)
                series.observe(ended - began)
        metrics.requests.labels(surface, route, str(status)).inc()
        metrics.seconds.labels(surface, route).observe(ended - stages.began)


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
