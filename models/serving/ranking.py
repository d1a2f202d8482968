"""Rank the candidates of one request: features, scores, order, and the entry for the log."""

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from features.families import Features
from models.examples import Examples
from models.serving.bodies import RankBody
from models.serving.champions import Champions
from models.serving.journal import Entry, Shown
from models.serving.knowledge import Knowledge
from models.serving.views import Views

NO_MODEL = "none"
"""Model version of a response that no model ranked: the candidates in the order they came."""


@dataclass(frozen=True)
class RankedItem:
    """One item of a response, in its place."""

    item_id: str | int
    score: float
    position: int
    impression_id: str
    propensity: float


@dataclass(frozen=True)
class Ranked:
    """A response, and what of it goes to the log."""

    request_id: str
    model_version: str
    degraded: tuple[str, ...]
    items: tuple[RankedItem, ...]
    entry: Entry
    scored: int


class Ranker:
    """One surface. May be called by many threads."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        champions: Champions,
        knowledge: Knowledge,
        views: Views,
        clock: Callable[[], float],
    ) -> None:
        self.surface = surface
        self.declared = declared
        self.champions = champions
        self.knowledge = knowledge
        self.views = views
        self._clock = clock

    def rank(self, body: RankBody) -> Ranked:
        """Score every candidate with the one model that is champion now, and order them; ties keep their order.

        The impressions count in the user's next request at once; the caller makes ``entry`` durable.
        """
        now = self._clock()
        request_id = body.request_id or uuid.uuid4().hex
        user, items = str(body.user_id), [str(item) for item in body.items]
        champion = self.champions.current(self.surface)
        read = self.knowledge.read(user, items, body.context, now)
        own, asked = self.views.read(user, items, body.context, now)
        degraded = {*read.degraded, *(() if asked else ("views",))}
        if champion is None:
            degraded.add("model")
            scores = np.full(len(items), self.declared.base_rate)
        else:
            if self.champions.behind():
                degraded.add("champion")
            scores = champion.model.score(
                Examples(
                    dense=np.concatenate([read.dense.astype(np.float32), own], axis=1),
                    ids=read.ids,
                    history=read.history,
                    label=np.zeros(len(items), np.float32),
                    request=np.zeros(len(items), np.int64),
                    time=np.full(len(items), now),
                )
            )
        version = champion.version if champion else NO_MODEL
        order = np.argsort(-scores, kind="stable")[: body.limit]
        ids = read.ids[order]
        shown = tuple(
            RankedItem(
                item_id=body.items[place],
                score=float(scores[place]),
                position=position,
                impression_id=impression_id(self.surface, request_id, items[place]),
                propensity=1.0,
            )
            for position, place in enumerate(order.tolist())
        )
        rows = self.declared.schema.pack(read.dense[order], ids, read.history[order])
        context = json.dumps(body.context)
        entry = Entry(
            self.surface,
            shown=tuple(
                Shown(
                    impression_id=one.impression_id,
                    request_id=request_id,
                    user_id=user,
                    item_id=str(one.item_id),
                    position=one.position,
                    shown_at=int(now * 1e6),
                    model_version=version,
                    propensity=one.propensity,
                    read_tick=read.tick,
                    context=context,
                    schema_version=self.declared.schema.version,
                    row=base64.b64encode(row).decode(),
                )
                for one, row in zip(shown, rows, strict=True)
            ),
        )
        self.knowledge.show([one.impression_id for one in shown], ids, now)
        return Ranked(request_id, version, tuple(sorted(degraded)), shown, entry, len(items))


def impression_id(surface: str, request_id: str, item: str) -> str:
    """Names the surface, so that feedback need not; and the same for a request that is sent twice."""
    return f"{surface}:{request_id}:{item}"


def surface_of(impression: str) -> str:
    """The surface an impression of ours names; some other text for one that came from elsewhere."""
    return impression.partition(":")[0]
