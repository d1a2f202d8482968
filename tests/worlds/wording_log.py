"""A log of things with several wordings each: seeded, with one word that gains."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import psycopg

from features.declare.columns import Id
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.variants import Variants
from features.log.entities import append_entities
from features.log.items import ItemChange, staged, store
from features.log.writing import append
from monitoring.records.wording_counts import WordedItems

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)

FEATURES = Features(
    columns=(Id("story", of="item", column="about"), Id("title", of="item", column="wording"), Id("device")),
    labels=(Label("open", within=timedelta(minutes=10)),),
)
VARIANTS = Variants(of="story", text="title")
ITEMS = WordedItems.declared(VARIANTS, FEATURES)


def showings(
    connection: psycopg.Connection, surface: str, *counts: tuple[str, int, int], at: datetime, later: float = 60
) -> None:
    """Of each item so many impressions from ``at`` on, a millisecond apart, the first of which are opened ``later``
    seconds after."""
    items = [item for item, shown, _ in counts for _ in range(shown)]
    opened = [place < opens for _, shown, opens in counts for place in range(shown)]
    names = [f"{item}-{at:%d%H%M}-{place}" for place, item in enumerate(items)]
    times = [at + timedelta(milliseconds=place) for place in range(len(items))]
    ids = {"impression_id": names, "request_id": names, "user_id": ["u"] * len(items), "item_id": items}
    impressions = pl.DataFrame({**ids, "shown_at": times, "known_at": times})
    feedback = pl.DataFrame({"impression_id": names, "kind": ["open"] * len(items), "value": [1.0] * len(items)})
    ats = pl.Series("at", [time + timedelta(seconds=later) for time in times])
    feedback = feedback.with_columns(ats, ats.alias("known_at")).filter(pl.Series(opened, dtype=pl.Boolean))
    now = at + timedelta(days=1)
    append(connection, surface, impressions=impressions, feedback=feedback, now=now, source="test")


def worded_items(connection: psycopg.Connection, surface: str, items: dict[str, tuple[str, str]]) -> None:
    """Items by their id: the thing and the wording."""
    rows = [(name, *both) for name, both in items.items()]
    append_entities(
        connection, surface, "items", pl.DataFrame(rows, schema=["item_id", "about", "wording"], orient="row")
    )


def withdrawn(connection: psycopg.Connection, surface: str, *items: str) -> None:
    with connection.transaction():
        store(connection, surface, staged([ItemChange(item, withdrawn=True) for item in items]), NOW)


WORDS = ("mayor", "bridge", "harbour", "strike", "winter", "school", "budget", "choir", "rescue", "storm", "ferry")


def seeded(connection: psycopg.Connection, surface: str, *, things: int = 40, shown: int = 400, seed: int = 5) -> None:
    """Things of three wordings; of those with ``why`` twice as many are opened. Two of every tenth thing are
    withdrawn."""
    random, items, counts = np.random.default_rng(seed), dict[str, tuple[str, str]](), list[tuple[str, int, int]]()
    for thing in range(things):
        topic = f"{' '.join(random.choice(WORDS, 2, replace=False))} no. {thing}"
        for variant in range(3):
            why = bool((thing + variant) % 3 == 0)
            rest = " ".join(random.choice(WORDS, 3, replace=False))
            items[f"{thing}-{variant}"] = (topic, f"{'Why' if why else 'How'} the {topic}: {rest}")
            share = 0.05 * np.exp(random.normal(0, 0.15)) * (2.2 if why else 1)
            counts.append((f"{thing}-{variant}", shown, int(random.binomial(shown, share))))
    worded_items(connection, surface, items)
    showings(connection, surface, *counts, at=NOW - timedelta(hours=20))
    withdrawn(connection, surface, *(f"{thing}-{way}" for thing in range(things) for way in (1, 2) if thing % 10 == 0))
