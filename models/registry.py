"""The model registry: runs, reports, versions and the alias ``champion``. The only import of MLflow.

MLflow shows what happened and keeps the weights; what is in service is decided in ``models.promotions``. All calls go
through a client of their own address, so nothing here touches MLflow's process-wide state. Called with the URL of
MLflow's database the whole trail of an update takes well under a second; over HTTP two to five times as long.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from infra.database import connect, create_database

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from models.examples import Examples

UPDATE_TAG = "millrace.update_id"
MODEL_TAG = "millrace.model_sha256"
"""Digest of a version's ``model.json``, and of its towers' where it has some, which hold those of the weights."""
RANKER = "/artifacts/ranker"
"""Where in a version's folder its weights are."""
EXAMPLE_ROWS = 3
"""Rows of the input example kept with a version."""


@dataclass(frozen=True)
class Registered:
    """A model version in the registry."""

    version: str
    artifact_uri: str
    """Folder with ``weights.safetensors`` and ``model.json``: what ``Registry.download`` takes."""
    run_id: str


class NoVersion(LookupError):
    """A surface has no version of that number."""


class NoArtifacts(FileNotFoundError):
    """The files of a version are no longer where they were kept."""


def model_name(surface: str) -> str:
    """Name of a surface's registered model, and of its experiment."""
    return f"millrace-{surface}"


def prepare(tracking_uri: str, database_url: str) -> None:
    """Make MLflow's database and its tables where there are none; nothing for a server, which does it itself.

    Takes about 3 s the first time. Guarded by an advisory lock in Millrace's own database, ``database_url``, since
    MLflow's first start is not safe to race.
    """
    if tracking_uri.startswith("http"):
        return
    with connect(database_url, autocommit=True) as guard:
        guard.execute("SELECT pg_advisory_lock(hashtext('millrace.mlflow'))")
        if tracking_uri.startswith("postgresql+psycopg://"):
            create_database(tracking_uri)
        _client(tracking_uri).search_experiments(max_results=1)


