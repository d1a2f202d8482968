"""The MLflow runs of updates: a surface's experiment, and in it one run for each update, with figures and report."""

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.versions.mlflow_client import answering, client
from models.versions.version_names import model_name

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOG = logging.getLogger(__name__)

UPDATE_TAG = "millrace.update_id"


class UpdateRuns:
    """The runs at one MLflow tracking address. ``artifact_root``: where new experiments store their files."""

    def __init__(self, tracking_uri: str, artifact_root: str | None) -> None:
        self.tracking_uri, self.artifact_root = tracking_uri, artifact_root

    @property
    def _mlflow(self) -> "MlflowClient":
        return client(self.tracking_uri)

    def start(
        self,
        surface: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object] | None = None,
        *,
        update_id: int,
    ) -> str:
        """The run of one update, made on the first call; a repeated update resumes it. Returns its id."""
        from mlflow.entities import Param, RunTag

        mlflow, experiment = self._mlflow, self.experiment(surface)
        found = mlflow.search_runs([experiment], f"tags.`{UPDATE_TAG}` = '{update_id}'", max_results=1)
        run_tags = {UPDATE_TAG: str(update_id), **{key: str(value) for key, value in (tags or {}).items()}}
        if found:
            run_id: str = found[0].info.run_id
            mlflow.log_batch(run_id, tags=[RunTag(key, value) for key, value in run_tags.items()])
            return run_id
        run_id = mlflow.create_run(experiment, run_name=name, tags=run_tags).info.run_id
        if params:
            mlflow.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
        return run_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Metrics of a run, in one call. NaN is stored; infinities are refused by some of MLflow's databases."""
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

    def finish(self, run_id: str, status: str = "FINISHED", tags: Mapping[str, object] | None = None) -> None:
        """Close a run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        from mlflow.entities import RunTag

        if tags:
            self._mlflow.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])
        self._mlflow.set_terminated(run_id, status)

    def report(self, surface: str, update_id: int) -> bytes | None:
        """The report of an update as `log_report` attached it; None where its run or the file is not there.

        Raises RegistryFailed when MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException

        of_update = f"tags.`{UPDATE_TAG}` = '{update_id}'"
        with answering(self.tracking_uri), tempfile.TemporaryDirectory() as folder:
            experiment = self._mlflow.get_experiment_by_name(model_name(surface))
            found = experiment and self._mlflow.search_runs([experiment.experiment_id], of_update, max_results=1)
            if not found:
                return None
            try:
                path = self._mlflow.download_artifacts(found[0].info.run_id, "report/report.html", folder)
                return Path(path).read_bytes()
            except (MlflowException, FileNotFoundError):
                return None

    def page(self, pages: str, surface: str, run_id: str) -> str:
        """Address of a run for a person, under MLflow's ``pages``."""
        return f"{pages}/#/experiments/{self.experiment(surface)}/runs/{run_id}"

    def experiment(self, surface: str) -> str:
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
            # Another process was quicker; or the database refuses, and there is still none.
            found = self._mlflow.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)
