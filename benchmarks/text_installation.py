"""The installation that the bench of queries measures: a search of so many things, with an encoder in front.

    with installation(SeededSearch(), None, progress, surfaces=["search"]) as it:
        ...

A champion is trained on a seeded log of some things; the others that are found beside them have titles alone. All have
vectors before serving starts, made by a process of its own, as an update makes those of what was shown.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.serve_installation import ENDED, import_made, promote
from flows.surface_files import add
from infra.settings import Settings

SEARCH = "search"


@dataclass(frozen=True)
class SeededSearch:
    """What is there before anything is measured."""

    items: int = 50_000
    """Things that are found."""

    search: str | None = None
    """A parquet file of queries and titles; None: those of the seeded shop."""

    logged: int = 2_000
    """Of the things, those that the log has shown."""

    days: float = 0.4
    requests_per_day: int = 4_000
    seed: int = 0
    int8: bool = False
    """Whether the encoder reads queries in int8."""

    more_surfaces: int = 0
    """Beside it, on the same encoder; they have no items."""

    def declare(self, folder: Path) -> None:
        """Write its surfaces into the folder."""
        found, _ = add(folder, SEARCH)
        declared = found.path.read_text()
        if self.int8:
            plain = 'TextDesign("query", "title")'
            assert plain in declared
            declared = declared.replace(plain, 'TextDesign("query", "title", precision="int8")')
            found.path.write_text(declared)
        for number in range(self.more_surfaces):
            name = f"{SEARCH}{number + 2}"
            (folder / f"{name}.py").write_text(declared.replace(f'name="{SEARCH}"', f'name="{name}"'))


def import_and_train(settings: Settings, seeded: SeededSearch, now: datetime) -> None:
    """Import the log and the things, make the vectors, and run an update."""
    from features.ingest.simulated_search import simulate_search
    from features.log.entities import append_entities
    from infra.postgres.connections import connect

    start = now - ENDED - timedelta(days=seeded.days)
    made = simulate_search(
        seed=seeded.seed,
        start=start,
        days=seeded.days,
        users=seeded.requests_per_day // 4,
        items=seeded.logged,
        queries=100,
        requests_per_day=seeded.requests_per_day,
    )
    import_made(settings, SEARCH, made.log, made.items, now)
    with connect(settings.database) as connection:
        append_entities(connection, SEARCH, "items", others(seeded))
    make_vectors(settings)
    promote(settings, SEARCH, now, [start + timedelta(days=seeded.days)])


def others(seeded: SeededSearch) -> pl.DataFrame:
    """The things that the log has not shown, with their titles."""
    wanted = seeded.items - seeded.logged
    titles = (
        [] if seeded.search is None else pl.read_parquet(seeded.search)["title"].unique(maintain_order=True).to_list()
    )
    if len(titles) < wanted:
        titles += made_up(seeded, wanted - len(titles))["title"].to_list()
    return pl.DataFrame({"item_id": [f"shelf{number:06d}" for number in range(wanted)], "title": titles[:wanted]})


def made_up(seeded: SeededSearch, count: int) -> pl.DataFrame:
    """So many things of another shop."""
    from features.ingest.simulated_search import simulate_search

    start = datetime(2026, 1, 1, tzinfo=UTC)
    shop = simulate_search(
        seed=seeded.seed + 1, start=start, days=0.01, users=1, items=max(count, 200), queries=1, requests_per_day=100
    )
    return shop.items.head(count)


def asked(seeded: SeededSearch, count: int) -> list[str]:
    """So many different queries, none of which the log has, or as many as there are."""
    from features.ingest.simulated_search import simulate_search

    if seeded.search is not None:
        return pl.read_parquet(seeded.search)["query"].unique(maintain_order=True).to_list()[:count]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    shop = simulate_search(
        seed=seeded.seed + 2, start=start, days=1, users=1, items=200, queries=1, requests_per_day=4 * count
    )
    once = shop.log.join(shop.truth.filter(pl.col("asked") == "once"), on="impression_id")
    return once["query"].unique(maintain_order=True).to_list()[:count]


def make_vectors(settings: Settings) -> None:
    """Make those of all things."""
    from flows.taken_up import running
    from infra.postgres.connections import connect
    from models.text.known import texts_in
    from models.text.pretrained import base_of
    from models.text.vectors import encoded

    surface = running(settings, SEARCH)
    text = surface.design.text
    assert text is not None
    with connect(settings.database, autocommit=True) as connection:
        rows = connection.execute("SELECT attributes FROM items WHERE surface = %s", [SEARCH]).fetchall()
        titles = dict(texts_in(surface.features, [text.item], [row[0] for row in rows]))
        encoded(connection, base_of(text.encoder, wanted_by="the bench of queries"), titles)


def main(arguments: Sequence[str]) -> None:
    from infra.stack import environment

    settings = Settings()
    environment.apply(settings)
    import_and_train(settings, SeededSearch(**json.loads(arguments[0])), datetime.now(UTC))


if __name__ == "__main__":
    main(sys.argv[1:])