class Registry:
    """The runs and versions kept at one MLflow tracking address."""

    def __init__(self, tracking_uri: str, artifact_root: str | None = None):
        """``tracking_uri`` is a server (``http://``) or MLflow's database (``postgresql+psycopg://``).

        ``artifact_root`` (``file:///folder``, ``s3://bucket/path``) is where new experiments keep their files; a server
        has its own, a database has none.
        """
        if artifact_root is None and not tracking_uri.startswith("http"):
            raise ValueError(
                "artifact_root is not set: a tracking URI that is no server needs a place for artifacts, "
                "such as file:///var/lib/millrace/artifacts"
            )
        _quieten()
        self.tracking_uri = tracking_uri
        self.artifact_root = artifact_root
        self._experiments: dict[str, str] = {}

    @property
    def _mlflow(self) -> "MlflowClient":
        return _client(self.tracking_uri)

    # --- runs -------------------------------------------------------------------------------------------------------

    def start_run(
        self,
        surface: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object] | None = None,
        *,
        update_id: int,
    ) -> str:
        """The run of one update, made on the first call; a repeated update goes on in its old run. Returns its id."""
        from mlflow.entities import Param, RunTag

        client, experiment = self._mlflow, self._experiment(surface)
        found = client.search_runs([experiment], f"tags.`{UPDATE_TAG}` = '{update_id}'", max_results=1)
        run_tags = {UPDATE_TAG: str(update_id), **{key: str(value) for key, value in (tags or {}).items()}}
        if found:
            run_id: str = found[0].info.run_id
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in run_tags.items()])
            return run_id
        run_id = client.create_run(experiment, run_name=name, tags=run_tags).info.run_id
        if params:
            client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        return run_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Numbers of a run, in one call. NaN is kept; infinities are refused by some of MLflow's databases."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._mlflow.log_batch(
            run_id, metrics=[Metric(key, float(value), now_ms, step) for key, value in metrics.items()]
        )

    def log_report(self, run_id: str, path: Path, folder: str = "report") -> None:
        """Attach a file (the Evidently report) to a run."""
        self._mlflow.log_artifact(run_id, str(path), folder)

    def log_json(self, run_id: str, content: object, name: str) -> None:
        """Attach ``content`` to a run as the file ``name``."""
        self._mlflow.log_text(run_id, json.dumps(content, indent=1, sort_keys=True, default=str), name)

    def finish_run(self, run_id: str, status: str = "FINISHED", tags: Mapping[str, object] | None = None) -> None:
        """Close a run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        from mlflow.entities import RunTag

        if tags:
            self._mlflow.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])
        self._mlflow.set_terminated(run_id, status)

    # --- versions ---------------------------------------------------------------------------------------------------

    def register(
        self,
        surface: str,
        model_folder: Path,
        *,
        update_id: int,
        run_id: str,
        example: "Examples",
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
    ) -> Registered:
        """Make a version of the ranker saved in ``model_folder`` by ``models.artifact``.

        The version carries a signature, the first rows of ``example`` as input example, and the code that loads it.
        One version for an update and a model: a second call with the same of both returns the first one's version,
        and one with other weights, as a repeated update may have learned, makes its own. Two calls at the same moment
        would make two; the claim in the update ledger is what keeps them apart.
        """
        digest = _digest(model_folder)
        found = self.registered(surface, update_id, digest)
        if found is not None:
            return found
        from mlflow.entities import LoggedModelOutput

        client, name = self._mlflow, model_name(surface)
        logged = client.create_logged_model(
            self._experiment(surface),
            name=f"ranker-{update_id}",
            source_run_id=run_id,
            tags={UPDATE_TAG: str(update_id)},
            model_type="ranker",
        )
        with tempfile.TemporaryDirectory() as folder:
            _write_model(Path(folder) / "model", model_folder, logged.model_id, run_id, example)
            client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        self._ensure_model(name)
        made = client.create_model_version(
            name,
            # Not models:/<id>, which MLflow resolves at the process-wide address instead of this client's.
            source=logged.artifact_location,
            run_id=run_id,
            model_id=logged.model_id,
            description=description,
            tags={
                **{key: str(value) for key, value in (tags or {}).items()},
                UPDATE_TAG: str(update_id),
                MODEL_TAG: digest,
            },
        )
        # MLflow's server links the model's page to the version; at the database nobody else does.
        client.set_logged_model_tags(
            logged.model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": made.version}])}
        )
        return Registered(str(made.version), _ranker_uri(made.source), run_id)

    def registered(self, surface: str, update_id: int, digest: str) -> Registered | None:
        """The version that an update has registered of the model with this digest; the oldest, should there be more
        than one."""
        found = self._mlflow.search_model_versions(
            f"name = '{model_name(surface)}' and tags.`{UPDATE_TAG}` = '{update_id}'"
            f" and tags.`{MODEL_TAG}` = '{digest}'"
        )
        if not found:
            return None
        oldest = min(found, key=lambda version: int(version.version))
        return Registered(str(oldest.version), _ranker_uri(oldest.source), str(oldest.run_id))

    def version(self, surface: str, version: str) -> Registered:
        """A version by its number. Raises MlflowException when there is none."""
        made = self._mlflow.get_model_version(model_name(surface), version)
        return Registered(str(made.version), _ranker_uri(made.source), str(made.run_id))

    def set_champion(self, surface: str, version: str) -> None:
        """Move the alias. It follows the promotion record, and is moved again whenever it is found behind."""
        self._mlflow.set_registered_model_alias(model_name(surface), "champion", version)

    def champion(self, surface: str) -> str | None:
        """The version the alias points to; None when there is no such model or alias."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

        try:
            version = self._mlflow.get_registered_model(model_name(surface)).aliases.get("champion")
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return None
            raise
        return None if version is None else str(version)

    def download(self, artifact_uri: str, to: Path) -> Path:
        """Fetch a version's folder to ``to``, which is there in full or not at all. Returns ``to``.

        ``to`` must not exist; should another process make it meanwhile, that stands. A ``file:`` URI is copied without
        loading MLflow, so that a serving process stays small. Raises NoArtifacts where the folder is gone.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".incoming-") as folder:
            fetched = self._fetch(artifact_uri, Path(folder) / "ranker")
            for file in (path for path in fetched.rglob("*") if path.is_file()):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            try:
                fetched.rename(to)
            except OSError:
                if not to.exists():  # another process was quicker
                    raise
        return to

    def _fetch(self, uri: str, to: Path) -> Path:
        """Copy a folder of artifacts to ``to``, which must not exist. Returns where the copy is."""
        source = urlsplit(uri)
        gone = NoArtifacts(
            f"{uri}: nothing is there any more; restore the files that MLflow kept, or use another version"
        )
        if source.scheme in ("", "file"):
            if not Path(unquote(source.path)).is_dir():
                raise gone
            return shutil.copytree(unquote(source.path), to)
        _quieten()
        from mlflow.artifacts import download_artifacts, list_artifacts
        from mlflow.exceptions import MlflowException

        to.mkdir(parents=True)
        try:
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=self.tracking_uri))
        except MlflowException as error:
            if list_artifacts(artifact_uri=uri, tracking_uri=self.tracking_uri):
                raise
            raise gone from error

    def materialise(self, surface: str, version: str, to: Path) -> Path:
        """Write a version to the folder ``to``, as MLflow loads and serves it, in full: no other version is needed any
        more. Returns ``to``.

        Raises FileExistsError when ``to`` exists, and NoVersion when there is no such version.
        """
        from mlflow.exceptions import MlflowException

        from models.artifact import save
        from models.lineage import load_version

        if to.exists():
            raise FileExistsError(f"{to} exists: name a folder that does not")
        try:
            made = self.version(surface, version)
        except MlflowException as error:
            raise NoVersion(f"{model_name(surface)} has no version {version}: {error.message}") from error
        with tempfile.TemporaryDirectory() as scratch:
            model = self._fetch(made.artifact_uri.removesuffix(RANKER), Path(scratch) / "model")
            ranker = model / RANKER[1:]
            below = (Path(scratch) / f"{depth}" for depth in count())
            whole = load_version(ranker, lambda parent: self._fetch(parent.found, next(below)))
            for part in ranker.iterdir():
                if part.is_file():  # its towers are whole as they are
                    part.unlink()
            save(whole, ranker)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(model, to)
        return to

    def report(self, surface: str, update_id: int) -> bytes | None:
        """The report of an update as `log_report` attached it; None where its run or the file is not there."""
        from mlflow.exceptions import MlflowException

        found = self._mlflow.search_runs(
            [self._experiment(surface)], f"tags.`{UPDATE_TAG}` = '{update_id}'", max_results=1
        )
        if not found:
            return None
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = self._mlflow.download_artifacts(found[0].info.run_id, "report/report.html", folder)
                return Path(path).read_bytes()
            except (MlflowException, FileNotFoundError):
                return None

    # --- pages ------------------------------------------------------------------------------------------------------

    def run_page(self, pages: str, surface: str, run_id: str) -> str:
        """Address of a run for a person, under MLflow's ``pages``."""
        return f"{pages}/#/experiments/{self._experiment(surface)}/runs/{run_id}"

    def version_page(self, pages: str, surface: str, version: str) -> str:
        """Address of a version for a person, under MLflow's ``pages``."""
        return f"{pages}/#/models/{quote(model_name(surface))}/versions/{version}"

    # --- what must be there first -----------------------------------------------------------------------------------

    def _experiment(self, surface: str) -> str:
        """Id of the surface's experiment, made when it is not there."""
        if surface in self._experiments:
            return self._experiments[surface]
        from mlflow.exceptions import MlflowException

        name = model_name(surface)
        found = self._mlflow.get_experiment_by_name(name)
        if found is None:
            location = None if self.artifact_root is None else f"{self.artifact_root.rstrip('/')}/{surface}"
            try:
                experiment: str = self._mlflow.create_experiment(name, artifact_location=location)
            except MlflowException:
                # Another process was quicker, or the database says no in earnest: then there is still none.
                found = self._mlflow.get_experiment_by_name(name)
                if found is None:
                    raise
                experiment = found.experiment_id
        else:
            experiment = found.experiment_id
        self._experiments[surface] = experiment
        return experiment

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._mlflow.get_registered_model(name)
        except MlflowException:
            try:
                self._mlflow.create_registered_model(name)
            except MlflowException:
                self._mlflow.get_registered_model(name)


