"""A registered ranker as MLflow loads it: from this file, the code and the weights beside it, never from a pickle.

MLflow copies this file into every version (models from code) and runs it on ``mlflow.pyfunc.load_model``. Its input are
the raw columns that the version's signature names (``models.versions.raw_columns``), N rows of them; its output is N
scores. It needs nothing of Millrace but what the version brings along; where it reads texts, the encoder by its name
beside that. What the version is a delta on must be where it was registered: ``millrace export`` writes a version that
stands alone.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class PyfuncRanker(PythonModel):
    """Scores rows with the ranker saved in the artifact ``ranker``, from the columns of the artifact ``columns``."""

    def load_context(self, context: Any) -> None:
        from mlflow.artifacts import download_artifacts

        from models.versions.lineage import load_version
        from models.versions.raw_columns import RawColumns
        from models.versions.raw_texts import RawTexts

        # A version may be a delta on others, which are where they were registered.
        folder = Path(context.artifacts["ranker"])
        self.model = load_version(folder, lambda parent: Path(download_artifacts(artifact_uri=parent.found)))
        self.columns = RawColumns.of(json.loads(Path(context.artifacts["columns"]).read_text()))
        self.texts = None if self.model.text is None else RawTexts(self.columns, self.model.text.design)

    # MLflow makes a schema of other type hints and warns when there is none. The signature is the contract.
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> np.ndarray:
        rows = {name: _plain(values) for name, values in model_input.items()}
        examples = self.columns.examples(rows, len(model_input))
        return self.model.score(examples if self.texts is None else replace(examples, texts=self.texts.of(rows)))


def _plain(values: "pd.Series[Any]") -> list[object]:
    """As JSON would have them: lists for arrays, None for what is not there."""
    listed = (value.tolist() if isinstance(value, np.ndarray) else value for value in values.tolist())
    return [None if value is pd.NA or value is pd.NaT else value for value in listed]


set_model(PyfuncRanker())
