"""A registered version where Millrace is not installed: it takes raw columns and scores them as serving does."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from features.declare.schema import RowValues
from features.declare.views import TeamView
from flows.surface import Surface
from infra.postgres.connections import connect
from models.declared_columns import raw_columns
from models.serving.config import ServedSurface
from models.serving.durable.database import Database
from models.serving.rank.views import LiveViews
from models.versions.files import materialise
from models.versions.registry import Registry
from models.versions.version_names import model_name
from tests.conftest import free_port
from tests.worlds.loop import START, Loop, after, run_update
from tests.worlds.raw_rows import raw_rows
from tests.worlds.serving import serve, serving_config
from tests.worlds.text_versions import search_version
from tests.worlds.waiting import eventually

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:mlflow"), pytest.mark.slow, pytest.mark.timeout(600)]

STOCK = TeamView("stock", table="warehouse.stock", keys={"article": "item_id"}, values=("pieces", "on_sale"))

LOAD = """
import importlib.util, json, sys
import mlflow.pyfunc
for ours in ("features", "models", "infra", "flows"):
    assert importlib.util.find_spec(ours) is None, ours
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps([float(score) for score in model.predict(json.load(sys.stdin))]))
"""


@dataclass(frozen=True)
class Elsewhere:
    """An environment that has the packages which a version names, and not Millrace."""

    python: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR", "LANG") if name in os.environ}
        path = f"{self.python.parent}:/usr/bin:/bin"
        return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}

    def run(self, program: str, *arguments: str, text: str) -> str:
        command = [self.python, "-I", "-c", program, *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=self.environment, cwd="/")
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()[-1]

    @contextmanager
    def served(self, model: str, scratch: Path, **environment: str) -> Iterator[str]:
        """The address at which ``mlflow models serve`` serves a version."""
        port = free_port()
        command = [self.python, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        log = (scratch / "serve.log").open("w+")
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=log,
            stderr=log,
            env=self.environment | environment,
            cwd=scratch,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                assert process.poll() is None, Path(log.name).read_text()[-3000:]
                with suppress(httpx.TransportError):
                    return httpx.get(f"{address}/ping").status_code == 200
                return False

            eventually(answers, "mlflow models serve answers", within_s=90)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
            log.close()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for installed in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "millrace" not in installed.name and installed.suffix != ".pth":
            (folder / "lib" / version / "site-packages" / installed.name).symlink_to(installed)
    # MLflow starts it by its name, and an installed script names the environment it was installed in.
    uvicorn = folder / "bin" / "uvicorn"
    uvicorn.write_text(f"#!{folder}/bin/python\nfrom uvicorn.main import main\nmain()\n")
    uvicorn.chmod(0o755)
    return Elsewhere(folder / "bin" / "python")


def test_a_version_takes_raw_columns_where_millrace_is_not_and_scores_as_serving_does(
    loop: Loop, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    with connect(loop.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA warehouse")
        connection.execute(
            "CREATE TABLE warehouse.stock AS SELECT DISTINCT item_id AS article, %(start)s::timestamptz AS"
            " event_timestamp, abs(hashtext(item_id)) %% 17 AS pieces, hashtext(item_id) > 0 AS on_sale"
            " FROM impressions",
            {"start": START},
        )
    with loop.world(views=(STOCK,)) as world:
        first = run_update(world, after(18))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        second = run_update(world, after(20))
        surface = world.surface
        champion = str(second.published.version if second.verdict.verdict == "promote" else first.published.version)

    user, items = loop.query("SELECT user_id, array_agg(DISTINCT item_id) FROM impressions GROUP BY 1 LIMIT 1")[0]
    columns = raw_columns(surface.features, surface.views, surface.layout)
    config = serving_config(
        loop.url, tmp_path / "cache", declared=lambda: {"feed": ServedSurface(surface.features, surface.views)}
    )
    with serve(config) as client:
        asked = {"user_id": user, "items": [*items, "unheard of"], "context": {"device": 1, "region": 13}}
        answer = client.post("/v1/feed/rank", json=asked).json()
        assert answer["model_version"] == champion
        assert answer["degraded"] == []
        # In the order of the request, as the rows are sent elsewhere.
        shown = sorted(answer["items"], key=lambda one: asked["items"].index(one["item_id"]))
        scores = [one["score"] for one in shown]
        rows, views = as_served(loop, surface, shown, asked)
    known = loop.query(
        "SELECT item_id FROM items UNION SELECT attributes->>'section' FROM items UNION SELECT user_id FROM impressions"
    )
    raw = raw_rows(columns, rows, views, ["unheard of", "1", "13", *(text for (text,) in known if text)])
    assert len(set(scores)) > 5

    registry = Registry(loop.tracking, loop.artifacts.as_uri())
    files = registry.version("feed", champion).artifact_uri
    whole = materialise(files, tmp_path / "whole", registry.tracking_uri)
    assert not [path for path in whole.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    assert json.loads(elsewhere.run(LOAD, str(whole), text=json.dumps(raw))) == pytest.approx(scores, abs=1e-5)
    alias = f"models:/{model_name('feed')}@champion"
    with elsewhere.served(alias, tmp_path, MLFLOW_TRACKING_URI=registry.tracking_uri) as address:
        answer = httpx.post(f"{address}/invocations", json={"dataframe_records": raw}, timeout=60).json()
        assert answer["predictions"] == pytest.approx(scores, abs=1e-5)
    with elsewhere.served(str(whole), tmp_path) as address:

        def invoked(records: list[dict[str, Any]]) -> httpx.Response:
            return httpx.post(f"{address}/invocations", json={"dataframe_records": records}, timeout=60)

        assert invoked(raw).json()["predictions"] == pytest.approx(scores, abs=1e-5)
        # What a caller does not know may be left out, what the ranker does not read may be there.
        short = invoked([{"user_id": "new", "item_id": items[0], "device": "1", "genres": ["news"]}])
        assert 0 < short.json()["predictions"][0] < 1
        refused = invoked([{"user_id": "new"}])
        assert refused.status_code == 400
        assert "item_id" in refused.text


def test_one_that_reads_texts_takes_them_whole(elsewhere: Elsewhere, tmp_path: Path) -> None:
    version = search_version(tmp_path)
    scores = json.loads(elsewhere.run(LOAD, str(version.folder), text=json.dumps(version.rows)))
    assert scores == pytest.approx(version.scores, abs=1e-5)


def as_served(
    loop: Loop, surface: Surface, shown: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]
) -> tuple[RowValues, NDArray[np.float32]]:
    """The served rows of impressions, in their order, and the views' values beside them."""
    names = [one["impression_id"] for one in shown]
    packed = dict(loop.query("SELECT impression_id, row FROM served WHERE impression_id = ANY(%s)", names))
    views = LiveViews(surface.views, Database(loop.url))
    ids = [str(one["item_id"]) for one in shown]
    read = views.read(asked["user_id"], ids, [{}] * len(ids), asked["context"], time.time())
    views.close()
    return surface.features.schema.unpack([packed[name] for name in names]), read.values
