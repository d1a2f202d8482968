"""Surfaces drawn at random, and logs of them: whatever a team may declare, from a seed."""

import json
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import polars as pl

from features.declare.columns import Column, Id, Number, Owner, Tags, Text
from features.declare.families import ACTIVITY, DAY, HOUR, MINUTE, PAUSE, STAGE, Family, Recent, last
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.standard import standard
from features.log.reading import EVENT

START = 1_760_000_000.0
WORDS = ("red", "Blue", "grün", "a.b", "7", "", "it's", "{x}", "\\", "ü" * 40)
KINDS = ("click", "cart", "purchase", "rating")
LIVES = (MINUTE, 15 * MINUTE, HOUR, DAY, 30 * DAY)

Random = np.random.Generator


def any_features(random: Random) -> Features:
    """A declaration that is sound, as a team may write one."""
    columns = tuple(_column(random, f"c{n}") for n in range(random.integers(0, 6)))
    labels = tuple(_label(random, kind) for kind in random.permutation(KINDS)[: random.integers(1, 4)])
    if not any(label.weight for label in labels):
        labels = (Label(labels[0].kind), *labels[1:])
    families = standard(columns) if random.random() < 0.5 else ()
    scalars = [column.name for column in columns if isinstance(column, Id)]
    bags = [column.name for column in columns if isinstance(column, Tags | Text)]
    own = list[Family]()
    for n in range(random.integers(0, 5)):
        own.append(_family(random, f"own{n}", scalars, bags, [label.kind for label in labels], own))
    derived = random.random() < 0.2
    return Features(
        columns=columns,
        labels=labels,
        families=None if derived else (*families, *own),
        history=10 if derived or families else int(random.integers(3, 12)),
        base_rate=float(random.choice([0.001, 0.1, 0.9])),
        tick=float(random.choice([1.0, 2.0, 5.0])),
    )


def _column(random: Random, name: str) -> Column:
    owner: Owner = str(random.choice(get_args(Owner)))  # type: ignore[assignment]
    called = str(random.choice(["", f"{name} in.the$log", f"^{name}.*"]))
    kind = random.choice(["id", "number", "tags", "text"])
    if kind == "id":
        return Id(name, owner, called)
    if kind == "number":
        return Number(name, owner, called)
    most = int(random.integers(1, 5))
    return Tags(name, owner, called, most, "|") if kind == "tags" else Text(name, owner, called, most)


def _label(random: Random, kind: str) -> Label:
    return Label(
        str(kind),
        within=timedelta(seconds=int(random.choice([60, 300, 3600]))),
        at_least=float(random.choice([2.0, 4.0])) if random.random() < 0.3 else None,
        of="value" if random.random() < 0.4 else "event",
        most=5.0,
        weight=float(random.choice([0.0, 1.0, 5.0])),
    )


def _family(
    random: Random, name: str, scalars: list[str], bags: list[str], kinds: list[str], before: list[Family]
) -> Family:
    ids = ["user", "item", STAGE, ACTIVITY, PAUSE, *scalars, *(last(each) for each in scalars)]
    ids += [last(each, 2) for each in scalars]
    key = [str(each) for each in random.permutation(ids)[: random.integers(0, 3)]]
    recent = None
    if random.random() < 0.3:
        recent = Recent(str(random.choice(["item", *scalars])), int(random.integers(1, 4)))
        key = key or ["item"]
    elif bags and random.random() < 0.5:
        key.append(str(random.choice(bags)))
    several = recent is not None or any(each in bags for each in key)
    naive = several and random.random() < 0.5
    lives = tuple(sorted(float(life) for life in random.permutation(LIVES)[: random.integers(1, 4)]))
    priors = [family.name for family in before if not family.naive_bayes]
    return Family(
        name,
        tuple(key),
        lives,
        prior=str(random.choice(priors)) if priors and random.random() < 0.6 else None,
        pseudo_counts=float(random.choice([0.5, 5.0, 100.0])),
        recent=recent,
        naive_bayes=naive,
        trend=not naive and random.random() < 0.4,
        sizes=int(random.integers(0, len(lives) + 1)),
        ages=not several and random.random() < 0.3,
        kind=str(random.choice(kinds)) if random.random() < 0.5 else None,
    )


