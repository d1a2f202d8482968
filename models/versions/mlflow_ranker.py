"""A registered ranker as MLflow loads it: from this file and the weights beside it, never from a pickle.

MLflow copies this file into every version (models from code) and runs it on ``mlflow.pyfunc.load_model``. Its input is
three arrays of N rows, ``{"dense": float32 (N, D), "ids": int64 (N, K), "history": int64 (N, L)}`` in the order the
artifact's ``model.json`` names; its output is N probabilities. ``models`` must be importable where it is loaded, and
what the version is a delta on must be where it was registered: ``millrace export`` writes a version that stands alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class PyfuncRanker(PythonModel):
    """Scores rows with the ranker saved in the artifact ``ranker``."""

    def load_context(self, context: Any) -> None:
        from mlflow.artifacts import download_artifacts

        from models.versions.lineage import load_version

        # A version may be a delta on others, which are where they were registered.
        folder = Path(context.artifacts["ranker"])
        self.model = load_version(folder, lambda parent: Path(download_artifacts(artifact_uri=parent.found)))

    # MLflow makes a schema of other type hints and warns when there is none. The signature is the contract.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        from models.examples import Examples

        dense = np.asarray(model_input["dense"], dtype=np.float32)
        rows = len(dense)
        return self.model.score(
            Examples(
                dense=dense,
                ids=np.asarray(model_input["ids"], dtype=np.int64),
                history=np.asarray(model_input["history"], dtype=np.int64),
                label=np.zeros(rows, dtype=np.float32),
                request=np.zeros(rows, dtype=np.int64),
                time=np.zeros(rows, dtype=np.float64),
            )
        )


set_model(PyfuncRanker())
