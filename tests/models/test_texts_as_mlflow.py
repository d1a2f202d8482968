"""A version that reads texts scores, loaded by MLflow from rows with the texts themselves, what it does in the loop."""

from pathlib import Path

import pytest

from tests.worlds.encoders import write_encoder
from tests.worlds.text_versions import Version, headline_version, search_version

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")


@pytest.fixture(params=["search", "headlines"])
def version(request: pytest.FixtureRequest, tmp_path: Path) -> Version:
    if request.param == "search":
        return search_version(tmp_path)
    return headline_version(tmp_path, write_encoder(tmp_path / "encoder"))


def test_it_scores_raw_texts_as_it_does_those_of_the_store(version: Version) -> None:
    import mlflow.pyfunc
    import pandas as pd

    rows, scores = version.rows, version.scores
    loaded = mlflow.pyfunc.load_model(str(version.folder))
    assert loaded.predict(pd.DataFrame(rows)) == pytest.approx(scores, abs=1e-5)
    # A few of them, and in another order: what is remembered of texts is theirs.
    assert loaded.predict(pd.DataFrame(rows[7:2:-1])) == pytest.approx(scores[7:2:-1], abs=1e-5)
    needed = (version.folder / "requirements.txt").read_text()
    assert "transformers==" in needed
    assert ("minilm" in needed) == ("query" in rows[0]), "a folder's encoder is no package"
