"""The model registry: runs, reports, versions and the alias ``champion``, in MLflow.

MLflow shows what happened and keeps the weights; what is in service is decided in ``models.versions.promotions``,
whatever somebody does to versions, aliases and tags here. Their files are read in ``models.versions.files``. All calls
go through a client of their own address, so nothing here touches MLflow's process-wide state. Called with the URL of
MLflow's database the whole trail of an update takes well under a second; over HTTP two to five times as long.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from infra.addresses import hide_password
from infra.errors import MillraceError
from infra.postgres.connections import connect, create_database
from models.versions.files import RANKER, download
from models.versions.mlflow_model import write_model

if TYPE_CHECKING:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from models.examples import Examples

LOG = logging.getLogger(__name__)

UPDATE_TAG = "millrace.update_id"
MODEL_TAG = "millrace.model_sha256"
"""Digest of a version's ``model.json``, and of its towers' where it has some, which hold those of the weights."""


@dataclass(frozen=True)
class Registered:
    """A model version in the registry."""

    version: str
    artifact_uri: str
    """Folder with ``weights.safetensors`` and ``model.json``: what ``Registry.download`` takes."""
    run_id: str


class RegistryFailed(MillraceError):
    """MLflow refuses or does not answer."""


class NoVersion(MillraceError, LookupError):
    """MLflow has no such version, or another one under its number."""


def model_name(surface: str) -> str:
    """Name of a surface's registered model, and of its experiment."""
    return f"millrace-{surface}"


def version_name(number: str, update_id: int, taken: bool) -> str:
    """What a version is called in every record: its number in MLflow.

    ``taken``: that number is another version's already, since MLflow counts anew once its registered model was deleted
    or its database went back to an older state. The update that made it then tells the two apart: ``3-41``.
    """
    return f"{number}-{update_id}" if taken else number


def number_of(version: str) -> str:
    """The number in MLflow of a version by its name."""
    return version.partition("-")[0]


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

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raises RegistryFailed, in one line, for what MLflow refuses or does not answer meanwhile."""
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith("mlflow"):  # not imported for it, since it is large
                raise
            where = hide_password(self.tracking_uri)
            why = " ".join(str(error).split())
            raise RegistryFailed(f"MLflow at {where} does not do what is asked: {why[:300]}") from error

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
        """Make a version of the ranker saved in ``model_folder`` by ``models.versions.artifact``.

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
            write_model(Path(folder) / "model", model_folder, logged.model_id, run_id, example)
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
        """A version by its name (:func:`version_name`). Raises NoVersion when MLflow has none of its number."""
        from mlflow.exceptions import MlflowException

        try:
            made = self._mlflow.get_model_version(model_name(surface), number_of(version))
        except MlflowException as error:
            if not _absent(error) and number_of(version).isdecimal():
                raise
            raise NoVersion(
                f"MLflow has no version {version} of {model_name(surface)}: there never was one, or it was deleted or"
                " renamed there"
            ) from error
        return Registered(str(made.version), _ranker_uri(made.source), str(made.run_id))

    def difference(self, surface: str, version: str, artifact_uri: str) -> str | None:
        """How MLflow shows another champion than the one promoted as ``version`` with these files; None: it shows it.

        The version may be gone, its number may be another version's, or the alias may be elsewhere.
        """
        try:
            self._expect(surface, version, artifact_uri)
        except NoVersion as gone:
            return str(gone)
        alias = self.champion(surface)
        if alias == number_of(version):
            return None
        points = "is not set" if alias is None else f"points to version {alias}"
        return f"MLflow's alias champion of {model_name(surface)} {points}, and version {version} is in service"

    def set_champion(self, surface: str, version: str, artifact_uri: str) -> None:
        """Point the alias to the version promoted as ``version`` with these files. It follows the promotion record, and
        is moved again whenever it is found elsewhere.

        Raises NoVersion where MLflow has that version no longer; the alias is taken away then, so that it names none
        that does not serve.
        """
        try:
            self._expect(surface, version, artifact_uri)
        except NoVersion:
            if self.champion(surface) is not None:
                self._mlflow.delete_registered_model_alias(model_name(surface), "champion")
            raise
        self._mlflow.set_registered_model_alias(model_name(surface), "champion", number_of(version))

    def _expect(self, surface: str, version: str, artifact_uri: str) -> None:
        """Raises NoVersion unless MLflow has the version with these files under its number."""
        if self.version(surface, version).artifact_uri != artifact_uri:
            raise NoVersion(
                f"version {number_of(version)} of {model_name(surface)} in MLflow is not the version {version} that was"
                f" promoted, whose files are {artifact_uri}"
            )

    def champion(self, surface: str) -> str | None:
        """The number of the version the alias points to; None when there is no such model or alias."""
        from mlflow.exceptions import MlflowException

        try:
            version = self._mlflow.get_registered_model(model_name(surface)).aliases.get("champion")
        except MlflowException as error:
            if _absent(error):
                return None
            raise
        return None if version is None else str(version)

    def download(self, artifact_uri: str, to: Path) -> Path:
        """Fetch a version's folder to ``to``, as :func:`models.versions.files.download` does."""
        return download(artifact_uri, to, self.tracking_uri)

    def report(self, surface: str, update_id: int) -> bytes | None:
        """The report of an update as `log_report` attached it; None where its run or the file is not there.

        Raises RegistryFailed when MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        kept = f"tags.`{UPDATE_TAG}` = '{update_id}'"
        with self.answering(), tempfile.TemporaryDirectory() as folder:
            experiment = self._mlflow.get_experiment_by_name(model_name(surface))
            found = experiment and self._mlflow.search_runs([experiment.experiment_id], kept, max_results=1)
            if not found:
                return None
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
        return f"{pages}/#/models/{quote(model_name(surface))}/versions/{number_of(version)}"

    # --- what must be there first -----------------------------------------------------------------------------------

    def _experiment(self, surface: str) -> str:
        """Id of the surface's experiment, made when it is not there, and restored when it was deleted."""
        from mlflow.exceptions import MlflowException

        name = model_name(surface)
        found = self._mlflow.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            LOG.warning("the experiment %s was deleted in MLflow; it is restored, for updates to go on", name)
            self._mlflow.restore_experiment(found.experiment_id)
        if found is not None:
            return str(found.experiment_id)
        location = None if self.artifact_root is None else f"{self.artifact_root.rstrip('/')}/{surface}"
        try:
            return str(self._mlflow.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was quicker, or the database says no in earnest: then there is still none.
            found = self._mlflow.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._mlflow.get_registered_model(name)
        except MlflowException:
            try:
                self._mlflow.create_registered_model(name)
            except MlflowException:
                self._mlflow.get_registered_model(name)


def _absent(error: "MlflowException") -> bool:
    """Whether MLflow says that there is no such thing; it says so of a deleted version, too."""
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    return bool(error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))


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
