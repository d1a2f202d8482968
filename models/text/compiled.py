"""Encoders as one call each, by onnxruntime, for who makes vectors while others wait.

    vectors = queries_by(base, design, encoder, ["red sofa"])   # once ``models.text.compiling`` has prepared it

torch takes some three hundred calls for a query, and after each of them its thread waits for its turn among Python's
others: beside a single busy thread a query takes four times as long as by itself, and in int8 ten times. This is one
call, in which others run. Vectors differ from torch's by rounding alone.

A compiled encoder is shared by all versions and surfaces of its *form*: what updates moved goes in beside the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from models.tables.rows import Floats
from models.text.base_encoder import Base, Tokens, embed, encoded, padded
from models.text.encoder import Encoder
from models.text.text_design import EncoderPrecision, TextDesign

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TEXT_INPUTS = ("ids", "present")
"""Names of what goes in and is not an adapter's: [N, longest] each."""


@dataclass(frozen=True)
class Form:
    """What of a design a compiled encoder depends on."""

    precision: EncoderPrecision
    rank: int | None
    """Of the adapters; None: it has none."""

    @staticmethod
    def of(design: TextDesign) -> Form | None:
        """None: each version has weights of its own."""
        if design.adapt == "full":
            return None
        return Form(design.precision, design.rank if design.adapts else None)


class Compiled:
    """An encoder of one form. Any number of threads may call it."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._still: Mapping[str, Floats] = {
            put.name: np.zeros(put.shape, np.float32) for put in session.get_inputs() if put.name not in TEXT_INPUTS
        }
        """Adapters that change nothing."""

    @staticmethod
    def load(file: Path) -> Compiled:
        """Raises what onnxruntime does of a file that is none of its own."""
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return Compiled(onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]))

    def __call__(self, encoder: Encoder | None, tokens: Sequence[Tokens]) -> Tensor:
        """[N, width]: by an encoder of the form; None: as it comes."""
        beside = self._still if encoder is None else encoder.beside
        texts = {name: own.numpy() for name, own in zip(TEXT_INPUTS, padded(tokens), strict=True)}
        found: Any = self._session.run(None, {**texts, **beside})[0]
        vectors = torch.from_numpy(found)
        return vectors if encoder is None or encoder.head is None else encoder.turned(vectors)


_compiled = dict[tuple[str, Form], Compiled]()
"""By the base's identity."""


def queries_by(base: Base, design: TextDesign, encoder: Encoder | None, texts: Sequence[str]) -> Floats:
    """[N, width]: vectors of length 1 by an encoder of the design, None: by the base as it comes; by what is compiled
    where there is one."""
    form = Form.of(design)
    compiled = None if form is None else _compiled.get((base.identity, form))
    run: Callable[[Sequence[Tokens]], Tensor]
    if compiled is not None:
        run = partial(compiled, encoder)
    else:
        run = partial(embed, base.at(design.precision)) if encoder is None else encoder
    return encoded(run, base.tokens(texts), base.width)


def is_compiled(base: Base, form: Form) -> bool:
    """Whether this process has it."""
    return (base.identity, form) in _compiled


def put(base: Base, form: Form, compiled: Compiled) -> None:
    """Have vectors of this form made by it from here on."""
    _compiled[base.identity, form] = compiled
