"""Requests of megabytes that the embedded servers really get pass their limits on bodies, and longer ones do not."""

import contextlib
import os
from pathlib import Path

import httpx
import pytest

from infra.http.listening import PAGES
from tests.real_servers import running

MB = 1 << 20


@pytest.mark.slow  # starts the server
def test_mlflow_takes_the_largest_batch_that_a_client_of_its_own_sends(database: str, tmp_path: Path) -> None:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, MAX_METRICS_PER_BATCH, MAX_PARAM_VAL_LENGTH

    names = [f"metric {n} ".ljust(MAX_ENTITY_KEY_LENGTH, "m") for n in range(MAX_METRICS_PER_BATCH - 200)]
    metrics = [Metric(name, n / 7, 1_750_000_000_000, n) for n, name in enumerate(names)]
    params = [Param(f"param {n}", "p" * MAX_PARAM_VAL_LENGTH) for n in range(100)]
    tags = [RunTag(f"tag {n}", "t" * 8000) for n in range(100)]
    with running(tmp_path, database, "mlflow") as server:
        client = MlflowClient(server.address, server.address)
        run = client.create_run(client.create_experiment("large")).info.run_id
        client.log_batch(run, metrics=metrics, params=params, tags=tags)
        logged = client.get_run(run).data
        assert logged.metrics == {metric.key: metric.value for metric in metrics}
        assert len(logged.params) == 100
        assert {tag.key for tag in tags} <= set(logged.tags)
        refuses_what_is_longer(server.address, "/api/2.0/mlflow/runs/log-batch")


@pytest.mark.slow  # starts the server
def test_prefect_takes_the_logs_and_the_pages_of_a_long_flow(database: str, tmp_path: Path) -> None:
    with running(tmp_path, database, "prefect") as server:
        line = {"name": "update", "level": 20, "message": "m" * 10_000, "timestamp": "2026-05-20T12:00:00Z"}
        with httpx.Client(base_url=server.address, trust_env=False, timeout=60) as client:
            taken = client.post("/api/logs/", json=[line] * 390)  # Prefect's client sends 4 MB at a time
            assert taken.status_code == 201, taken.text
            page = {"key": "update", "type": "markdown", "data": "# An update\n" * (8 * MB // 12)}
            taken = client.post("/api/artifacts/", json=page)
            assert taken.status_code == 201, taken.text
            assert client.get(f"/api/artifacts/{taken.json()['id']}").json()["data"] == page["data"]
        refuses_what_is_longer(server.address, "/api/artifacts/")


def refuses_what_is_longer(address: str, path: str) -> None:
    body = os.urandom(1) * (PAGES.body + 1)
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # closed while we were still sending
            assert client.post(path, content=body).status_code == 413
        assert client.get("/api/health" if "artifacts" in path else "/health").status_code == 200
