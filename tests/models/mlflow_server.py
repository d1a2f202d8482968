"""A real MLflow server, for what differs over HTTP."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

from infra.stack.environment import TELEMETRY_OFF
from tests.conftest import free_port


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
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urlopen(f"http://{address}/health", timeout=5):
                break
            assert time.monotonic() < deadline, "MLflow's server does not start"
            time.sleep(0.2)
        yield f"http://{address}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
