"""OpenTelemetry: a span for each request to ``/v1/``, its stages as children, sent to a collector by OTLP over HTTP.

    traces = Traces("http://collector:4318")    # imports OpenTelemetry; without a collector nothing does
    traces.add(stages, scope, "/v1/{surface}/rank", 200)
    traces.close()                              # sends what waits

The caller's ``traceparent`` (W3C Trace Context) is the parent, and its word whether it is sampled holds. What else is
configured is so by OpenTelemetry's own variables: ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_TRACES_SAMPLER``,
``OTEL_BSP_*``. Spans are made when the request is answered, from the times of its stages.
"""

import time

from starlette.types import Scope

from infra.errors import SettingsError
from models.serving.stages import RequestStages

OF_CALLER = (b"traceparent", b"tracestate")


class Traces:
    """Of one process. ``add`` is for the event loop's thread; a thread of OpenTelemetry's sends."""

    def __init__(self, endpoint: str) -> None:
        """``endpoint``: the collector's address, without ``/v1/traces``. Raises SettingsError where the package that
        sends is not installed."""
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise SettingsError(
                f"MILLRACE_OTEL_ENDPOINT={endpoint} is set, and OpenTelemetry is not installed ({error}):"
                " pip install 'millrace[otel]', or leave it unset"
            ) from error
        self._api = trace
        # Not the process's own provider: that one is MLflow's to set.
        self._provider = TracerProvider(resource=Resource.create({"service.name": "millrace-serving"}))
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("millrace.serving")
        self._propagator = TraceContextTextMapPropagator()

    def add(self, stages: RequestStages, scope: Scope, route: str, status: int) -> None:
        """The spans of a request that was answered just now; probes and scrapes have none."""
        if not route.startswith("/v1/"):
            return
        at_zero_ns = time.time_ns() - time.perf_counter_ns()

        def ns(moment: float) -> int:
            return at_zero_ns + round(moment * 1e9)

        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in OF_CALLER}
        span = self._tracer.start_span(
            f"{scope['method']} {route}",
            self._propagator.extract(headers),
            self._api.SpanKind.SERVER,
            start_time=ns(stages.began),
        )
        ended = stages.began
        if span.is_recording():
            span.set_attributes(
                {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                    "millrace.surface": stages.surface,
                    "millrace.model_version": stages.model_version,
                    "millrace.candidates": stages.candidates,
                    "millrace.degraded": stages.degraded,
                }
            )
            if status >= 500:
                span.set_status(self._api.StatusCode.ERROR)
            within = self._api.set_span_in_context(span)
            for stage, began, ended in stages.spans():
                self._tracer.start_span(stage, within, start_time=ns(began)).end(ns(ended))
        span.end(ns(ended))

    def close(self) -> None:
        """Send what waits; a collector that does not answer is given up after a while."""
        self._provider.shutdown()
