"""Traces of serving, as a real collector gets them over OTLP."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import SettingsError
from models.serving.app import create_app
from tests.worlds.otlp import attributes, collector
from tests.worlds.serving import promote, rank, serve, serving_config, with_items

CALLER = "0af7651916cd43dd8448eb211c80319c"


def test_a_request_is_a_span_below_its_callers_with_its_stages_as_children(database: str, tmp_path: Path) -> None:
    with_items(database)
    promote(database, tmp_path / "models", "1")
    with collector() as received:
        with serve(serving_config(database, tmp_path / "cache", traces_to=received.address)) as client:
            rank(client)
            headers = {"traceparent": f"00-{CALLER}-b7ad6b7169203331-01"}
            body = {"user_id": "u1", "items": ["a", "b", "never seen"]}
            assert client.post("/v1/feed/rank", json=body, headers=headers).status_code == 200
            headers = {"traceparent": "00-" + "1" * 32 + "-b7ad6b7169203331-00"}
            assert client.post("/v1/feed/rank", json=body, headers=headers).status_code == 200
            assert client.post("/v1/feedback", json={}).status_code == 422
            assert client.get("/metrics").status_code == 200
        # the end of serving has sent what waited
        own, called = received.named("POST /v1/{surface}/rank")
    assert called.trace_id.hex() == CALLER
    assert called.parent_span_id.hex() == "b7ad6b7169203331"
    assert own.trace_id.hex() != CALLER
    assert own.parent_span_id == b""
    found = attributes(called)
    assert (found["millrace.surface"], found["millrace.model_version"]) == ("feed", "1")
    assert (found["millrace.candidates"], found["http.response.status_code"]) == (3, 200)
    assert found["millrace.degraded"] == []
    stages = received.children(called)
    assert [span.name for span in stages] == ["parse", "wait", "read", "score", "arrange", "journal", "answer"]
    assert stages[0].start_time_unix_nano == called.start_time_unix_nano
    assert stages[-1].end_time_unix_nano == called.end_time_unix_nano
    ends, begins = [span.end_time_unix_nano for span in stages], [span.start_time_unix_nano for span in stages]
    assert ends[:-1] == begins[1:]
    assert {span.name for span in received.spans if not span.parent_span_id} == {
        "POST /v1/{surface}/rank",
        "POST /v1/feedback",
    }, "probes and scrapes are none; nor is what the caller does not sample"


def test_what_is_not_configured_is_not_imported() -> None:
    of_traces = ("opentelemetry.sdk", "opentelemetry.exporter")
    program = f"import sys, models.serving.__main__; print([n for n in sys.modules if n.startswith({of_traces})])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_package_the_error_names_the_extra(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"MILLRACE_OTEL_ENDPOINT=http://collector:4318 .*'millrace\[otel\]'"):
        create_app(serving_config(database, tmp_path, traces_to="http://collector:4318"))