def any_value(random: Random, column: Column) -> object:
    """A value that a log may bring for the column, or none."""
    if random.random() < 0.2:
        return None
    if isinstance(column, Number):
        return [0, -1.5, 1e30, 12.25, True, "3.5", "no number", 7][int(random.integers(8))]
    if isinstance(column, Id):
        return [str(random.choice(WORDS)), int(random.integers(3)), 1.0, False][int(random.integers(4))]
    some = [str(word) for word in random.permutation(WORDS)[: random.integers(0, 6)]]
    return some if isinstance(column, Tags) and random.random() < 0.5 else "|".join(some)


def any_log(features: Features, random: Random, *, requests: int = 60, most: int = 6) -> "AnyLog":
    """A log of the surface: requests of one to ``most`` candidates, with feedback of each label's kind and one more."""
    return AnyLog(features, random, requests, most)


class AnyLog:
    """Impressions, feedback, and what is known of items and users, by the log's names."""

    def __init__(self, features: Features, random: Random, requests: int, most: int) -> None:
        def known(owner: Owner) -> dict[str, object]:
            own = {c.column: any_value(random, c) for c in features.columns if c.of == owner}
            return {name: value for name, value in own.items() if value is not None}

        items, users = [f"i{n}" for n in range(12)], [f"u{n}" for n in range(6)]
        self.items: Mapping[str, Mapping[str, object]] = {item: known("item") for item in items}
        self.users: Mapping[str, Mapping[str, object]] = {user: known("user") for user in users}
        self.impressions: list[dict[str, Any]] = []
        self.feedback: list[dict[str, Any]] = []
        at = START
        for request in range(requests):
            at += float(random.choice([0.0, 0.25, 3.0, 400.0, 4000.0]))
            user, context = str(random.choice(users)), known("request")
            shown = random.permutation(items)[: random.integers(1, most + 1)]
            for place, item in enumerate(map(str, shown)):
                own = known("item") if random.random() < 0.3 else {}
                name = f"{request}/{place}"
                self.impressions.append(
                    {
                        "impression_id": name,
                        "request_id": str(request),
                        "user_id": user,
                        "item_id": item,
                        "position": place,
                        "shown_at": at,
                        "context": {**context, **own},
                    }
                )
                for kind in (*features.kinds, "other"):
                    if random.random() < 0.25:
                        value = float(random.choice([-1.0, 0.0, 1.0, 3.0, 5.0, 80.0]))
                        delay = float(random.choice([0.0, 2.5, 50.0, 290.0, 3700.0]))
                        self.feedback.append({"impression_id": name, "kind": kind, "value": value, "at": at + delay})

    def events(self) -> pl.DataFrame:
        """All of it as events of the event log, each known when it happened."""
        of = {row["impression_id"]: row for row in self.impressions}
        rows = [self._event(row, "impression", row["shown_at"], None) for row in self.impressions]
        rows += [self._event(of[f["impression_id"]], f["kind"], f["at"], f["value"]) for f in self.feedback]
        rows.sort(key=lambda row: (row["known_at"], row["kind"] != "impression"))
        return pl.DataFrame([row | {"seq": n + 1} for n, row in enumerate(rows)], schema=EVENT)

    def _event(self, row: Mapping[str, Any], kind: str, at: float, value: float | None) -> dict[str, Any]:
        from features.log.event_checks import canonical_objects

        def text(values: Mapping[str, object]) -> str:
            raw = pl.Series([json.dumps(values)])
            found: str = canonical_objects(raw, "context", 10_000, 100_000)["text"][0]
            return found

        return {
            "kind": kind,
            **{name: row[name] for name in ("impression_id", "request_id", "user_id", "item_id", "shown_at")},
            "attributes": text(self.items[row["item_id"]]),
            "user_attributes": text(self.users[row["user_id"]]),
            "context": text(row["context"]),
            "at": at,
            "known_at": at,
            "value": value,
            "read_tick": None,
            "live": False,
        }


def cut(events: pl.DataFrame, tick: float, ticks: int) -> list[pl.DataFrame]:
    """The events in batches of so many whole ticks."""
    code = (events["known_at"].to_numpy() // tick // ticks).astype(np.int64)
    edges = [0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(events)]
    return [events[a:b] for a, b in pairwise(edges)]
