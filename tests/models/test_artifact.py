"""A saved model comes back whole, or is refused by the name of the damaged file; so does one saved as a delta."""

import errno
import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from models.learning.learner import TrainingResult, fine_tune
from models.learning.model import Model
from models.versions import folder
from models.versions.artifact import Parent, load, load_delta, save, save_delta, snapshot_due
from models.versions.delta import apply, difference, inverse
from models.versions.folder import DESCRIPTION, WEIGHTS, DamagedModel
from models.versions.lineage import load_version
from tests.models.test_delta import bits
from tests.worlds.designs import design_of
from tests.worlds.examples import LAYOUT, clicks, no_time


@pytest.fixture(scope="module")
def model() -> Model:
    new = Model.new(LAYOUT, design_of(hidden=(8,), batch_requests=32), seed=0)
    return fine_tune(new, clicks(400, seed=1), seed=0, device="cpu", clock=no_time)[0]


def test_a_loaded_model_scores_and_learns_on_to_the_same_bits(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path / "made" / "here")
    loaded = load(tmp_path / "made" / "here")
    assert (loaded.layout, loaded.design, loaded.steps) == (model.layout, model.design, model.steps)
    more, fresh = clicks(400, seed=2, items=60), clicks(50, seed=3, items=80)
    assert (loaded.score(fresh) == model.score(fresh)).all()
    ours, theirs = (fine_tune(m, more, seed=0, device="cpu", clock=no_time)[0] for m in (model, loaded))
    assert (ours.score(fresh) == theirs.score(fresh)).all()


def test_saving_the_same_model_twice_writes_the_same_bytes(model: Model, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(model, tmp_path / name)
    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted([WEIGHTS, DESCRIPTION])


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_a_flipped_byte_is_refused_by_name(model: Model, tmp_path: Path, file: str) -> None:
    save(model, tmp_path)
    whole = (tmp_path / file).read_bytes()
    for at in np.linspace(0, len(whole) - 1, 25).astype(int):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / file).write_bytes(damaged)
        with pytest.raises(DamagedModel, match=file):
            load(tmp_path)


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_a_torn_file_is_refused_by_name(model: Model, tmp_path: Path, file: str) -> None:
    save(model, tmp_path)
    whole = (tmp_path / file).read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / file).write_bytes(whole[:length])
        with pytest.raises(DamagedModel, match=file):
            load(tmp_path)


