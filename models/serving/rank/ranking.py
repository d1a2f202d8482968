"""Rank the candidates of one request: features, scores, order, and the entry for the log."""

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from features.declare.families import Features
from models.examples import Examples
from models.serving.bodies import MOST_ITEMS, RankBody
from models.serving.durable.journal import Entry, Shown
from models.serving.follow.champions import Champion, Champions
from models.serving.follow.live_features import Knowledge
from models.serving.follow.retriever import Candidates
from models.serving.rank.views import Views

RETRIEVED = 200
"""Candidates retrieved to be ranked, where no more than that are to be shown."""

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


class NoTowers(LookupError):
    """A request names no candidates, and the model in service cannot retrieve any."""


class Ranker:
    """One surface. May be called by many threads."""

    def __init__(
        self,
        surface: str,
        declared: Features,
        champions: Champions,
        knowledge: Knowledge,
        candidates: Candidates,
        views: Views,
        clock: Callable[[], float],
    ) -> None:
        self.surface = surface
        self.declared = declared
        self.champions = champions
        self.knowledge = knowledge
        self.candidates = candidates
        self.views = views
        self._clock = clock

    def rank(self, body: RankBody) -> Ranked:
        """Score every candidate with the one model that is champion now, and order them; ties keep their order.
        Candidates that are not named are retrieved by the same model.

        The impressions count in the user's next request at once; the caller makes ``entry`` durable. Raises NoTowers.
        """
        now = self._clock()
        request_id = body.request_id or uuid.uuid4().hex
        champion = self.champions.current(self.surface)
        user, named = str(body.user_id), body.items
        behind = {"champion"} if champion and self.champions.behind(self.surface) else set()
        if named is None:
            named = self._retrieved(champion, user, body, now)
            if not named:
                version = champion.version if champion else NO_MODEL
                return Ranked(request_id, version, tuple(sorted({"retrieval", *behind})), (), Entry(self.surface), 0)
            if self.candidates.stale():
                behind.add("retrieval")
        items = [str(item) for item in named]
        read = self.knowledge.read(user, items, body.context, now)
        own, asked = self.views.read(user, items, body.context, now)
        degraded = {*read.degraded, *behind, *(() if asked else ("views",))}
        if champion is None:
            degraded.add("model")
            scores = np.full(len(items), self.declared.base_rate)
        else:
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
                item_id=named[place],
                score=float(scores[place]),
                position=position,
                impression_id=impression_id(self.surface, user, request_id, items[place]),
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
                    shown_at=round(now * 1e6),
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

    def _retrieved(self, champion: Champion | None, user: str, body: RankBody, now: float) -> list[str | int]:
        """Candidates for a request that names none, best first. Empty when nothing was clicked lately.

        New users too are served by the towers: with the session's clicks, and without any by what is popular in their
        context, they find more than plain popularity.
        """
        if champion is None or champion.retrieves is None:
            which = "no model" if champion is None else f"version {champion.version}, which ranks alone,"
            raise NoTowers(f"{which} serves {self.surface}: nothing retrieves candidates there, so name them")
        ids, history = self.knowledge.user(user, body.context, now)
        wanted = min(MOST_ITEMS, max(RETRIEVED, body.limit or 0))
        return [*self.candidates.of(champion.retrieves).candidates(ids, history, wanted)]


def impression_id(surface: str, user: str, request_id: str, item: str) -> str:
    """Names the surface, so that feedback need not, and is the same for a request that its user sends twice. Of fixed
    length: BLAKE2b (RFC 7693) of the three ids, each after its length, so that no two impressions meet in one."""
    digest = blake2b(digest_size=16)
    for part in (user, request_id, item):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"{surface}:{digest.hexdigest()}"


def surface_of(impression: str) -> str:
    """The surface an impression of ours names; some other text for one that came from elsewhere."""
    return impression.partition(":")[0]
