"""Compiling encoders for onnxruntime: once an installation, by a process of its own, which takes 20 seconds of Python.

    prepare(base, Form.of(design), folder, stopping)      # from here on ``models.text.compiled`` has it
    python -m models.text.compiling ENCODER float32|int8 FOLDER [--rank N]

An encoder is exported from torch and kept in a folder, by all that it depends on. One that cannot be exported, or that
makes other vectors, is not used: torch goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from infra.errors import MillraceError
from models.text.adapters import beside_of
from models.text.base_encoder import MAX_TOKENS, Base, embed, padded, pooled
from models.text.compiled import TEXT_INPUTS, Compiled, Form, is_compiled, put
from models.text.encoder import Encoder, unmoved
from models.text.inference import for_inference
from models.text.pretrained import base_of
from models.text.text_design import EncoderPrecision, TextDesign

FILE = "encoder.onnx"

PART = "part-"
"""How the names begin of what is not whole yet."""

COMPILES = ("onnx", "onnxscript", "onnxruntime")
"""Packages that compile, and run what is compiled."""

MADE_BY = ("torch", "transformers", *COMPILES)
"""Packages on whose versions a compiled encoder depends."""

KEPT = 8
"""Compiled encoders that a folder keeps, those used last: others were of former versions of these packages."""

PATIENCE_S, LOOKS_S = 600.0, 0.1
"""How long the process that compiles may take, and how often it is looked whether it is done."""

PROBE = ("a", "steel angle bracket, 2 inch (pack of 10)")
"""What a compiled encoder must make the same vectors of as the one that it comes from, ..."""

LEAST_COSINE = 0.99
"""... by their cosine. In int8 what differs in the last place may round the other way, which moves a vector as far as
int8 itself does."""

MOST_SAID = 500
"""Characters of why one could not be compiled."""

POLITELY = 10
"""More nice than what answers requests."""


class NotCompiled(MillraceError):
    """An encoder could not be compiled."""


def prepare(base: Base, form: Form, folder: Path, stopping: threading.Event) -> None:
    """Have vectors of this form made by a compiled encoder from here on; the folder keeps it. Returns early once
    ``stopping`` is set. Raises NotCompiled."""
    if is_compiled(base, form):
        return
    file = file_of(base, form, folder)
    if not file.exists():
        compile_aside(base, form, folder, stopping)
    if stopping.is_set():
        return
    try:
        compiled = Compiled.load(file)
        expect_alike(base, form, compiled)
    except Exception as error:  # what onnxruntime has to say of a file may be anything
        shutil.rmtree(file.parent, ignore_errors=True)  # the next start makes it anew
        raise NotCompiled(f"the compiled encoder {base.name} is of no use: {error}") from error
    put(base, form, compiled)
    with contextlib.suppress(OSError):
        os.utime(file.parent)  # used last


def file_of(base: Base, form: Form, folder: Path) -> Path:
    """Where the encoder of this form is kept."""
    parts = [base.identity, str(form), *(f"{name} {version(name)}" for name in MADE_BY)]
    return folder / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32] / FILE


def compile_aside(base: Base, form: Form, folder: Path, stopping: threading.Event) -> None:
    """Return when it is there, or once ``stopping`` is set. Raises NotCompiled."""
    rank = [] if form.rank is None else ["--rank", str(form.rank)]
    command = [sys.executable, "-m", "models.text.compiling", base.name, form.precision, str(folder), *rank]
    until = time.monotonic() + PATIENCE_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                _, said = process.communicate(timeout=LOOKS_S)
                break
            except subprocess.TimeoutExpired:
                if stopping.is_set() or time.monotonic() > until:
                    process.kill()
    if process.returncode and not stopping.is_set():
        last = (said.strip() or f"it ended with {process.returncode}").splitlines()[-1]
        raise NotCompiled(f"encoder {base.name} could not be compiled: {last}")


def expect_alike(base: Base, form: Form, compiled: Compiled) -> None:
    """Raises ValueError where its vectors are not the encoder's."""
    tokens = base.tokens(PROBE)
    with torch.inference_mode():
        cosines = (embed(base.at(form.precision), tokens) * compiled(None, tokens)).sum(1)
    if not (cosines > LEAST_COSINE).all():
        raise ValueError(f"its vectors have cosines of {cosines.tolist()} with those of the encoder")


