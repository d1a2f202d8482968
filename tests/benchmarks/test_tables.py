"""The benches of tables, small: their rows are all there, what they compare is the same, and nothing is left behind."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import delta, size
from benchmarks.large_table import BEGIN, model_with, spread, table_window
from benchmarks.table import Row, Table


def row(table: Table, what: str, peer: str | None = None) -> Row:
    """The only row of that name (and peer)."""
    (found,) = [row for row in table.rows if row.what == what and (peer is None or row.peer == peer)]
    return found


def test_the_same_window_for_a_table_of_any_size() -> None:
    shown = table_window(1_000, 200, 0.5, seed=1)
    small, large = (shown.examples(spread(rows, 200, seed=1)) for rows in (500, 50_000))
    assert (small.dense == large.dense).all()
    assert shown.distinct == len(np.unique(small.ids)) == len(np.unique(large.ids))
    assert large.ids.max() > 40_000, "from all over the table"
    assert small.time[0] == BEGIN


def test_the_model_of_the_benches_knows_every_id() -> None:
    table = model_with(1_000, 16, seed=0).tables[0]
    assert (len(table), table.width, table.state_width) == (1_000, 16, 1)
    assert table.admitted(spread(1_000, 100, seed=0)).all()


def test_deltas_follow_the_rows_touched_and_are_exact(tmp_path: Path) -> None:
    config = replace(delta.DeltaConfig.quick(), rows=20_000, width=16, events=(200, 1_000), repeats=1, folder=tmp_path)
    table = delta.bench(config, clock=time.perf_counter, progress=lambda _: None)
    for events in (200, 1_000):
        what = f"delta of {events:,} events"
        assert row(table, f"{what}: there and back to the bit").met
        assert 0.9 * events < float(row(table, f"{what}: rows touched").ours or 0) <= events
        assert (row(table, f"{what}: bytes").ratio or 1) < 0.2
        assert row(table, f"{what}: made, written and synced").peer == delta.FULL
    assert row(table, "bytes for each further touched row").met
    assert not list(tmp_path.iterdir())
    assert table.text()


def test_the_cost_of_an_update_stands_beside_its_peers() -> None:
    config = replace(size.SizeConfig.quick(), small=2_000, large=20_000, impressions=4_096, items=1_000, repeats=1)
    table = size.bench(config, clock=time.perf_counter, progress=lambda _: None)
    for name in ("SparseAdam", "dense Adam"):
        compared = row(table, "update, 20,000 against 2,000 rows", name)
        assert compared.goal == "at most 1.3 times"
        assert compared.theirs is not None
        assert compared.theirs > 0
    assert row(table, "items in the window").ours == table_window(4_096, 1_000, 0.5, 0).distinct
    assert table.text()
