"""What goes into the last layer of a ranker's network: h, of which its logits are linear.

    logits = ... + W h         W: the last layer's weights;  h = [x_L ; d_M ; 1], or [z ; 1] of logistic regression

It is ``models.networks.deep_cross`` in plain steps, for a pass without gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.networks.rankers import Cross, Logistic, Ranker
from models.tables.lookup import lookup


def last_hidden(network: Ranker, dense: Tensor, ids: Tensor, history: Tensor, table: Tensor) -> Tensor:
    """h [B, H] of some impressions, in float32."""
    ones = dense.new_ones(len(dense), 1)
    if isinstance(network, Logistic):
        return torch.cat([network.numbers(dense), ones], dim=1)
    if not isinstance(network, Cross):
        return ones
    embeddings = table[:, network.kinds :]
    e = lookup(embeddings, ids).flatten(1)
    x0 = torch.cat([network.numbers(dense), e, *network.of_history(ids, history, embeddings)], dim=1)
    x = x0
    for layer in network.cross:
        x = torch.addcmul(x, x0, layer(x))
    parts = [x]
    if len(network.deep):
        d = x0
        for layer in network.deep:
            d = layer(d).relu()
        parts.append(d)
    return torch.cat([*parts, ones], dim=1)


def hidden_width(network: Ranker) -> int:
    """H."""
    if isinstance(network, Cross):
        return network.out.in_features + 1
    return network.weight.shape[1] + 1 if isinstance(network, Logistic) else 1