def _quieten() -> None:
    """No telemetry, no progress bars, warnings only; MLflow reads these when it is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


def _client(tracking_uri: str) -> "MlflowClient":
    _quieten()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def _ranker_uri(model_location: str | None) -> str:
    assert model_location, "a version made here has a source"
    return model_location.rstrip("/") + RANKER


def _digest(model_folder: Path) -> str:
    descriptions = (model_folder / "model.json", model_folder / "towers" / "model.json")
    return hashlib.sha256(b"".join(path.read_bytes() for path in descriptions if path.exists())).hexdigest()


def _requirements() -> list[str]:
    """What a version needs to be loaded. Named here because to infer it costs MLflow six seconds."""
    return [f"{package}=={installed_version(package)}" for package in ("mlflow", "numpy", "safetensors", "torch")]


def _write_model(to: Path, model_folder: Path, model_id: str, run_id: str, example: "Examples") -> None:
    """The MLflow model folder around a saved ranker."""
    _quieten()
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    rows: dict[str, np.ndarray[Any, Any]] = {
        "dense": np.asarray(example.dense[:EXAMPLE_ROWS], dtype=np.float32),
        "ids": np.asarray(example.ids[:EXAMPLE_ROWS], dtype=np.int64),
        "history": np.asarray(example.history[:EXAMPLE_ROWS], dtype=np.int64),
    }
    inputs = Schema([TensorSpec(array.dtype, (-1, array.shape[1]), name) for name, array in rows.items()])
    outputs = Schema([TensorSpec(np.dtype(np.float64), (-1,), "probability")])
    with tempfile.TemporaryDirectory() as folder:
        # MLflow names the copy after its source, and the address of the weights must not depend on that.
        ranker = shutil.copytree(model_folder, Path(folder) / "ranker", copy_function=_link_or_copy)
        mlflow.pyfunc.save_model(
            str(to),
            python_model=str(Path(__file__).with_name("mlflow_ranker.py")),
            artifacts={"ranker": str(ranker)},
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            input_example=rows,
            pip_requirements=_requirements(),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )


def _link_or_copy(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