@pytest.mark.parametrize("file", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_is_named(model: Model, tmp_path: Path, file: str) -> None:
    save(model, tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load(tmp_path)


def test_weights_of_another_model_are_refused(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path)
    save(Model.new(LAYOUT, model.design, seed=1), tmp_path / "other")
    (tmp_path / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(DamagedModel, match=WEIGHTS):
        load(tmp_path)


def test_the_description_is_plain_json(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path)
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    assert description["layout"]["ids"] == list(LAYOUT.ids)
    assert description["design"]["shape"]["hidden"] == [8]
    assert description["steps"] == model.steps


def test_other_programs_read_the_weights(model: Model, tmp_path: Path) -> None:
    save(model, tmp_path)
    arrays = load_file(tmp_path / WEIGHTS)
    whole = model.tables[0].compacted()
    assert (arrays["table.item.rows.ids"] == whole.ids).all()
    assert (arrays["table.item.rows.weights"] == whole.weights).all()


def test_arrays_of_any_shape_and_order_come_back_and_the_file_is_for_all_to_read(tmp_path: Path) -> None:
    arrays = {
        "turned": np.arange(12.0).reshape(3, 4).T,
        "sparse": np.arange(10, dtype=np.int32)[::3],
        "none": np.zeros((0, 4), np.float32),
        "alone": np.array(7, np.uint64),
        "marks": np.array([True, False]),
    }
    folder.write(tmp_path, arrays, {})
    found = folder.read_arrays(tmp_path / WEIGHTS)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert (found[name] == array).all()
    assert (tmp_path / WEIGHTS).stat().st_mode == (tmp_path / DESCRIPTION).stat().st_mode


def test_a_disk_that_takes_no_more_is_an_error_of_the_system_that_names_the_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    before, on_signal = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(OSError, match=WEIGHTS) as raised:
            folder.write(tmp_path, {"large": np.zeros(1 << 17, np.uint8)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, on_signal)
    assert raised.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_a_large_table_is_mapped_and_not_read(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MEMORY_MAPPED_FROM", 1_000)
    save(model, tmp_path)
    mapped = load(tmp_path)
    assert not mapped.tables[0].segments[0].weights.flags.writeable
    assert not mapped.tables[0].segments[0].weights.flags.owndata
    assert bits(mapped) == bits(model)
    more = clicks(200, seed=2, items=60)
    ours, theirs = (fine_tune(m, more, seed=0, device="cpu", clock=no_time)[0] for m in (model, mapped))
    save(theirs, tmp_path)
    assert bits(load(tmp_path)) == bits(ours)
    assert bits(mapped) == bits(model), "a file that is mapped is replaced, not overwritten"


# --- deltas ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lineage(model: Model) -> list[tuple[Model, TrainingResult | None]]:
    """The model and three updates of it."""
    made: list[tuple[Model, TrainingResult | None]] = [(model, None)]
    for turn in range(3):
        window = clicks(60, seed=10 + turn, items=50, first_item=1 + 20 * turn)
        made.append(fine_tune(made[-1][0], window, seed=turn, device="cpu", clock=no_time))
    return made


@pytest.fixture(scope="module")
def chain(lineage: list[tuple[Model, TrainingResult | None]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the snapshot ``0`` and the deltas ``1`` to ``3``."""
    root = tmp_path_factory.mktemp("chain")
    for k, (model, learned) in enumerate(lineage):
        if learned is None:
            save(model, root / "0")
        else:
            delta = difference(lineage[k - 1][0], model, learned.changed)
            save_delta(delta, root / str(k), parent=Parent.of(root / str(k - 1), str(k - 1)))
    return root


def assembled(root: Path, name: str) -> Model:
    return load_version(root / name, lambda parent: root / parent.found)


def test_snapshot_and_deltas_are_the_version(lineage: list[tuple[Model, TrainingResult | None]], chain: Path) -> None:
    for k, (model, _) in enumerate(lineage):
        assert bits(assembled(chain, str(k))) == bits(model)
    fresh = clicks(50, seed=3, items=80)
    last = assembled(chain, "3")
    assert (last.score(fresh) == lineage[3][0].score(fresh)).all()
    back, parent = load_delta(chain / "3")
    assert parent.deltas == 2
    assert bits(apply(last, inverse(back, lineage[2][0]))) == bits(lineage[2][0])


def test_a_version_can_be_made_whole(chain: Path, tmp_path: Path) -> None:
    last = assembled(chain, "3")
    save(last, tmp_path)
    assert bits(load(tmp_path)) == bits(last)


def test_a_delta_without_its_parent_says_what_it_wants(chain: Path) -> None:
    with pytest.raises(ValueError, match=r"a delta on the model .* \(1\): give the parent too"):
        load(chain / "2")
    with pytest.raises(ValueError, match="not a delta"):
        load_delta(chain / "0")


def test_a_delta_on_the_wrong_parent_is_refused_by_name(
    lineage: list[tuple[Model, TrainingResult | None]], chain: Path, tmp_path: Path
) -> None:
    with pytest.raises(DamagedModel, match=WEIGHTS):
        load(chain / "3", lambda _: lineage[1][0])
    for name in ("0", "1", "2", "3"):
        (tmp_path / name).mkdir()
        for file in (WEIGHTS, DESCRIPTION):
            (tmp_path / name / file).write_bytes((chain / name / file).read_bytes())
    save(lineage[1][0], tmp_path / "1")
    with pytest.raises(DamagedModel, match=rf"1.{DESCRIPTION}: has the sha256"):
        assembled(tmp_path, "2")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([WEIGHTS, DESCRIPTION]), st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
def test_a_torn_or_flipped_delta_is_refused_by_name(
    chain: Path, file: str, place: float, flip: int, tear: bool
) -> None:
    whole = (chain / "3" / file).read_bytes()
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= flip
    try:
        (chain / "3" / file).write_bytes(whole[: int(place * len(whole))] if tear else damaged)
        with pytest.raises(DamagedModel, match=file):
            load_delta(chain / "3")
    finally:
        (chain / "3" / file).write_bytes(whole)


def test_a_crash_while_a_delta_is_written_leaves_what_was_there(
    lineage: list[tuple[Model, TrainingResult | None]], chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta, parent = load_delta(chain / "1")
    save_delta(delta, tmp_path, parent=parent)
    before = {file: (tmp_path / file).read_bytes() for file in (WEIGHTS, DESCRIPTION)}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.os, "fsync", full)
    later, parent = load_delta(chain / "2")
    with pytest.raises(OSError, match="No space left"):
        save_delta(later, tmp_path, parent=parent)
    assert {file: (tmp_path / file).read_bytes() for file in before} == before


def test_a_delta_is_small_and_a_long_chain_wants_a_snapshot(chain: Path) -> None:
    parents = [Parent.of(chain / str(k), str(k)) for k in range(4)]
    assert [parent.deltas for parent in parents] == [0, 1, 2, 3]
    assert parents[3].delta_bytes == sum((chain / str(k) / WEIGHTS).stat().st_size for k in (1, 2, 3))
    assert {parent.snapshot_bytes for parent in parents} == {(chain / "0" / WEIGHTS).stat().st_size}
    assert not snapshot_due(parents[0])
    assert not snapshot_due(parents[2], max_deltas=3, max_bytes=100)
    assert snapshot_due(parents[3], max_deltas=3, max_bytes=100)
    assert snapshot_due(parents[3], max_bytes=1e-3)
