"""A surface that reads wordings: its declaration is checked, and one that begins to trains on the days before."""

from dataclasses import replace
from pathlib import Path

import pytest

from features.declare.columns import Id
from features.declare.families import DAY, Family
from features.declare.features import Features
from features.declare.recommend import Recommend, Similar
from flows.steps.train import Start, fit
from flows.surface import Surface
from models.frames import Frame
from models.learning.design import Design
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.pretrained import base_of
from models.text.wording_design import WordingDesign
from models.text.wording_part import WordingPart
from monitoring.evaluation.window import Champion, Window
from tests.worlds.designs import design_of
from tests.worlds.encoders import write_encoder
from tests.worlds.examples import no_time
from tests.worlds.wordings import Shown, design_for, frame_of, impressions_of, texts_of, worded

BEFORE, NOW = worded(30, seed=0, impressions=60), worded(30, seed=1, impressions=60, prefix="b")

FEATURES = Features(
    columns=(Id("article", of="item"), Id("headline", of="item")),
    families=(Family("all", (), (DAY,), trend=True, sizes=0),),
)


def test_a_challenger_of_another_reading_is_trained_from_days_before(tmp_path: Path) -> None:
    text = design_for(write_encoder(tmp_path / "encoder"))
    plain = Surface(name="news", features=FEATURES, design=design_of(hidden=(8,), embedding=4, batch_requests=64))
    reads = replace(plain, design=replace(plain.design, text=text))
    texts = texts_of(base_of(text.encoder, text.layers), BEFORE, NOW)

    def frame(shown: Shown) -> Frame:
        return frame_of(impressions_of(shown, texts, seed=0), plain.layout)

    start = Model.new(plain.layout, plain.design, seed=0)
    champion = fine_tune(start, frame(BEFORE).examples, seed=0, device="cpu", clock=no_time)[0]
    part = frame(NOW)
    begins, ends = part.table["shown_at"].min(), part.table["shown_at"].max()
    window = Window(7, begins, ends, ends, ends, part, reads.terms)
    fitted = fit(reads, window, Start(Champion("1", champion), None, lambda: frame(BEFORE)))
    tuned = fitted.trained.model
    assert fitted.trained.hypothesis == "better"
    assert tuned.design == reads.design
    assert isinstance(tuned.text, WordingPart)
    assert tuned.text.appeal is not None
    assert len(tuned.text.appeal.things) == 60, "of both"
    again = fit(reads, window, Start(Champion("2", tuned), None, lambda: frame(BEFORE)))
    assert again.trained.hypothesis == "not_worse"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            WordingDesign("headline", "story"),
            r"text\.of is 'story', which is no Id of the item; there are article, headline\. All wordings of a thing"
            r" have the same: Id\('story', of='item'\)",
        ),
        (
            WordingDesign("title", "article"),
            r"text\.item is 'title', which is no Id of the item; there are article, headline\. The text itself is",
        ),
    ],
)
def test_wordings_are_ids_of_the_item(text: WordingDesign, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Surface(name="news", features=FEATURES, design=Design(text=text))


def test_nothing_is_looked_for_by_meaning_without_queries() -> None:
    with pytest.raises(ValueError, match="recommend has Similar, which looks for what queries mean, and none are read"):
        Surface(
            name="news",
            features=FEATURES,
            design=Design(text=WordingDesign("headline", "article")),
            recommend=Recommend(sources=(Similar(),)),
        )
