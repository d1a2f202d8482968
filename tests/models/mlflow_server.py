"""A real MLflow server, for what differs over HTTP."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from infra.stack.environment import TELEMETRY_OFF
from tests.conftest import free_port
from tests.worlds.waiting import eventually


@contextlib.contextmanager
def mlflow_server(home: Path) -> Iterator[str]:
    """The address of a server that hands out artifacts itself, kept below ``home``."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", address.rpartition(":")[2], "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    server = subprocess.Popen(
        [*command, "--artifacts-destination", str(home / "artifacts")],
        env={**os.environ, **TELEMETRY_OFF, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        start_new_session=True,
    )
    try:
        eventually(partial(_answers, server, address), "MLflow's server answers", within_s=120)
        yield f"http://{address}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(server: "subprocess.Popen[bytes]", address: str) -> bool:
    assert server.poll() is None, "MLflow's server does not start"
    with contextlib.suppress(OSError), urlopen(f"http://{address}/health", timeout=5):
        return True
    return False
