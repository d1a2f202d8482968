"""The gate on a ranker that reads wordings: what is of queries is left out, and what broke is caught and named."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.pretrained import base_of
from models.text.wording_part import WordingPart
from monitoring.checks.limits import Limits
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evaluate import Trained, evaluate
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import History, Recalled
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.terms import Terms
from monitoring.evaluation.window import Champion, Window, check
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.policy import Policy
from monitoring.statistics.sequential import Moments
from tests.worlds.designs import design_of
from tests.worlds.encoders import write_encoder
from tests.worlds.examples import no_time
from tests.worlds.wordings import LAYOUT, START, design_for, frame_of, impressions_of, texts_of, worded

BEFORE, NOW = worded(40, seed=0, impressions=100), worded(40, seed=1, impressions=40, prefix="b")

AT_WORK = Recalled(process=ProcessRecord().add(Moments(2_000, 0.004, 0.02), loss=0.01, judged_to=START), baseline="7")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Examples, Examples]:
    """A model that is new, what came before, and the window that is judged."""
    text = design_for(write_encoder(tmp_path_factory.mktemp("encoder")))
    texts = texts_of(base_of(text.encoder, text.layers), BEFORE, NOW)
    before, now = (
        frame_of(impressions_of(shown, texts, seed=seed), LAYOUT).examples for seed, shown in enumerate((BEFORE, NOW))
    )
    design = replace(design_of(hidden=(8,), embedding=4, batch_requests=64), text=text)
    return Model.new(LAYOUT, design, seed=0), before, now


def trained(model: Model, examples: Examples) -> Trained:
    after, learned = fine_tune(model, examples, seed=0, device="cpu", clock=no_time)
    return Trained(after, learned, "not_worse", Cost(1.0, None, 1_000, None, candidates=50, score_p99_ms=2.0))


def judged(champion: Champion, challenger: Trained, before: Examples, now: Examples) -> tuple[Evidence, Verdict]:
    frame = frame_of(now, LAYOUT)
    terms = Terms("progressive", LAYOUT.dense, LAYOUT.schema_version, {}, Limits(), margin=0.01)
    end = START + timedelta(seconds=len(frame))
    window = Window(7, START, end, end, end + timedelta(minutes=10), frame, terms)
    history = History(AT_WORK, trained_on=frame_of(before, LAYOUT))
    evidence = evaluate(check(window, champion, history), champion, challenger, history)
    return evidence, decide(Policy(), evidence)


def test_what_is_of_queries_is_left_out_and_numbers_that_are_none_are_named(
    windows: tuple[Model, Examples, Examples],
) -> None:
    new, before, now = windows
    champion = Champion("7", trained(new, before).model)
    challenger = trained(champion.model, now)
    evidence, verdict = judged(champion, challenger, before, now)
    assert evidence.query_drift is None
    assert evidence.text is not None
    assert (evidence.text.rated, evidence.text.lost, evidence.text.not_finite) == (None, (), 0)
    assert not [code for code in verdict.codes if "text" in code or "query" in code or "rated" in code]

    broken = challenger.model.copy()
    assert isinstance(broken.text, WordingPart)
    arrays = broken.text.arrays()
    broken.text = WordingPart.of(broken.text.design, {**arrays, "direction": np.full_like(arrays["direction"], np.nan)})
    evidence, verdict = judged(champion, replace(challenger, model=broken), before, now)
    assert evidence.text is not None
    assert evidence.text.not_finite == len(set(NOW.texts))
    assert "text_not_finite" in verdict.codes
    sentence = next(finding.sentence for finding in verdict.findings if finding.code == "text_not_finite")
    assert sentence == f"What it makes of texts is no number ({len(set(NOW.texts))} of them)."
