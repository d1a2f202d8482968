"""The bench of updates at the sizes of a test: all trainers learn the same, whatever they take."""

import time
from dataclasses import replace

import pytest

from benchmarks.table import Table
from benchmarks.update import NoSuchDevice, bench
from benchmarks.update_workload import UpdateConfig


@pytest.fixture(scope="module")
def table() -> Table:
    return bench(UpdateConfig.quick(), clock=time.perf_counter, progress=lambda line: None)


def test_every_trainer_reaches_the_loss_of_its_peer(table: Table) -> None:
    same = [row for row in table.rows if row.what.startswith("log loss, ")]
    assert len(same) == 4
    assert all(row.met for row in same)


def test_each_trainer_has_its_speed_beside_the_best_peer(table: Table) -> None:
    ours = next(row for row in table.rows if row.what == "update, bfloat16, row-wise")
    assert ours.ratio is not None
    assert ours.ratio > 0
    peers = {row.what: row.ours for row in table.rows if row.what.startswith("peer: ")}
    assert {"peer: torch sparse Adagrad", "peer: torch row-wise Adagrad", "peer: fbgemm-cpu"} <= set(peers)
    assert ours.theirs == max(peers["peer: torch sparse Adagrad"], peers["peer: torch row-wise Adagrad"])


def test_the_table_is_plain_values(table: Table) -> None:
    assert '"name": "update"' in table.text()


def test_a_device_that_is_not_there_is_refused_with_what_to_do() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(NoSuchDevice, match="give 'cpu'"):
        bench(replace(UpdateConfig.quick(), device="cuda"), clock=time.perf_counter, progress=lambda line: None)
