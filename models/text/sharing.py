"""Copies of a network's modules around the same weights: what is put into one is not in the other."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def around(module: M) -> M:
    """A copy of the modules, with the same memory for all their weights."""
    memo: dict[int, Any] = {id(own): own for own in module.buffers()}
    memo |= {id(own): nn.Parameter(own.detach(), own.requires_grad) for own in module.parameters()}
    return deepcopy(module, memo)


def replaced(module: nn.Module, others: Mapping[str, nn.Module]) -> nn.Module:
    """The module itself, with others in place of those of these names."""
    for name, other in others.items():
        parent, _, own = name.rpartition(".")
        setattr(module.get_submodule(parent), own, other)
    return module
