"""The pretrained encoder as it comes. One process has one of each name, whatever number of surfaces use it.

base = base_of("all-MiniLM-L6-v2")                         # models.text.pretrained
vectors = base.encode(["angle bracket", "deck over"])       # float32 [2, 384]
base.identity                                               # the version of its vectors

A text's vector is the mean of the last layer over its tokens, at length 1 (Reimers & Gurevych 2019), so that a product
of two is their cosine. The same texts in one call give the same bits; beside other texts they may differ by rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tables.rows import Floats
from models.tensors import one_thread
from models.text.int8 import in_int8
from models.text.text_design import EncoderPrecision

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_TOKENS = 256
"""Tokens of a text that are read."""

BATCH = 32
"""Texts encoded at once, of like length."""

Tokens = list[int]


class Base:
    """An encoder's frozen weights, with its tokenizer."""

    def __init__(self, name: str, transformer: nn.Module, tokenizer: Tokenizer) -> None:
        self.name, self.transformer, self.tokenizer = name, transformer, tokenizer
        tokenizer.enable_truncation(MAX_TOKENS)
        self.width = int(transformer.config.hidden_size)  # type: ignore[union-attr, arg-type]
        """Of a vector."""
        self.identity = identity_of(transformer, tokenizer)
        """Checksum of all that its vectors depend on: weights, tokenizer, how it pools."""

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Of each text, with the marks that the encoder expects around it."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]

    def encode(self, texts: Sequence[str], precision: EncoderPrecision = "float32") -> Floats:
        """[N, width]: the vector of each text."""
        return encoded(partial(embed, self.at(precision)), self.tokens(texts), self.width)

    def at(self, precision: EncoderPrecision) -> nn.Module:
        """Its transformer, for inference."""
        return self.transformer if precision == "float32" else self._in_int8

    @cached_property
    def _in_int8(self) -> nn.Module:
        return in_int8(self.transformer)


def identity_of(transformer: nn.Module, tokenizer: Tokenizer) -> str:
    """The sha256 of weights, tokenizer and pooling."""
    digest = hashlib.sha256(f"mean of {MAX_TOKENS} tokens at most, length 1\n{tokenizer.to_str()}\n".encode())
    for name, weights in sorted(transformer.state_dict().items()):
        digest.update(f"{name} {weights.dtype} {tuple(weights.shape)}\n".encode())
        digest.update(np.ascontiguousarray(weights.numpy()).data)
    return digest.hexdigest()


def encoded(encoder: Callable[[Sequence[Tokens]], Tensor], tokens: Sequence[Tokens], width: int) -> Floats:
    """[N, width]: what the encoder makes of these, in batches of like length, without gradients."""
    vectors = np.zeros((len(tokens), width), np.float32)
    order = np.argsort([len(own) for own in tokens], kind="stable")
    with one_thread(), torch.inference_mode():
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            vectors[rows] = encoder([tokens[row] for row in rows]).numpy()
    return vectors


def embed(transformer: nn.Module, tokens: Sequence[Tokens]) -> Tensor:
    """[N, width]: the vector of each text."""
    ids, present = padded(tokens)
    device = next(transformer.parameters()).device
    return pooled(transformer, ids.to(device), present.to(device))


def padded(tokens: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
    """[N, longest]: the tokens of each text, and which of them are its own."""
    longest = max(map(len, tokens))
    ids = torch.tensor([[*own, *[0] * (longest - len(own))] for own in tokens])
    lengths = torch.tensor([len(own) for own in tokens])
    return ids, torch.arange(longest) < lengths[:, None]


def pooled(transformer: nn.Module, ids: Tensor, present: Tensor) -> Tensor:
    """[N, width]: the mean over each text's tokens of the transformer's last layer, at length 1."""
    hidden = transformer(input_ids=ids, attention_mask=present.long()).last_hidden_state
    mean = (hidden * present[..., None]).sum(1) / present.sum(1, keepdim=True)
    return functional.normalize(mean, dim=1)
