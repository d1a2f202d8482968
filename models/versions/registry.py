"""The model registry: versions and the alias ``champion``, in MLflow.

MLflow shows what happened and stores the weights; what is in service is decided in ``models.versions.promotions``,
whatever somebody does to versions, aliases and tags here. Their files are read in ``models.versions.files``. With the
URL of MLflow's database all calls of an update take well under a second; over HTTP two to five times as long.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from infra.errors import MillraceError
from models.versions.files import RANKER, download
from models.versions.mlflow_client import answering, client, is_absent, quieten
from models.versions.mlflow_model import ExampleRows, write_model
from models.versions.raw_columns import RawColumns
from models.versions.update_runs import UPDATE_TAG, UpdateRuns
from models.versions.version_names import model_name, number_of

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODEL_TAG = "millrace.model_sha256"
"""Digest of a version's ``model.json``, and of its towers' where it has some, which hold those of the weights."""


@dataclass(frozen=True)
class Registered:
    """A model version in the registry."""

    version: str
    artifact_uri: str
    """Folder with ``weights.safetensors`` and ``model.json``: what ``Registry.download`` takes."""
    run_id: str


class NoVersion(MillraceError, LookupError):
    """MLflow has no such version, or another one under its number."""


class Registry:
    """The versions, and the runs, at one MLflow tracking address."""

    def __init__(self, tracking_uri: str, artifact_root: str | None = None):
        """``tracking_uri`` is a server (``http://``) or MLflow's database (``postgresql+psycopg://``).

        ``artifact_root`` (``file:///folder``, ``s3://bucket/path``) is where new experiments store their files; a
        server has its own, a database has none.
        """
        if artifact_root is None and not tracking_uri.startswith("http"):
            raise ValueError(
                "artifact_root is not set: a tracking URI that is no server needs a place for artifacts, "
                "such as file:///var/lib/millrace/artifacts"
            )
        quieten()
        self.tracking_uri = tracking_uri
        self.update_runs = UpdateRuns(tracking_uri, artifact_root)

    def answering(self) -> AbstractContextManager[None]:
        """Raises RegistryFailed, in one line, for what MLflow refuses or does not answer meanwhile."""
        return answering(self.tracking_uri)

    @property
    def _mlflow(self) -> "MlflowClient":
        return client(self.tracking_uri)

    def register(
        self,
        surface: str,
        model_folder: Path,
        *,
        update_id: int,
        run_id: str,
        columns: RawColumns,
        example: ExampleRows,
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
    ) -> Registered:
        """Make a version of the ranker saved in ``model_folder`` by ``models.versions.artifact``.

        The version takes raw ``columns``, a few rows of which are its input ``example``, and brings the code that
        loads it. One version for an update and a model: a second call with the same of both returns the first one's
        version, and one with other weights, as a repeated update may have trained, makes its own. Two calls at the
        same moment would make two; the claim in the update ledger prevents that.
        """
        digest = _digest(model_folder)
        found = self.registered(surface, update_id, digest)
        if found is not None:
            return found
        from mlflow.entities import LoggedModelOutput

        mlflow, name = self._mlflow, model_name(surface)
        logged = mlflow.create_logged_model(
            self.update_runs.experiment(surface),
            name=f"ranker-{update_id}",
            source_run_id=run_id,
            tags={UPDATE_TAG: str(update_id)},
            model_type="ranker",
        )
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder) / "model", model_folder, logged.model_id, run_id, columns, example)
            mlflow.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
        mlflow.finalize_logged_model(logged.model_id, "READY")
        mlflow.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        self._ensure_model(name)
        made = mlflow.create_model_version(
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
        mlflow.set_logged_model_tags(
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
        """A version by its name (``version_names.version_name``). Raises NoVersion when MLflow has none such."""
        from mlflow.exceptions import MlflowException

        try:
            made = self._mlflow.get_model_version(model_name(surface), number_of(version))
        except MlflowException as error:
            if not is_absent(error) and number_of(version).isdecimal():
                raise
            raise NoVersion(
                f"MLflow has no version {version} of {model_name(surface)}: there never was one, or it was deleted or"
                " renamed there"
            ) from error
        return Registered(str(made.version), _ranker_uri(made.source), str(made.run_id))

    def difference(self, surface: str, version: str, artifact_uri: str) -> str | None:
        """How MLflow's champion differs from the one promoted as ``version`` with these files; None: it does not.

        The version may be deleted, its number may be another version's, or the alias may be elsewhere.
        """
        try:
            self._expect(surface, version, artifact_uri)
        except NoVersion as deleted:
            return str(deleted)
        alias = self.champion(surface)
        if alias == number_of(version):
            return None
        points = "is not set" if alias is None else f"points to version {alias}"
        return f"MLflow's alias champion of {model_name(surface)} {points}, and version {version} is in service"

    def set_champion(self, surface: str, version: str, artifact_uri: str) -> None:
        """Point the alias to the version promoted as ``version`` with these files. It follows the promotion record, and
        is set back whenever it is found elsewhere.

        Raises NoVersion where MLflow has that version no longer; the alias is deleted then, so that it names none that
        does not serve.
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
            if is_absent(error):
                return None
            raise
        return None if version is None else str(version)

    def download(self, artifact_uri: str, to: Path) -> Path:
        """Fetch a version's folder to ``to``, as :func:`models.versions.files.download` does."""
        return download(artifact_uri, to, self.tracking_uri)

    def version_page(self, pages: str, surface: str, version: str) -> str:
        """Address of a version for a person, under MLflow's ``pages``."""
        return f"{pages}/#/models/{quote(model_name(surface))}/versions/{number_of(version)}"

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._mlflow.get_registered_model(name)
        except MlflowException:
            try:
                self._mlflow.create_registered_model(name)
            except MlflowException:
                self._mlflow.get_registered_model(name)


def _ranker_uri(model_location: str | None) -> str:
    assert model_location, "a version made here has a source"
    return model_location.rstrip("/") + RANKER


def _digest(model_folder: Path) -> str:
    descriptions = (model_folder / "model.json", model_folder / "towers" / "model.json")
    return hashlib.sha256(b"".join(path.read_bytes() for path in descriptions if path.exists())).hexdigest()
