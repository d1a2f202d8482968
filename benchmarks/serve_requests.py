"""The requests of the bench of serving, encoded before anything is timed, and what became of those that were answered.

requests = OurRequests(made, seed=0)
load = await closed_loop(made.server, requests.ranking(200), ...)
requests.expect(load)
requests.impressions_missing(made.stored(requests.prefix))
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from benchmarks.serve_client import Load, Post, Server
from benchmarks.serve_installation import SURFACE, Installation, Stored
from benchmarks.serve_peers import MLFLOW, NUMBERS, PATHS, Peer

BODIES = 64
"""Different requests of a number of candidates; they are sent in turns."""

CLICK = "click"


@dataclass(frozen=True)
class Template:
    """A request but for its name, which has as many letters in each."""

    before: bytes
    after: bytes


class OurRequests:
    """Requests to serving, each with an id of its own, and what of them was answered with 2xx."""

    prefix = "bench-"

    def __init__(self, made: Installation, seed: int) -> None:
        self._server = made.server
        self._readers, self._items = made.readers(), made.newest_items()
        self._draw = np.random.default_rng(seed)
        self._begun = made.place()
        self._numbers = count()
        self._ranked: dict[str, int] = {}
        """Candidates of the requests that were answered, by request."""
        self._given: set[str] = set()
        """Impressions whose feedback was answered."""
        self._in_batch: dict[str, list[str]] = {}

    def ranking(self, candidates: int, shown: int | None = None) -> Iterator[Post]:
        """Requests without end: a reader of the log, and items of its last days, so many of which are to be shown."""
        return self._posts([self._template(candidates, shown) for _ in range(BODIES)], shown or candidates)

    def recommending(self, shown: int) -> Iterator[Post]:
        """Requests without end that name no candidates, to be shown so many."""
        return self._posts([self._recommend_template(shown) for _ in range(BODIES)], shown)

    def _posts(self, templates: Sequence[Template], events: int) -> Iterator[Post]:
        for number in self._numbers:
            name = self._name(number)
            template = templates[number % BODIES]
            yield Post(name, events, template.before + name.encode() + template.after)

    def feedback(self, impressions: Sequence[str], batch: int) -> Iterator[Post]:
        """A click on each of the impressions, so many to a request."""
        posts = []
        for first in range(0, len(impressions), batch):
            ids, name = impressions[first : first + batch], self._name(next(self._numbers))
            self._in_batch[name] = list(ids)
            body = {"events": [{"impression_id": one, "kind": CLICK} for one in ids]}
            posts.append(Post(name, len(ids), self._server.post("/v1/feedback", json.dumps(body).encode())))
        return iter(posts)

    def expect(self, load: Load) -> None:
        """From now on the log must have what these answers took."""
        for answer in load.taken:
            if answer.name in self._in_batch:
                self._given.update(self._in_batch[answer.name])
            else:
                self._ranked[answer.name] = answer.events

    @property
    def impressions(self) -> int:
        """That the log must have."""
        return sum(self._ranked.values())

    @property
    def clicks(self) -> int:
        """That the log must have."""
        return len(self._given)

    @property
    def place(self) -> int:
        """Of the log, once it has all of this."""
        return self._begun + self.impressions + self.clicks

    def impressions_stored(self, stored: Stored) -> int:
        """How many of them it has exactly once: those of requests that are there with each candidate and no more."""
        return sum(
            candidates
            for request, candidates in self._ranked.items()
            if stored.impressions.get(request) == (candidates, candidates)
        )

    def clicks_stored(self, stored: Stored) -> int:
        """How many of them it has exactly once."""
        return sum(stored.feedback.get((impression, CLICK)) == 1 for impression in self._given)

    def _name(self, number: int) -> str:
        return f"{self.prefix}{number:09d}"

    def _template(self, candidates: int, shown: int | None) -> Template:
        user, context = self._readers[int(self._draw.integers(len(self._readers)))]
        items = [self._items[place] for place in self._draw.permutation(len(self._items))[:candidates].tolist()]
        return self._of("rank", {"user_id": user, "context": context, "items": items, "limit": shown})

    def _recommend_template(self, shown: int) -> Template:
        user, context = self._readers[int(self._draw.integers(len(self._readers)))]
        return self._of("recommend", {"user_id": user, "context": context, "limit": shown})

    def _of(self, route: str, body: Mapping[str, object]) -> Template:
        sent = json.dumps({"request_id": self._name(0), **body}).encode()
        before, after = self._server.post(f"/v1/{SURFACE}/{route}", sent).split(self._name(0).encode())
        return Template(before, after)


def impressions_of(load: Load) -> list[str]:
    """The ids of the impressions that were ranked, of answers that were kept."""
    return [item["impression_id"] for answer in load.taken for item in json.loads(answer.body)["items"]]


def peer_requests(peer: Peer, candidates: int, seed: int) -> Iterator[Post]:
    """Requests without end to a peer, which bring the numbers of each candidate."""
    draw = np.random.default_rng(seed)
    sent = [peer_request(peer.name, peer.server, draw.normal(size=(candidates, NUMBERS))) for _ in range(BODIES)]

    def posts() -> Iterator[Post]:
        for number in count():
            yield Post("", candidates, sent[number % BODIES])

    return posts()


def peer_request(name: str, server: Server, numbers: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> bytes:
    """One request; of numbers [candidates, NUMBERS], rounded as a service would send them."""
    rows: Sequence[Sequence[float]] = numbers.round(4).tolist()
    body: dict[str, object]
    if name == MLFLOW:
        body = {"inputs": rows}
    else:
        items = [{"id": f"a{place:07d}", "numbers": row} for place, row in enumerate(rows)]
        body = {"user_id": "u1", "items": items}
    return server.post(PATHS[name], json.dumps(body).encode())