# --- in the process of its own --------------------------------------------------------------------------------------


class Pooled(nn.Module):
    """A transformer from tokens to vectors."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        return pooled(self.transformer, ids, present)


class Exported(nn.Module):
    """The same, whose adapters are inputs."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.pooled = Pooled(encoder.transformer)
        self.names = [*beside_of(self.pooled)]

    def forward(self, ids: Tensor, present: Tensor, beside: Sequence[Tensor]) -> Tensor:
        found: Tensor = functional_call(self.pooled, dict(zip(self.names, beside, strict=True)), (ids, present))
        return found


def compile_encoder(base: Base, form: Form, folder: Path) -> None:
    """Put it into the folder, whole, unless another process has."""
    file = file_of(base, form, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists():
            return
        for left in folder.glob(f"{PART}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=PART, dir=folder))
        try:
            export(base, form, part / FILE)
            shutil.rmtree(file.parent, ignore_errors=True)
            part.rename(file.parent)
            made = sorted(folder.glob(f"*/{FILE}"), key=lambda each: each.parent.stat().st_mtime)
            for former in made[:-KEPT]:
                shutil.rmtree(former.parent, ignore_errors=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def export(base: Base, form: Form, file: Path) -> None:
    """Write it."""
    if form.rank is None:
        encoder = Encoder(base.at(form.precision))
    else:
        design = TextDesign("query", "item", precision=form.precision, rank=form.rank)
        encoder = for_inference(design, base, unmoved(design, base, seed=0))
    beside = encoder.beside
    ids, present = padded(base.tokens(PROBE))
    texts, length = torch.export.Dim("texts"), torch.export.Dim("length", max=MAX_TOKENS)
    torch.onnx.export(
        Exported(encoder).eval(),
        (ids, present, [torch.from_numpy(array) for array in beside.values()]),
        str(file),
        input_names=[*TEXT_INPUTS, *beside],
        dynamic_shapes=({0: texts, 1: length}, {0: texts, 1: length}, [{} for _ in beside]),
        custom_translation_table={torch.ops.aten._int_mm.default: int8_product},
        external_data=True,
        dynamo=True,
        verbose=False,
    )


def int8_product(rows: Any, weights: Any) -> Any:
    """A product of matrices in int8, exact everywhere: both go in as numbers from 0 to 255 beside a zero of 128, since
    what multiplies those from 0 to 255 by those from -128 to 127 cuts sums off on processors without VNNI."""
    from onnxscript import opset18

    op: Any = opset18  # its annotations are those of a graph's values, which these are not yet
    zero = op.Cast(op.Constant(value_int=128), to=UINT8)
    return op.MatMulInteger(
        op.BitwiseXor(op.Cast(rows, to=UINT8), zero), op.BitwiseXor(op.Cast(weights, to=UINT8), zero), zero, zero
    )


UINT8 = 2
"""ONNX's number of the type."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.text.compiling", description="Compile a text encoder.")
    parser.add_argument("encoder", metavar="ENCODER")
    parser.add_argument("precision", choices=get_args(EncoderPrecision))
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rank", type=int, metavar="N", help="of adapters that it takes beside the text")
    given = parser.parse_args()
    os.nice(POLITELY)
    torch.set_num_threads(1)
    try:
        base = base_of(given.encoder, wanted_by="what compiles it")
        compile_encoder(base, Form(given.precision, given.rank), given.folder)
    except Exception as error:  # what an exporter has to say of an encoder may be anything
        causes = [type(each).__name__ + ": " + str(each) for each in (error, error.__cause__) if each is not None]
        parser.exit(1, " ".join(" ".join(causes).split())[:MOST_SAID] + "\n")


if __name__ == "__main__":
    main()
