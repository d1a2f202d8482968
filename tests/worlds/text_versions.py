"""Versions that read texts, as MLflow loads them: their folders, rows as a caller has them, and what these score."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.identity.key import key_of
from models.examples import Examples, Layout
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.pretrained import base_of
from models.text.text_design import TextDesign
from models.text.wording_design import WordingDesign
from models.versions import artifact
from models.versions.mlflow_model import write_model
from models.versions.raw_columns import RawColumns, RawId, RawNumber
from tests.worlds import texts, wordings
from tests.worlds.designs import design_of
from tests.worlds.examples import no_time


@dataclass(frozen=True)
class Version:
    """One in MLflow's form, and what it says."""

    folder: Path
    rows: list[dict[str, object]]
    """N, of raw columns."""
    scores: list[float]
    """N, by the model as the loop has it."""


def search_version(folder: Path) -> Version:
    """One whose encoder has learned something, asked what it was not asked before."""
    examples = texts.searched(200, seed=1, texts=texts.known_texts())
    asked = texts.searched(10, seed=2, texts=texts.known_texts())
    return _written(folder, texts.DESIGN, texts.LAYOUT, examples, asked, {})


def headline_version(folder: Path, encoder: str) -> Version:
    """One that has learned which word gains."""
    design, shown = wordings.design_for(encoder), wordings.worded(30, seed=0, impressions=60)
    known = wordings.texts_of(base_of(design.encoder, design.layers), shown)
    examples = wordings.impressions_of(shown, known, seed=0)
    articles = {key_of("article", name): name for name in shown.articles}
    return _written(folder, design, wordings.LAYOUT, examples, examples[:40], articles)


def _written(
    folder: Path,
    text: TextDesign | WordingDesign,
    layout: Layout,
    examples: Examples,
    asked: Examples,
    names: dict[int, str],
) -> Version:
    """``names``: of ids that are no texts, by their keys."""
    design = Design(design_of(hidden=(8,), embedding=4).shape, design_of().learning, text)
    model, _ = fine_tune(Model.new(layout, design, seed=0), examples, seed=0, device="cpu", clock=no_time)
    assert model.text is not None
    assert model.text.arrays(), "updates moved something of it"
    columns = RawColumns(
        dense=tuple(RawNumber(name, "number") for name in layout.dense),
        ids=tuple(RawId(name, name) for name in layout.ids),
        history=RawId("last_items", "item"),
        last=0,
    )
    assert asked.texts is not None
    names = {**names, **asked.texts.by_key}
    rows: list[dict[str, object]] = [
        {
            **dict(zip(layout.dense, numbers, strict=True)),
            **{name: names[key] for name, key in zip(layout.ids, keys, strict=True)},
        }
        for numbers, keys in zip(asked.dense.astype(float).tolist(), asked.ids.tolist(), strict=True)
    ]
    artifact.save(model, folder / "trained")
    write_model(folder / "model", folder / "trained", "m-1", "run-1", columns, rows[:3])
    scores = model.score(asked)
    assert np.ptp(scores) > 0.01
    return Version(folder / "model", rows, scores.tolist())
