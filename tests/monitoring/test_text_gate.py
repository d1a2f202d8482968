"""The gate on a ranker that reads texts: what goes wrong in its encoder is caught and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.examples import Examples
from models.learning.learner import fine_tune
from models.learning.model import Model
from models.text.adapted import Adapted
from models.text.part import TextPart
from models.text.pretrained import base_of
from monitoring.evaluation.cost import Cost
from monitoring.evaluation.evaluate import Trained, evaluate
from monitoring.evaluation.evidence import Evidence
from monitoring.evaluation.history import QUERIES, History, Recalled
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.evaluation.rated import compare_rated
from monitoring.evaluation.rated_pairs import RatedPairs, read_rated
from monitoring.evaluation.slice_columns import FREQUENCY
from monitoring.evaluation.window import Champion, check
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.memory import needed
from monitoring.gate.policy import Policy
from monitoring.statistics.sequential import Moments
from tests.worlds.designs import design_of
from tests.worlds.examples import no_time
from tests.worlds.searches import NAMES, START, TITLES, WORDS, asked, labelled, texts, window_of
from tests.worlds.texts import DESIGN, LAYOUT

TEXT = replace(DESIGN, rank=4, batch=32)

OF_TEXT = {"rated", "rated_as_it_comes", "query_drift", "slices", "text_not_finite"}
"""Codes of what is looked at for texts."""

COST = Cost(1.0, None, 1_000, None, candidates=50, score_p99_ms=2.0)

AT_WORK = Recalled(process=ProcessRecord().add(Moments(2_000, 0.004, 0.02), loss=0.01, judged_to=START), baseline="7")


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> RatedPairs:
    folder: Path = tmp_path_factory.mktemp("surfaces")
    rows = [
        f"{name} {word},{title},{2 * (meant == title)}"
        for name, meant in zip(NAMES, TITLES, strict=True)
        for word in WORDS[::2]
        for title in TITLES
    ]
    (folder / "rated.csv").write_text("\n".join(["query,text,rating", *rows]))
    return read_rated(folder, "rated.csv")


@pytest.fixture(scope="module")
def champion() -> Champion:
    design = replace(design_of(hidden=(8,), embedding=4, batch_requests=16), text=TEXT)
    return Champion("7", trained(Model.new(LAYOUT, design, 0), asked(2_500, seed=1).examples).model)


def trained(model: Model, examples: Examples) -> Trained:
    """What the model becomes by an update on these."""
    after, learned = fine_tune(model, examples, seed=0, device="cpu", clock=no_time)
    return Trained(after, learned, "not_worse", COST)


def with_adapter(
    model: Model, examples: Examples, *, times: float = 1.0, epochs: int = 1, stays: bool = False
) -> Model:
    """The model with its adapter trained on these, at so many times the rate. ``stays``: an update moves it no more."""
    assert model.text is not None
    assert model.text.adapted is not None
    other = replace(TEXT, rate=times * TEXT.highest_rate, epochs=epochs, held_out=0.0)  # or what is bad is not kept
    encoder = base_of(TEXT.encoder).identity
    _, part = TextPart(other, replace(model.text.adapted, design=other), encoder).learned(examples, LAYOUT, seed=0)
    changed = model.copy()
    assert part.adapted is not None
    own = replace(TEXT, adapt="nothing") if stays else TEXT
    changed.text = TextPart(own, Adapted.of(TEXT, part.adapted.arrays(), part.adapted.steps), encoder)
    return changed


def judged(
    champion: Champion, start: Model, rated: RatedPairs | None = None, **of_window: int
) -> tuple[Evidence, Verdict]:
    """An update of a window that begins from another model than the champion."""
    frame, history = asked(**{"requests": 500, "seed": 2, **of_window}), History(AT_WORK, trained_on=asked(400, seed=5))
    challenger = trained(start, frame.examples)
    if rated is not None:
        assert challenger.model.text is not None
        found = compare_rated(rated, champion=champion.model.text, challenger=challenger.model.text)
        challenger = replace(challenger, rated=found)
    evidence = evaluate(check(window_of(frame), champion, history), champion, challenger, history)
    return evidence, decide(Policy(), evidence)


def reason(verdict: Verdict, code: str) -> str:
    return next(finding.sentence for finding in verdict.findings if finding.code == code)


@pytest.mark.slow
def test_sound_updates_are_not_held_for_their_texts(champion: Champion) -> None:
    verdicts = [judged(champion, champion.model, seed=seed)[1] for seed in range(20, 26)]
    assert not [code for verdict in verdicts for code in verdict.codes if code in OF_TEXT]
    assert sum(verdict.verdict == "promote" for verdict in verdicts) >= 4


def test_an_encoder_in_int8_is_compared_with_the_champion_in_float32_and_may_go_live(champion: Champion) -> None:
    quick = champion.model.reading_texts_by(replace(TEXT, precision="int8"))
    evidence, verdict = judged(champion, quick, seed=21)
    assert verdict.verdict == "promote", verdict.reasons
    assert evidence.comparison is not None
    assert evidence.comparison.rival == "champion"


def test_an_adapter_trained_on_swapped_labels_is_rejected_and_named(champion: Champion, rated: RatedPairs) -> None:
    swapped = asked(500, seed=3)
    swapped = labelled(swapped, 1 - swapped.examples.label)
    _, verdict = judged(champion, with_adapter(champion.model, swapped, stays=True), rated=rated)
    assert (verdict.verdict, verdict.codes[0]) == ("reject", "worse_beyond_chance")
    assert {"rated", "rated_as_it_comes"} <= set(verdict.codes)
    assert "the encoder as it comes 0.98" in reason(verdict, "rated_as_it_comes")


def test_an_adapter_trained_at_a_rate_thirty_times_too_high_is_rejected_and_named(
    champion: Champion, rated: RatedPairs
) -> None:
    wild = with_adapter(champion.model, asked(500, seed=3).examples, times=30)
    _, verdict = judged(champion, wild, rated=rated)
    assert (verdict.verdict, verdict.codes[0]) == ("reject", "worse_beyond_chance")
    assert {"rated", "rated_as_it_comes"} <= set(verdict.codes)


def test_an_adapter_that_helps_recurring_queries_and_harms_rare_ones_is_held_by_its_slice(champion: Champion) -> None:
    """Most names mean something else now, which it learned; of rare queries it learned the opposite."""
    frame = asked(1_000, seed=3, turned=5, rare=0.2)
    by_key = texts().by_key
    recurring = np.array([by_key[key] in NAMES for key in frame.examples.ids[:, 0].tolist()])
    label = np.where(recurring, frame.examples.label, 1 - frame.examples.label)
    one_sided = with_adapter(champion.model, labelled(frame, label), epochs=3, stays=True)
    evidence, verdict = judged(champion, one_sided, requests=800, turned=5, rare=0.2)
    assert (verdict.verdict, set(verdict.codes)) == ("hold", {"slices", "not_worse"})
    assert "query's frequency = rare" in reason(verdict, "slices")
    assert evidence.comparison is not None
    gains = {one.value: one.gain for one in evidence.comparison.slices if one.column == FREQUENCY}
    assert gains["rare"] is not None
    assert gains["recurring"] is not None
    assert gains["rare"] < -0.2
    assert gains["recurring"] > 0.05
    assert evidence.comparison.gain.lower is not None
    assert evidence.comparison.gain.lower > 0, "as a whole it is better"


def test_a_window_that_asks_for_one_thing_alone_is_held_and_queries_are_named(champion: Champion) -> None:
    evidence, verdict = judged(champion, champion.model, requests=500, seed=6, only=3)
    assert verdict.verdict == "hold"
    assert "query_drift" in verdict.codes
    assert evidence.query_drift is not None
    assert evidence.query_drift.ratio > 2
    sentence = reason(verdict, "query_drift")
    assert sentence.startswith("What is asked for differs from what the champion was trained on: MMD² 0.")
    assert f"“{evidence.query_drift.farthest[0].query}”" in sentence
    needs = needed(Policy(), evidence)
    assert needs["query_drift"] == evidence.query_drift.ratio
    assert needs[QUERIES] == evidence.query_drift.beyond_chance


def test_an_encoder_that_broke_is_held_although_the_ranker_takes_its_texts_for_unknown(champion: Champion) -> None:
    assert champion.model.text is not None
    assert champion.model.text.adapted is not None
    broken = champion.model.copy()
    adapted = champion.model.text.adapted
    arrays = {name: np.full_like(array, np.nan) for name, array in adapted.arrays().items()}
    broken.text = TextPart(
        replace(TEXT, adapt="nothing"), Adapted.of(TEXT, arrays, adapted.steps), base_of(TEXT.encoder).identity
    )
    evidence, verdict = judged(champion, broken)
    assert evidence.text is not None
    assert evidence.text.not_finite > 0
    assert evidence.not_finite == 0, "which is why it has to be looked at"
    assert "text_not_finite" in verdict.codes


def test_nothing_is_said_of_rated_pairs_where_there_are_none(champion: Champion) -> None:
    evidence, verdict = judged(champion, champion.model)
    assert evidence.text is not None
    assert evidence.text.rated is None
    assert not [code for code in verdict.codes if "rated" in code]
