"""A saved ranker as a model folder of MLflow's: with a signature, an input example, and the code that loads it.

It stands alone: ``mlflow models serve`` takes raw columns and needs only the packages that the folder names.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from models.versions.raw_columns import RawColumns
from models.versions.travelling import write_code

if TYPE_CHECKING:
    from mlflow.types import Schema

COLUMNS = "columns.json"

ExampleRows = Sequence[Mapping[str, object]]
"""Rows of raw columns, by name."""


def write_model(
    to: Path, model_folder: Path, model_id: str, run_id: str, columns: RawColumns, example: ExampleRows
) -> None:
    """The MLflow model folder around a saved ranker that reads ``columns``; ``example``: a few rows of them."""
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from models.versions.folder import DESCRIPTION, read_description

    text = read_description(model_folder / DESCRIPTION)["design"]["text"]
    encoder = None if text is None else str(text["encoder"])
    with tempfile.TemporaryDirectory() as scratch:
        # MLflow names the copies after their sources, and the address of the weights must not depend on that.
        ranker = shutil.copytree(model_folder, Path(scratch) / "ranker", copy_function=_link_or_copy)
        described = Path(scratch) / COLUMNS
        described.write_text(json.dumps(columns.description(), indent=1))
        loader = Path(__file__).with_name("mlflow_ranker.py")
        package = write_code(loader, Path(scratch))
        mlflow.pyfunc.save_model(
            str(to),
            python_model=str(Path(scratch) / loader.name),
            code_paths=[str(Path(scratch) / package)],
            artifacts={"ranker": str(ranker), "columns": str(described)},
            signature=ModelSignature(
                inputs=_inputs(columns), outputs=Schema([TensorSpec(np.dtype(np.float64), (-1,), "score")])
            ),
            input_example=pd.DataFrame([*example]),
            pip_requirements=_requirements(encoder),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )


def _inputs(columns: RawColumns) -> "Schema":
    """What need not be there is missing where it is not."""
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    ids = [ColSpec(DataType.string, one.name, required=one.required) for one in columns.ids]
    lists = [ColSpec(Array(DataType.string), name, required=False) for name in columns.lists]
    return Schema([*ids, *lists, *(ColSpec(DataType.double, name, required=False) for name in columns.numbers)])


def _link_or_copy(source: str, to: str) -> None:
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def _requirements(encoder: str | None) -> list[str]:
    """What a version needs to be loaded, and its encoder of texts where it has one. Named here because to infer it
    costs MLflow six seconds. A build for one kind of machine (``2.6.0+cpu``) is named without: an index has it under
    its plain number alone."""
    from models.text.pretrained import packages_of

    of_texts = () if encoder is None else packages_of(encoder)
    packages = ("mlflow", "numpy", "pandas", "safetensors", "torch", *of_texts)
    return [f"{package}=={installed_version(package).partition('+')[0]}" for package in packages]
