"""A saved ranker as a model folder of MLflow's: with a signature, an input example, and the code that loads it."""

import os
import shutil
import tempfile
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.examples import Examples

EXAMPLE_ROWS = 3
"""Rows of a version's input example."""


def write_model(to: Path, model_folder: Path, model_id: str, run_id: str, example: "Examples") -> None:
    """The MLflow model folder around a saved ranker."""
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


def _requirements() -> list[str]:
    """What a version needs to be loaded. Named here because to infer it costs MLflow six seconds."""
    return [f"{package}=={installed_version(package)}" for package in ("mlflow", "numpy", "safetensors", "torch")]
