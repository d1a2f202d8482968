"""The variants of one surface: wordings become items, each once; and how each was received, and whether it is stopped.

``service`` calls :meth:`VariantStore.put` and :meth:`VariantStore.shown` in a thread of its own: they wait for
PostgreSQL, and the first for the surface's function where it is asked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg
from psycopg.rows import class_row

from features.declare.features import Features
from features.declare.recommend import of_items
from features.declare.variants import Variants
from features.identity.variant import variant_id
from features.log.items import ItemLife, lives_with, staged, store, take_turns
from features.log.tally import MOST_NAMED
from features.log.variants import VariantCounts, read_counts
from infra.postgres.connections import explain
from models.serving.durable.database import AWAY, Database
from models.serving.items import checked_items, read_item, writing
from models.serving.variants.bodies import MOST_VARIANTS, RESERVED, VariantsBody
from models.serving.variants.proposing import Proposer

NORMAL_95 = 1.959964

LATELY = timedelta(hours=1)
"""Of which it is said what share of a thing's impressions a variant has."""

STOPPED = """
SELECT DISTINCT ON (item_id) item_id, against, reason, stopped_at FROM stopped_variants
WHERE surface = %s AND item_id = ANY(%s) ORDER BY item_id, stopped_variant_id DESC
"""


Origin = Literal["sent", "proposed"]


class VariantsUnread(RuntimeError):
    """PostgreSQL did not say how variants were received."""


class UnfitVariants(ValueError):
    """A request for variants that this surface cannot take as it is."""

    def __init__(self, field: Sequence[str | int], reason: str) -> None:
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True)
class PutVariant:
    """A wording, and the item that it is."""

    item_id: str
    wording: str
    new: bool
    """Whether the log had no such item."""
    source: Origin


@dataclass(frozen=True)
class Stopped:
    """A variant that is known to be worse than another of its thing."""

    item_id: str
    against: str
    reason: str
    stopped_at: datetime


@dataclass(frozen=True)
class ShownVariant:
    """A variant, and how it was received."""

    life: ItemLife
    wording: str
    counts: VariantCounts
    share_lately: float | None
    """Of what was shown of its thing in the last hour; None where nothing was."""
    stopped: Stopped | None


