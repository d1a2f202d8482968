"""A delta is the step between two models to the bit, there and back, and fits no other model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.examples import Layout
from models.learning.model import Model
from models.tables.id_table import IdTable
from models.versions.delta import Delta, WrongParent, apply, difference, inverse
from tests.worlds.designs import but, design_of

LAYOUT = Layout("delta-1", ("rate",), ("item", "user"))
DESIGN = design_of(embedding=2, hidden=(4,), cross_layers=1, attention=0, frequency_filter=2, oov_rows=2)

STILL = min(Model.new(LAYOUT, DESIGN, 0).arrays())
"""An array that no update of these tests changes."""

TURN = st.tuples(
    st.lists(st.integers(-6, 20).filter(bool), max_size=12),
    st.lists(st.integers(1, 4), max_size=4),
    st.integers(1, 30),
)
"""Items and users trained on in one update, and the seconds since the one before."""


@dataclass(frozen=True)
class Step:
    """One update of a model, as training would do it: rows put, old ids evicted, the network changed."""

    before: Model
    after: Model
    changed: dict[str, np.ndarray]

    @property
    def delta(self) -> Delta:
        return difference(self.before, self.after, self.changed)


def bits(model: Model) -> dict[str, bytes]:
    """All that a model is."""
    whole = {name: array.tobytes() for name, array in model.arrays().items()} | {"steps": b"%d" % model.steps}
    for name, table in zip(model.table_names, model.tables, strict=True):
        whole[f"{name}.meta"] = f"{table.rows} {table.checked_at}".encode()
        for part, segment in (("shared", table.shared), ("rows", table.compacted())):
            whole |= {f"{name}.{part}.{field}": array.tobytes() for field, array in vars(segment).items()}
    return whole


def updated(model: Model, ids: Sequence[Sequence[int]], now: int, draw: np.random.Generator) -> Step:
    tables, changed = list[IdTable](), {}
    for name, table, shown in zip(model.table_names, model.tables, ids, strict=True):
        distinct, counts = np.unique(np.array(shown, np.int64), return_counts=True)
        gathered = table.gather(distinct, counts, now)
        weights = draw.normal(size=gathered.weights.shape).astype(np.float32)
        table, gone = table.put(gathered, weights, np.abs(weights[:, : table.state_width])).evict(now)
        tables.append(table)
        changed[name] = np.union1d(distinct, gone)
    arrays = {name: array + np.ones(array.shape, array.dtype) for name, array in model.arrays().items()}
    arrays[STILL] = model.arrays()[STILL]
    after = Model.rebuilt(model.layout, model.design, arrays, tuple(tables), model.steps + 1)
    return Step(model, after, changed)


def small(seed: int = 0) -> Model:
    """A new model whose tables forget quickly."""
    model = Model.new(LAYOUT, DESIGN, seed)
    model.tables = tuple(replace(table, evict_after=60.0, max_rows=16) for table in model.tables)
    return model


@settings(max_examples=20, deadline=None)
@given(st.lists(TURN, min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_chain_of_deltas_is_the_state_and_undone_it_is_the_start(
    turns: list[tuple[list[int], list[int], int]], seed: int
) -> None:
    model, draw, now = Model.new(LAYOUT, DESIGN, 0), np.random.default_rng(seed), 1_000_000_000
    steps = []
    for items, users, later in turns:
        now += later
        model.tables = tuple(replace(table, evict_after=60.0, max_rows=16) for table in model.tables)
        steps.append(updated(model, (items, users), now, draw))
        model = steps[-1].after
    there = steps[0].before
    for step in steps:
        assert bits(there) == bits(step.before)
        there = apply(there, step.delta)
        assert bits(there) == bits(step.after)
    for step in reversed(steps):
        there = apply(there, inverse(step.delta, step.before))
        assert bits(there) == bits(step.before)


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    """Twelve updates, among them evictions."""
    draw, made, model = np.random.default_rng(1), list[Step](), small()
    for turn in range(12):
        shown = draw.integers(1, 40, 10).tolist(), draw.integers(1, 5, 3).tolist()
        made.append(updated(model, shown, 1_000_000_000 + 10 * turn, draw))
        model = made[-1].after
    return made


def test_a_delta_holds_what_changed_and_no_more(steps: list[Step]) -> None:
    before, delta = steps[7].before, steps[7].delta
    assert STILL in delta.names
    assert set(delta.names) - set(delta.arrays) == {STILL}
    everything = {
        name: np.union1d(delta.changed[name], table.compacted().ids)
        for name, table in zip(LAYOUT.ids, before.tables, strict=True)
    }
    wide = difference(before, steps[7].after, everything)
    assert {name: ids.tolist() for name, ids in wide.changed.items()} == {
        name: ids.tolist() for name, ids in delta.changed.items()
    }
    assert sum(len(step.delta.tables["item"].evicted) for step in steps) > 0, "evictions are in it"
    assert difference(before, before, everything).touched == 0


def test_another_model_than_the_parent_is_refused(steps: list[Step]) -> None:
    delta = steps[7].delta
    for other in (
        steps[6].before,
        steps[7].after,
        small(),
        Model.new(replace(LAYOUT, ids=("item", "place")), DESIGN, 0),
    ):
        with pytest.raises(WrongParent, match="made from a model"):
            apply(other, delta)
    right = steps[7].before
    off = right.arrays()
    off[STILL] = off[STILL] + np.ones(off[STILL].shape, off[STILL].dtype)
    with pytest.raises(WrongParent):
        apply(Model.rebuilt(LAYOUT, DESIGN, off, right.tables, right.steps), delta)


def test_ids_left_out_of_changed_are_noticed_when_they_were_added_or_evicted(steps: list[Step]) -> None:
    came = next(step for step in steps if step.after.tables[0].rows != step.before.tables[0].rows)
    with pytest.raises(ValueError, match=r"table item went from .* give all ids"):
        difference(came.before, came.after, {"user": came.changed["user"]})


def test_rows_of_another_width_want_a_snapshot(steps: list[Step]) -> None:
    wider = Model.new(LAYOUT, but(DESIGN, embedding=3), 0)
    with pytest.raises(ValueError, match="as a snapshot"):
        difference(steps[0].before, wider, {})
