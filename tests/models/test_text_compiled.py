"""A compiled encoder: the same vectors in one call, made once an installation, and of no use where it is not whole."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.tables.rows import Floats
from models.text import compiled
from models.text.adapted import Adapted
from models.text.base_encoder import Base
from models.text.compiled import Form, is_compiled, queries_by
from models.text.compiling import FILE, KEPT, NotCompiled, file_of, prepare
from models.text.pretrained import base_of
from models.text.text_design import Adapt, EncoderPrecision, TextDesign
from tests.worlds.encoders import WORDS, write_encoder

TEXTS = ["deck", "red paint brush", "small white lamp bulb oak floor", "nothing of these", " ".join(WORDS * 20)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return base_of(write_encoder(tmp_path_factory.mktemp("encoder"), seed=5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a process has compiled it has for good: another test is another process."""
    before = dict(compiled._compiled)
    yield
    compiled._compiled.clear()
    compiled._compiled.update(before)


def design_of(base: Base, adapt: Adapt, precision: EncoderPrecision = "float32") -> TextDesign:
    return TextDesign("query", "item", base.name, adapt, precision, rank=4)


def moved(base: Base, design: TextDesign) -> Adapted:
    """As by many updates."""
    random = np.random.default_rng(0)
    arrays = {
        name: array + random.normal(0, 0.05, array.shape).astype(np.float32)
        for name, array in Adapted.new(design, base, seed=0).arrays().items()
    }
    return Adapted.of(design, arrays, 1)


def ready(base: Base, design: TextDesign, folder: Path) -> Form:
    form = Form.of(design)
    assert form is not None
    prepare(base, form, folder, threading.Event())
    assert is_compiled(base, form)
    return form


def as_it_comes(base: Base, design: TextDesign) -> Floats:
    return queries_by(base, design, None, TEXTS)


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
def test_it_makes_the_vectors_of_torch_whatever_updates_moved(
    base: Base, folder: Path, precision: EncoderPrecision
) -> None:
    design = design_of(base, "query", precision)
    adapted = moved(base, design)
    by_torch, plain = adapted.queries(base, TEXTS), as_it_comes(base, design)
    ready(base, design, folder)
    found = adapted.queries(base, TEXTS)
    if precision == "float32":
        np.testing.assert_allclose(found, by_torch, atol=1e-6)
        np.testing.assert_allclose(as_it_comes(base, design), plain, atol=1e-6)
    assert (np.einsum("nw,nw->n", found, by_torch) > 0.99).all()
    assert (np.einsum("nw,nw->n", found, plain) < 0.99).any(), "the adapters count"
    assert (found == adapted.queries(base, TEXTS)).all()
    alone = np.concatenate([adapted.queries(base, [text]) for text in TEXTS])
    assert (np.einsum("nw,nw->n", found, alone) > 0.99).all(), "whatever stands beside it"


def test_versions_and_surfaces_of_a_form_share_one(base: Base, folder: Path) -> None:
    design = design_of(base, "query")
    form = ready(base, design, folder)
    one = compiled._compiled[base.identity, form]
    ready(base, replace(design, rate=0.5, adapt="both"), folder)
    assert compiled._compiled[base.identity, form] is one
    assert Form.of(replace(design, rank=2)) != form
    assert Form.of(replace(design, adapt="full")) is None, "whose weights are each version's own"


@pytest.mark.slow
def test_a_head_turns_what_it_makes(base: Base, folder: Path) -> None:
    design = design_of(base, "head")
    adapted = moved(base, design)
    by_torch = adapted.queries(base, TEXTS)
    ready(base, design, folder)
    np.testing.assert_allclose(adapted.queries(base, TEXTS), by_torch, atol=1e-6)


def test_another_process_finds_what_was_made_before(base: Base, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    design = design_of(base, "query")
    form = ready(base, design, folder)
    made = file_of(base, form, folder).stat().st_mtime_ns
    compiled._compiled.clear()
    monkeypatch.setattr("subprocess.Popen", None)  # whoever began a process would fail
    ready(base, design, folder)
    assert file_of(base, form, folder).stat().st_mtime_ns == made
    assert {path.name for path in folder.iterdir()} >= {"lock", file_of(base, form, folder).parent.name}
    assert not list(folder.glob("part-*")), "nothing half made is left"


def test_a_file_that_is_not_whole_is_refused_and_made_anew(base: Base, tmp_path: Path, folder: Path) -> None:
    design = design_of(base, "query")
    whole = file_of(base, ready(base, design, folder), folder)
    compiled._compiled.clear()
    form = Form("float32", 4)
    broken = file_of(base, form, tmp_path)
    broken.parent.mkdir()
    broken.write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(NotCompiled, match="of no use"):
        prepare(base, form, tmp_path, threading.Event())
    assert not is_compiled(base, form)
    assert not broken.exists(), "the next start makes it anew"


@pytest.mark.slow
def test_what_a_killed_process_left_is_taken_away_and_those_used_long_ago(base: Base, tmp_path: Path) -> None:
    (tmp_path / "part-killed").mkdir()
    (tmp_path / "part-killed" / "encoder.onnx.data").write_bytes(b"half of it")
    former = [tmp_path / f"former-{number}" for number in range(KEPT)]
    for used, folder in enumerate(former, 1):
        folder.mkdir()
        (folder / FILE).write_bytes(b"by another version")
        os.utime(folder, (used, used))
    form = ready(base, design_of(base, "nothing"), tmp_path)
    assert not list(tmp_path.glob("part-*"))
    assert {path.parent for path in tmp_path.glob(f"*/{FILE}")} == {*former[1:], file_of(base, form, tmp_path).parent}


def test_one_that_makes_other_vectors_is_refused(base: Base, folder: Path, tmp_path: Path) -> None:
    design = design_of(base, "query")
    of_base = file_of(base, ready(base, design, folder), folder).parent
    other = base_of(write_encoder(tmp_path / "other", seed=6))
    of_base.rename(file_of(other, Form("float32", 4), folder).parent)
    with pytest.raises(NotCompiled, match="cosines"):
        prepare(other, Form("float32", 4), folder, threading.Event())
    assert not is_compiled(other, Form("float32", 4))


def test_what_cannot_be_compiled_says_why(base: Base, tmp_path: Path) -> None:
    gone = Base(str(tmp_path / "gone"), base.transformer, base.tokenizer)
    with pytest.raises(NotCompiled, match="there is no encoder"):
        prepare(gone, Form("float32", 4), tmp_path / "folder", threading.Event())
    stopping = threading.Event()
    stopping.set()
    prepare(base, Form("float32", 3), tmp_path / "folder", stopping)
    assert not is_compiled(base, Form("float32", 3)), "who stops waits for nothing"
