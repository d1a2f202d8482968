"""The files of a version, where the registry stored them: on a disk, in an object store, or behind MLflow's server."""

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infra.errors import MillraceError

RANKER = "/artifacts/ranker"
"""Where in a version's folder its weights are."""


class NoArtifacts(MillraceError, FileNotFoundError):
    """The files of a version are no longer where they were stored."""


def download(artifact_uri: str, to: Path, tracking_uri: str) -> Path:
    """Fetch a version's folder to ``to``, which is there in full or not at all. Returns ``to``.

    ``to`` must not exist; should another process make it meanwhile, that stands. A ``file:`` URI is copied without
    loading MLflow, so that a serving process stays small. Raises NoArtifacts where the folder is gone.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".incoming-") as folder:
        fetched = fetch(artifact_uri, Path(folder) / "ranker", tracking_uri)
        for file in (path for path in fetched.rglob("*") if path.is_file()):
            with file.open("rb") as written:
                os.fsync(written.fileno())
        try:
            fetched.rename(to)
        except OSError:
            if not to.exists():  # another process was quicker
                raise
    return to


def fetch(uri: str, to: Path, tracking_uri: str) -> Path:
    """Copy a folder of artifacts to ``to``, which must not exist. Returns where the copy is."""
    source = urlsplit(uri)
    missing_files = NoArtifacts(f"{uri}: nothing is there any more; restore MLflow's files, or use another version")
    if source.scheme in ("", "file"):
        if not Path(unquote(source.path)).is_dir():
            raise missing_files
        return shutil.copytree(unquote(source.path), to)
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.exceptions import MlflowException

    to.mkdir(parents=True)
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=tracking_uri))
    except MlflowException as error:
        if list_artifacts(artifact_uri=uri, tracking_uri=tracking_uri):
            raise
        raise missing_files from error


def missing(artifact_uri: str, tracking_uri: str) -> str | None:
    """The first file of a version, as it names itself, that is not there. Whether one is damaged, loading shows."""
    for name in ("model.json", "weights.safetensors"):
        file = f"{artifact_uri}/{name}"
        source = urlsplit(file)
        if source.scheme in ("", "file"):
            there = Path(unquote(source.path)).is_file()
        else:
            from mlflow.artifacts import list_artifacts

            there = any(
                found.path.endswith(name)
                for found in list_artifacts(artifact_uri=artifact_uri, tracking_uri=tracking_uri)
            )
        if not there:
            return file
    return None


def materialise(artifact_uri: str, to: Path, tracking_uri: str) -> Path:
    """Write the version with these files to the folder ``to``, as MLflow loads and serves it, in full: no other
    version is needed any more. Returns ``to``.

    Raises FileExistsError when ``to`` exists, FileNotFoundError and DamagedModel as ``models.versions.lineage``.
    """
    from models.versions.artifact import save
    from models.versions.lineage import load_version

    if to.exists():
        raise FileExistsError(f"{to} exists: name a folder that does not")
    with tempfile.TemporaryDirectory() as scratch:
        model = fetch(artifact_uri.removesuffix(RANKER), Path(scratch) / "model", tracking_uri)
        ranker = model / RANKER[1:]
        below = (Path(scratch) / f"{depth}" for depth in count())
        whole = load_version(ranker, lambda parent: fetch(parent.found, next(below), tracking_uri))
        for part in ranker.iterdir():
            if part.is_file():  # its towers are whole as they are
                part.unlink()
        save(whole, ranker)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(model, to)
    return to
