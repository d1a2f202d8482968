"""What the simulated shop search (:mod:`features.ingest.simulated_search`) finds: things with titles of real words.

Most are of one kind, a brand, a colour, and a trait. A few are of a product line whose name stands for two unlike
things, as a jaguar may be a couch or a smartphone: half of a line's later things are new about the time of the turn.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.ingest.simulated_search_words import (
    BRANDS,
    COLOURS,
    EDITIONS,
    KINDS,
    LINES,
    MATERIALS,
    PRICES,
    TRAITS,
    TRAITS_OF,
    USES,
)

MOST_LINES = len(LINES) * len(EDITIONS)

NEW_SHARE = 0.2
"""Of the things, those that arrive while the log goes on."""

LINE_SHARE = 0.3
"""Of the things, those of a line, at most."""

NONE = -1
"""No line; in a query, nothing asked of that sort."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NAMES, TRAIT_NAMES, COLOUR_NAMES = list(KINDS), list(TRAITS), list(COLOURS)
DEPARTMENT = np.array([list(MATERIALS).index(kind.department) for kind in KINDS.values()])
"""Of each kind."""


@dataclass(frozen=True, eq=False)
class Stock:
    """Things [items] and lines [lines], by their places in the lists of words."""

    kind: Ints
    brand: Ints
    colour: Ints
    trait: Ints
    line: Ints
    born: Floats
    """Share of the log's length; below 0 it was there before."""
    log_price: Floats
    appeal: Floats
    title: list[str]
    line_kinds: Ints
    """[lines, 2]: what each line's name stands for before the turn, and after."""

    @property
    def frame(self) -> pl.DataFrame:
        """``item_id, title, kind, brand, price``."""
        return pl.DataFrame(
            {
                "item_id": [f"t{number}" for number in range(self.kind.size)],
                "title": self.title,
                "kind": np.array(NAMES)[self.kind],
                "brand": np.array(BRANDS)[self.brand],
                "price": np.round(np.exp(self.log_price), 2),
            }
        )


def stock(random: np.random.Generator, items: int, lines: int) -> Stock:
    """So many things, those of the lines among them. Kinds differ in how many things there are."""
    fame = random.permutation(1 / (np.arange(len(NAMES)) + 5.0))
    per_meaning = min(4, max(1, int(items * LINE_SHARE / (2 * lines))))
    line_kinds = _unlike(random, lines)
    line = np.full(items, NONE)
    line[: 2 * lines * per_meaning] = np.repeat(np.arange(lines), 2 * per_meaning)[:items]
    later = np.tile(np.repeat([0, 1], per_meaning), lines)
    kind = random.choice(len(NAMES), items, p=fame / fame.sum())
    of_line = np.flatnonzero(line != NONE)
    kind[of_line] = line_kinds[line[of_line], later[: of_line.size]]
    born = np.where(random.random(items) < NEW_SHARE, random.random(items), -1.0)
    born[of_line] = np.where(
        (later[: of_line.size] == 1) & (of_line % 2 == 1), random.uniform(0.4, 0.55, of_line.size), -1.0
    )
    department = DEPARTMENT[kind]
    trait = np.array([_one(random, TRAIT_NAMES, TRAITS_OF[place]) for place in np.array(list(MATERIALS))[department]])
    brand = np.where(line == NONE, (department * 5 + random.integers(0, 9, items)) % len(BRANDS), line % len(BRANDS))
    colour = random.integers(0, len(COLOUR_NAMES), items)
    usual = np.log(list(PRICES.values())) + 0.0
    log_price = usual[department] + random.normal(0, 0.4, len(NAMES))[kind] + random.normal(0, 0.35, items)
    title = [_title(random, *map(int, row)) for row in zip(kind, brand, colour, trait, line, strict=True)]
    return Stock(kind, brand, colour, trait, line, born, log_price, random.normal(0, 0.4, items), title, line_kinds)


def line_name(line: int) -> str:
    return f"{LINES[line % len(LINES)]} {EDITIONS[line // len(LINES)]}".strip()


def _unlike(random: np.random.Generator, lines: int) -> Ints:
    """Two kinds of different departments for each line [lines, 2]."""
    first = random.integers(0, len(NAMES), lines)
    second = random.integers(0, len(NAMES), lines)
    while (same := DEPARTMENT[first] == DEPARTMENT[second]).any():
        second[same] = random.integers(0, len(NAMES), int(same.sum()))
    return np.stack([first, second], axis=1)


def _one(random: np.random.Generator, names: list[str], among: tuple[str, ...]) -> int:
    return names.index(among[random.integers(len(among))])


def _title(random: np.random.Generator, kind: int, brand: int, colour: int, trait: int, line: int) -> str:
    """In one of the orders that shops use; now and then it leaves out the material, the use or both."""
    name = NAMES[kind]
    department = KINDS[name].department
    materials, uses = MATERIALS[department], USES[department]
    made_of = f"{materials[random.integers(len(materials))]} " if random.random() < 0.6 else ""
    use = f" {uses[random.integers(len(uses))]}" if random.random() < 0.5 else ""
    maker = BRANDS[brand] if line == NONE else f"{BRANDS[brand]} {line_name(line).title()}"
    hue, what = COLOUR_NAMES[colour], TRAIT_NAMES[trait]
    return (
        f"{maker} {what} {made_of}{name}{use}, {hue}",
        f"{maker} {name}{use}, {what}, {made_of}{hue}",
        f"{hue.title()} {made_of}{name} by {maker}, {what}{use}",
    )[random.integers(3)]
