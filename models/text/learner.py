"""Training a text encoder on a window: clicks in batches, each against what was not clicked instead.

adapted, training = fine_tune(adapted, base, pairs, seed=0)

AdamW with a rate that rises and then falls to 0; gradients of bounded norm. Queries are held out, other ones in each
update, and the epoch is kept that predicts them best: what does not help queries that were not trained on is not kept.
On a CPU the same encoder, pairs and seed give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tables.rows import Floats
from models.tensors import one_thread, tensor
from models.text.adapted import Adapted
from models.text.base_encoder import Base, Tokens
from models.text.batches import ClickBatch, Clicks, batches
from models.text.encoder import Encoder, encoder_of
from models.text.pairs import Codes, TextPairs
from models.text.text_design import TextDesign

FEWEST_HELD_OUT = 32
"""Clicks held out, below which they say too little: then one epoch is trained, and its end is kept."""

CHUNK = 16
"""Texts embedded at once, of like length."""


@dataclass(frozen=True)
class TextTraining:
    """What one call of :func:`fine_tune` did."""

    pairs: int
    """Clicks trained on, each counted once."""

    held_out: int
    """Clicks held out; 0 where there were too few, and the losses are those of the clicks trained on."""

    steps: int
    """Batches."""

    kept: int
    """Of these batches, how many the encoder that is kept was trained on."""

    loss_before: float
    """Mean cross-entropy of a click, weighted by its label; NaN where there was none."""

    loss_after: float


def fine_tune(
    adapted: Adapted, base: Base, pairs: TextPairs, *, seed: int, device: str | None = None
) -> tuple[Adapted, TextTraining]:
    """The encoder after training on these pairs. ``adapted`` and ``base`` stay as they were.

    ``device`` is named as torch does; by default it is a GPU where there is one.
    """
    design, salt = adapted.design, seed + adapted.steps
    clicks = Clicks.of(pairs, design.passed_over)
    trained, held_out = clicks.split(pairs, design.held_out, salt)
    few = len(held_out) < FEWEST_HELD_OUT
    trained, held_out, epochs = (clicks, clicks, 1) if few else (trained, held_out, design.epochs)
    if design.adapt == "nothing" or not len(trained):
        return adapted, TextTraining(0, 0, 0, 0, float("nan"), float("nan"))
    with one_thread():
        learner = Learner.of(adapted, base, pairs, device)
        check = list(batches(pairs, held_out, design, np.random.default_rng(salt)))
        losses, best, kept = [learner.mean_loss(check)], adapted.arrays(), 0
        random = np.random.default_rng([seed, adapted.steps])
        requests = len(np.unique(pairs.request[trained.rows]))
        rates = schedule(design, epochs * -(-requests // design.batch))
        for _ in range(epochs):
            for batch in batches(pairs, trained, design, random):
                learner.step(batch, next(rates))
            losses.append(learner.mean_loss(check))
            if not (few or losses[-1] < min(losses[:-1])):
                break
            best, kept = learner.arrays(), learner.steps
    tuned = Adapted(design, best, adapted.steps + kept) if kept else adapted
    after = losses[-1] if few else min(losses)
    return tuned, TextTraining(len(trained), 0 if few else len(held_out), learner.steps, kept, losses[0], after)


def schedule(design: TextDesign, steps: int) -> Iterator[float]:
    """The rate of each step."""
    rising = max(1, round(design.warm_up * steps))
    for step in range(steps):
        yield design.highest_rate * min((step + 1) / rising, (steps - step) / (steps - rising + 1))


class Learner:
    """An encoder in training, with its optimiser and the window's texts."""

    def __init__(
        self,
        encoder: Encoder,
        design: TextDesign,
        queries: Sequence[Tokens] | Tensor,
        items: Sequence[Tokens] | Tensor,
    ) -> None:
        """``queries`` and ``items``: those of the window, as tokens, or where these do not change as vectors of the
        base."""
        self.encoder, self.design, self.queries, self.items, self.steps = encoder, design, queries, items, 0
        decay = 0.0 if design.adapts else design.weight_decay
        self.parameters = list(encoder.moved.values())
        self.optimiser = torch.optim.AdamW(self.parameters, design.highest_rate, weight_decay=decay)

    @staticmethod
    def of(adapted: Adapted, base: Base, pairs: TextPairs, device: str | None) -> Learner:
        """On that device, with copies of what is moved."""
        on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        design = adapted.design
        encoder = encoder_of(design, base).fill({name: array.copy() for name, array in adapted.moved.items()})
        encoder = encoder if on.type == "cpu" else encoder.to(on)
        queries: Tensor | list[Tokens] = base.tokens(pairs.queries)
        if design.adapt == "head":
            queries = tensor(base.encode(pairs.queries, design.precision)).to(on)
        if design.moves_items:
            return Learner(encoder, design, queries, base.tokens(pairs.items))
        vectors = base.encode(pairs.items) if pairs.vectors is None else pairs.vectors
        return Learner(encoder, design, queries, tensor(vectors).to(on))

    def loss(self, batch: ClickBatch) -> Tensor:
        """Mean of -log softmax(u . v / temperature) over the clicks, weighted by their labels."""
        queries = self.vectors(self.queries, batch.queries, turned=self.design.adapt == "head")
        items = self.vectors(self.items, batch.items)
        logit = (queries @ items.T)[batch.query] / self.design.temperature
        device = logit.device
        logit = logit.masked_fill(~tensor(batch.compared).to(device), float("-inf"))
        losses = functional.cross_entropy(logit, tensor(batch.target).to(device), reduction="none")
        weight = tensor(batch.weight).to(device)
        return (losses * weight).sum() / weight.sum()

    def vectors(self, texts: Sequence[Tokens] | Tensor, chosen: Codes, *, turned: bool = False) -> Tensor:
        """[n, width]: of the ``chosen`` texts, in chunks of like length; vectors of the base ``turned`` by the head."""
        if isinstance(texts, Tensor):
            known = texts[torch.from_numpy(chosen).to(texts.device)]
            return self.encoder.turned(known) if turned else known
        tokens = [texts[code] for code in chosen.tolist()]
        order = np.argsort([len(own) for own in tokens], kind="stable")
        chunks = [order[first : first + CHUNK].tolist() for first in range(0, len(order), CHUNK)]
        embedded = torch.cat([self.encoder([tokens[row] for row in rows]) for rows in chunks])
        return embedded[torch.from_numpy(np.argsort(order)).to(embedded.device)]

    def step(self, batch: ClickBatch, rate: float) -> None:
        """One step along the batch's gradient."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        self.loss(batch).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, self.design.clip)
        self.optimiser.step()
        self.steps += 1

    def mean_loss(self, check: Sequence[ClickBatch]) -> float:
        """Over all clicks of these batches."""
        with torch.no_grad():
            return float(np.average([self.loss(b).item() for b in check], weights=[b.weight.sum() for b in check]))

    def arrays(self) -> dict[str, Floats]:
        """What is moved, copied."""
        return {name: weights.detach().cpu().numpy().copy() for name, weights in self.encoder.moved.items()}
