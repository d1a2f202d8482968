"""A drill of a surface that reads texts: what it trains and judges has the texts that the log has shown."""

import copy
from datetime import UTC, datetime, timedelta

import numpy as np

from features.ingest.simulated_search import simulate_search
from flows.drill.logs import log_of
from flows.drill.texts import texts_of
from flows.drill.windows import Folding, joined, windows
from flows.surfaces.feed import SURFACE as FEED
from flows.surfaces.search import SURFACE as SEARCH
from models.text.part import TextPart
from models.text.text_design import TextDesign

START = datetime(2026, 1, 5, tzinfo=UTC)


def test_its_windows_have_the_texts_of_their_rows() -> None:
    made = simulate_search(seed=0, start=START, days=0.25, users=50, items=200, queries=30, requests_per_day=400)
    log = log_of("search", made.log, made.items)
    texts = texts_of(log, SEARCH)
    assert texts is not None
    assert texts_of(log, FEED) is None
    folding = Folding(SEARCH.features, texts)
    apart = copy.deepcopy(folding)
    parts = list(windows(log, folding, timedelta(hours=2)))
    assert len(parts) > 1
    examples = joined(parts).frame.examples
    assert isinstance(SEARCH.design.text, TextDesign)
    numbers = TextPart(SEARCH.design.text).beside(examples, SEARCH.layout).dense[:, -2:]
    assert np.isfinite(numbers).all()
    assert numbers[examples.label > 0].mean(0)[0] > numbers[examples.label == 0].mean(0)[0], "what is meant is likest"
    again = next(iter(windows(log, apart, timedelta(hours=2)))).frame.examples
    assert again.texts is parts[0].frame.examples.texts, "a fold that goes another way shares encoder and vectors"
