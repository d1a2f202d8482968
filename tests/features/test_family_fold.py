"""Folding in parts is folding at once."""

import numpy as np
import pytest

from features.counters import family_fold
from tests.worlds.events import SMALL, folded, records, world

AT_ONCE = 1e9


@pytest.mark.parametrize("part", [1, 7, 64])
def test_the_parts_change_no_row(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = world(3, requests=150)
    engine, whole = folded(events, SMALL, AT_ONCE)
    monkeypatch.setattr(family_fold, "PART", part)
    again, in_parts = folded(events, SMALL, AT_ONCE)
    assert in_parts.equals(whole)
    for name, counters in engine.counters.items():
        assert records(counters).tobytes() == records(again.counters[name]).tobytes()


def test_reads_alone_may_be_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    events = world(4, requests=60)
    engine, _ = folded(events, SMALL, AT_ONCE)
    whole = engine.read_as_of(events, engine.time)
    monkeypatch.setattr(family_fold, "PART", 10)
    in_parts = engine.read_as_of(events, engine.time)
    one, other = whole.values.dense, in_parts.values.dense
    assert len(one) > 10
    assert np.array_equal(one.view(np.uint16), other.view(np.uint16))