class VariantStore:
    """May be used by many threads."""

    def __init__(self, surface: str, declared: Features, variants: Variants, database: Database) -> None:
        self.surface = surface
        self.declared = declared
        self._of, self._text = variants.columns(declared)
        self._columns = {column.column for column in of_items(declared)}
        self._database = database
        self._proposer = None if variants.propose is None else Proposer(variants.propose, variants.propose_within)

    def put(self, body: VariantsBody, now: float) -> tuple[list[PutVariant], list[str]]:
        """Store what is sent, and what is proposed beside it, ``now`` in seconds since 1970; and the first names of
        values that are no column of the surface's items. All of it or nothing. Raises UnfitVariants; NotProposed;
        ItemsNotStored."""
        self._expect(body)
        proposed = self._proposed(body) if body.propose else []
        sources: dict[str, Origin] = dict.fromkeys(body.wordings, "sent")
        sources |= dict.fromkeys([wording for wording in proposed if wording not in sources], "proposed")
        with writing(self._database) as connection:
            take_turns(connection, self.surface)
            known = self._lives(connection, body.of)
            of_wording = {life.attributes.get(self._text): life.item_id for life in known}
            items = {wording: of_wording.get(wording) or variant_id(body.of, wording) for wording in sources}
            self._expect_room(body.of, len(known), sum(wording not in of_wording for wording in sources))
            values = {**body.values, self._of: body.of}
            sent = [read_item({**values, self._text: wording, "id": item}) for wording, item in items.items()]
            checked = checked_items(sent)
            if checked.refused:
                raise UnfitVariants(("values",), next(iter(checked.refused.values())).reason)
            store(connection, self.surface, staged(checked.changes), datetime.fromtimestamp(now, UTC))
        put = [
            PutVariant(item, wording, wording not in of_wording, sources[wording]) for wording, item in items.items()
        ]
        return put, sorted(body.values.keys() - self._columns)[:MOST_NAMED]

    def shown(self, of: str, now: float) -> list[ShownVariant]:
        """The variants of a thing as of ``now``, seconds since 1970: those that came first, first. Raises
        VariantsUnread."""
        if not self._database.available:
            raise VariantsUnread("PostgreSQL is away: ask again once it is there")
        try:
            with self._database.connection() as connection:
                return self._shown(connection, of, now)
        except AWAY as error:
            self._database.mark_away(error)
            raise VariantsUnread(f"{explain(error)}: ask again once PostgreSQL is there") from error

    def _shown(self, connection: psycopg.Connection, of: str, now: float) -> list[ShownVariant]:
        known = self._lives(connection, of)
        if not known:
            return []
        items = [life.item_id for life in known]
        since = min(life.arrived_at for life in known) - timedelta(microseconds=1)
        recent = datetime.fromtimestamp(now, UTC) - LATELY
        counts = read_counts(connection, self.surface, self.declared.label, items, since, recent)
        stopped = self._stopped(connection, items)
        lately = sum(one.shown_lately for one in counts.values())
        found = []
        for life in known:
            own = counts.get(life.item_id, VariantCounts(life.item_id, 0, 0, 0))
            share = own.shown_lately / lately if lately else None
            found.append(ShownVariant(life, life.attributes[self._text], own, share, stopped.get(life.item_id)))
        return found

    def _expect(self, body: VariantsBody) -> None:
        if not body.wordings and not body.propose:
            raise UnfitVariants(("wordings",), "is empty, and nothing is to be proposed: give a wording")
        for name in body.values:
            if name in (self._of, self._text):
                raise UnfitVariants(
                    ("values", name), "says which thing or wording it is: give it as of, or in wordings"
                )
            if name in RESERVED:
                raise UnfitVariants(("values", name), f"is no column of an item: PUT /v1/{self.surface}/items takes it")

    def _expect_room(self, of: str, known: int, new: int) -> None:
        if new and known + new > MOST_VARIANTS:
            raise UnfitVariants(
                ("wordings",), f"{of!r} has {known} variants, and {new} more would be over {MOST_VARIANTS}: send fewer"
            )

    def _proposed(self, body: VariantsBody) -> list[str]:
        if self._proposer is None:
            raise UnfitVariants(
                ("propose",),
                f"{self.surface} proposes nothing: declare variants=Variants(..., propose=a_function), or leave it out",
            )
        with writing(self._database) as connection:
            known = [life.attributes[self._text] for life in self._lives(connection, body.of)]
        return self._proposer.ask(body.of, [*dict.fromkeys([*known, *body.wordings])], body.propose)

    def _lives(self, connection: psycopg.Connection, of: str) -> list[ItemLife]:
        """The variants of a thing, of whatever ids."""
        found = lives_with(connection, self.surface, self._of, [of])
        return [one for one in found if self._text in one.attributes]

    def _stopped(self, connection: psycopg.Connection, items: Sequence[str]) -> dict[str, Stopped]:
        with connection.cursor(row_factory=class_row(Stopped)) as cursor:
            return {one.item_id: one for one in cursor.execute(STOPPED, [self.surface, list(items)])}


def wilson(yes: int, of: int) -> tuple[float, float]:
    """Where a share may lie of which ``yes`` of ``of`` were seen, with 95 % confidence (Wilson 1927)."""
    if not of:
        return 0.0, 1.0
    z2, share = NORMAL_95**2, yes / of
    middle, wide = share + z2 / (2 * of), NORMAL_95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (middle - wide) / (1 + z2 / of)), min(1.0, (middle + wide) / (1 + z2 / of))
