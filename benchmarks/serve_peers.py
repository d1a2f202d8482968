"""What the bench of serving stands beside: servers that people write around a network, without a log of their own.

    python -m benchmarks.serve_peers starlette 8400
    python -m benchmarks.serve_peers fastapi 8401
    python -m benchmarks.serve_peers mlflow 8402

Each is one process of uvicorn and one thread of torch. A request brings the numbers of each candidate, so that there
are no features to be looked up; the answer has ids and scores, the best first.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.serve_client import Server
from infra.errors import MillraceError
from models.networks.shape import Shape

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NUMBERS = 20
"""Of a candidate."""

WIDTH = 195
"""Of what the feed's network multiplies: its numbers and its embeddings."""

STARLETTE, FASTAPI, MLFLOW = "Starlette + orjson", "FastAPI", "mlflow models serve"
PROGRAMS = {STARLETTE: "starlette", FASTAPI: "fastapi", MLFLOW: "mlflow"}
PATHS = {STARLETTE: "/rank", FASTAPI: "/rank", MLFLOW: "/invocations"}

START_S = 180.0
"""MLflow's takes half a minute."""


class PeerDown(MillraceError):
    """A peer that does not start."""


@dataclass(frozen=True)
class Peer:
    """A server that runs."""

    name: str
    server: Server
    pid: int


@contextmanager
def running(name: str) -> Iterator[Peer]:
    """The peer, started; it ends with the block. Raises PeerDown with the end of its output."""
    (port,) = free_ports(1)
    server = Server("127.0.0.1", port)
    with tempfile.TemporaryDirectory(prefix="millrace-peer-") as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "benchmarks.serve_peers", PROGRAMS[name], str(server.port), folder]
        with (
            log.open("w") as output,
            subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process,
        ):
            try:
                _wait(name, server, process, log)
                yield Peer(name, server, process.pid)
            finally:
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.killpg(process.pid, signal.SIGTERM)  # MLflow's has children


def _wait(name: str, server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((server.host, server.port), timeout=1).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerDown(f"{name} does not start: {log.read_text()[-2000:]}") from error
        time.sleep(0.1)


def free_ports(wanted: int) -> list[int]:
    """Different ports that nobody listens on."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(wanted)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


class BareNetwork:
    """The feed's network without tables: its numbers are brought to the same width, then come the same cross layers
    beside the same MLP."""

    def __init__(self) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(1)
        torch.manual_seed(0)
        shape = Shape()
        sizes = [WIDTH, *shape.hidden]
        self.wider = nn.Linear(NUMBERS, WIDTH)
        self.cross = [nn.Linear(WIDTH, WIDTH) for _ in range(shape.cross_layers)]
        self.deep = [nn.Linear(before, after) for before, after in pairwise(sizes)]
        self.out = nn.Linear(WIDTH + sizes[-1], 1)

    def scores(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of candidates [N, NUMBERS]: [N]."""
        import torch

        with torch.inference_mode():
            first = self.wider(torch.from_numpy(numbers))
            crossed, deep = first, first
            for layer in self.cross:
                crossed = first * layer(crossed) + crossed
            for layer in self.deep:
                deep = torch.relu(layer(deep))
            logits = self.out(torch.cat([crossed, deep], dim=1))
            found: NDArray[np.float32] = torch.sigmoid(logits[:, 0]).numpy()
        return found


def best_first(ids: list[str], scores: NDArray[np.float32]) -> list[dict[str, str | float]]:
    """What both answer."""
    values = scores.tolist()
    return [{"item_id": ids[place], "score": values[place]} for place in np.argsort(-scores, kind="stable").tolist()]


def starlette_app() -> "ASGIApp":
    """As quick as Python serves a network."""
    import orjson
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    network = BareNetwork()

    async def rank(request: Request) -> Response:
        items = orjson.loads(await request.body())["items"]
        numbers = np.array([item["numbers"] for item in items], np.float32)
        ranked = best_first([item["id"] for item in items], network.scores(numbers))
        return Response(orjson.dumps({"items": ranked}), media_type="application/json")

    return Starlette(routes=[Route("/rank", rank, methods=["POST"])])


def fastapi_app() -> "ASGIApp":
    """As most people write it: models of pydantic, and an answer that FastAPI encodes."""
    from fastapi import FastAPI
    from pydantic import BaseModel

    network = BareNetwork()
    app = FastAPI()

    class Item(BaseModel):
        id: str
        numbers: list[float]

    class Body(BaseModel):
        user_id: str
        items: list[Item]

    @app.post("/rank")
    async def rank(body: Body) -> dict[str, Any]:
        numbers = np.array([item.numbers for item in body.items], np.float32)
        return {"items": best_first([item.id for item in body.items], network.scores(numbers))}

    return app


def mlflow_command(port: int, folder: Path) -> list[str]:
    """Save the network as a model of MLflow's, and what serves it."""
    from mlflow.pyfunc import save_model
    from mlflow.pyfunc.model import PythonModel

    class Served(PythonModel):
        def load_context(self, context: Any) -> None:
            from benchmarks.serve_peers import BareNetwork

            self.network = BareNetwork()

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return self.network.scores(np.asarray(model_input, np.float32))

    save_model(folder / "model", python_model=Served(), pip_requirements=["torch"])
    serve = ["models", "serve", "-m", str(folder / "model"), "-h", "127.0.0.1", "-p", str(port)]
    return [sys.executable, "-m", "mlflow", *serve, "--env-manager", "local"]


def main(name: str, port: int, folder: Path) -> None:
    """Serve a peer until SIGTERM."""
    if name == PROGRAMS[MLFLOW]:
        command = mlflow_command(port, folder)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # uvicorn
        os.execv(command[0], command)  # noqa: S606
    import uvicorn

    app = {"starlette": starlette_app, "fastapi": fastapi_app}[name]()
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning", timeout_keep_alive=30)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3] if len(sys.argv) > 3 else "."))
