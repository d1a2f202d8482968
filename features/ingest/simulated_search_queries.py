"""What is searched for in the simulated shop (:mod:`features.ingest.simulated_search`), and in which words.

Some queries recur, a few of them very often; the rest are put in words that nobody uses again. Whoever asks has a
thing in mind: its kind, and its trait, colour or brand where the words say so. Part of the recurring queries are the
bare name of a product line, which stands for one kind of thing before the turn and for another after it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.ingest.simulated_search_stock import COLOUR_NAMES, NAMES, NONE, TRAIT_NAMES, Stock, line_name
from features.ingest.simulated_search_words import BRANDS, COLOURS, KINDS, TRAITS

TURNING = 3
"""Of every ten recurring queries, from the most frequent on: those whose meaning turns."""

OTHER_WORDS = 0.65
"""Share of the queries that call a thing otherwise than titles do."""

STEEPNESS = 1.0
"""Zipf's exponent of the recurring queries."""

RECURRING = ("{kind}", "{kind}", "{trait} {kind}", "{colour} {kind}", "{brand} {kind}")

ONCE = (
    "where can i find {colour} {kind}",
    "looking for {kind} in {colour}",
    "which {trait} {kind} is best",
    "{trait} {kind} in {colour} please",
    "any {brand} {kind} left in stock",
    "i would like to buy {trait} {kind}",
    "do you have {kind} from {brand} in {colour}",
    "good {kind}",
    "{trait} {kind}",
    "{brand} {kind}",
    "{colour} {kind}",
    "{kind} quickly",
)

PEOPLE = ("my sister", "a colleague", "our grandmother", "my husband", "the neighbours", "a friend", "my boss")

OCCASIONS = (
    *(f"for {who}" for who in PEOPLE),
    *(f"as a present for {who}" for who in PEOPLE),
    *(f"to replace the old one of {who}" for who in PEOPLE),
    "before winter comes",
    "now that we move house",
    "for the holidays",
    "that i can get this week",
    "on sale",
)
"""Said with a query, and nothing to the point."""

AFTER = ("that", "for", "with", "without", "against", "crafted")
"""First words of what stands behind the thing it is said of."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Wanted:
    """What whoever asks has in mind [queries], by places in the lists of words; ``NONE`` where it is all the same."""

    kind: Ints
    trait: Ints
    colour: Ints
    brand: Ints
    line: Ints
    """Whose name is asked for; its kind turns."""


@dataclass(frozen=True, eq=False)
class Queries:
    text: list[str]
    wanted: Wanted


def recurring(random: np.random.Generator, stock: Stock, count: int) -> Queries:
    """So many different queries, the most frequent first; all for things that were there before the log."""
    blocks = -(-count // 10)
    places = np.argsort(random.random((blocks, 10)), axis=1)[:, :TURNING] + 10 * np.arange(blocks)[:, None]
    lines = dict(
        zip(np.sort(places.ravel()).tolist(), random.permutation(len(stock.line_kinds)).tolist(), strict=False)
    )
    old = np.flatnonzero((stock.born < 0) & (stock.line == NONE))
    texts, rows, taken = list[str](), list[tuple[int, ...]](), set[str]()
    while len(texts) < count:
        line = lines.get(len(texts))
        if line is not None:
            texts.append(line_name(line))
            rows.append((int(stock.line_kinds[line, 0]), NONE, NONE, NONE, line))
            continue
        text, row = _asked(random, stock, int(random.choice(old)), RECURRING)
        if text not in taken:
            taken.add(text)
            texts.append(text)
            rows.append(row)
    return Queries(texts, _wanted(rows))


def once(random: np.random.Generator, stock: Stock, moment: NDArray[np.float64], taken: set[str]) -> Queries:
    """A query for each moment, as a share of the log's length: for a thing that is there by then, and in words that are
    neither in ``taken`` nor in another."""
    plain = np.flatnonzero(stock.line == NONE)
    old = plain[stock.born[plain] < 0]
    texts, rows, taken = list[str](), list[tuple[int, ...]](), set(taken)
    for when in moment:
        item = int(random.choice(plain))
        item = item if stock.born[item] <= when else int(random.choice(old))
        while True:
            text, row = _asked(random, stock, item, ONCE)
            if random.random() < 0.7:
                text = f"{text} {OCCASIONS[random.integers(len(OCCASIONS))]}"
            if text not in taken:
                break
        taken.add(text)
        texts.append(text)
        rows.append(row)
    return Queries(texts, _wanted(rows))


def _asked(
    random: np.random.Generator, stock: Stock, item: int, templates: tuple[str, ...]
) -> tuple[str, tuple[int, ...]]:
    """Words for a thing, and what of it they ask for."""
    template = templates[random.integers(len(templates))]
    name = NAMES[stock.kind[item]]
    said = name if random.random() > OTHER_WORDS else _any(random, KINDS[name].asked)
    trait = _any(random, TRAITS[TRAIT_NAMES[stock.trait[item]]])
    if "{trait} {kind}" in template and trait.split()[0] in AFTER:
        template = template.replace("{trait} {kind}", "{kind} {trait}")
    text = template.format(
        kind=said,
        trait=trait,
        colour=_any(random, COLOURS[COLOUR_NAMES[stock.colour[item]]]),
        brand=BRANDS[stock.brand[item]].lower(),
    )
    asked = [
        int(value[item]) if f"{{{part}}}" in template else NONE
        for part, value in (("trait", stock.trait), ("colour", stock.colour), ("brand", stock.brand))
    ]
    return text, (int(stock.kind[item]), *asked, NONE)


def _any(random: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[random.integers(len(words))]


def _wanted(rows: list[tuple[int, ...]]) -> Wanted:
    return Wanted(*np.array(rows, np.int64).reshape(-1, 5).T)
