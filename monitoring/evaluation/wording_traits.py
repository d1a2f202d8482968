"""What wordings have, read off any text: its words, and a few things that a writer decides about all of it.

Words are runs of letters and digits, as they are spelt but for capitals; a language that writes none apart has no word
traits here. Words that stand in the very same wordings are one trait: nothing tells them apart. A wording is long or
short beside the others of its thing only.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORD = re.compile(r"\w+(?:['’]\w+)*")
DIGIT, QUESTION, QUOTATION = re.compile(r"\d"), re.compile(r"[?？؟]"), re.compile(r"[\"“”„«»「」]")

TO_THE_READER = frozenset({"you", "your", "yours", "yourself", "yourselves"})
"""English; a text of another language does not have the trait. With what is joined to them: you're, you'll."""

NUMBER, ASKS, QUOTES, ADDRESSES, LONG = (
    "has a number",
    "is a question",
    "has a quotation",
    "says you or your",
    "longer than its others",
)
GENERAL = (NUMBER, ASKS, QUOTES, ADDRESSES, LONG)

NAMED = 5
"""Words of one trait that it is called by."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Traits:
    """Which wordings have which traits."""

    names: tuple[str, ...]
    """Of T traits: first `GENERAL`, then words in the order they were met, those that are one trait side by side."""

    trait: Places
    """i[N], place in `names`."""

    wording: Places
    """i[N], place in the texts; a wording has a trait once."""


def traits_of(texts: Sequence[str], thing: Places) -> Traits:
    """Of wordings [V], with the number of the thing of each."""
    words = [[word.replace("’", "'") for word in WORD.findall(text.casefold())] for text in texts]
    lengths = np.array([len(each) for each in words], np.float64)
    mean = np.bincount(thing, lengths) / np.maximum(np.bincount(thing), 1)
    longer = lengths > mean[thing] if len(texts) else np.zeros(0, bool)
    places: dict[str, int] = {}
    found = [
        (trait, place)
        for place, (text, own, long) in enumerate(zip(texts, words, longer, strict=True))
        for trait in (*_general(text, own, long=bool(long)), *_words(own, places))
    ]
    pairs = np.array(found, np.int64).reshape(len(found), 2)
    return _told_apart((*GENERAL, *(f"“{word}”" for word in places)), pairs[:, 0], pairs[:, 1])


def _told_apart(names: Sequence[str], trait: Places, wording: Places) -> Traits:
    """Of the traits in each of these pairs one for those in the very same wordings: that of the whole text, or else all
    the words as one."""
    if not len(trait):
        return Traits(tuple(names[: len(GENERAL)]), trait, wording)
    order = np.argsort(trait, kind="stable")
    met, first = np.unique(trait[order], return_index=True)
    has = zip(met.tolist(), np.split(wording[order], first[1:]), strict=True)
    same: dict[bytes, list[int]] = {}
    for place, wordings in has:
        same.setdefault(wordings.tobytes(), []).append(place)
    kept = [*names[: len(GENERAL)]]
    becomes = np.arange(len(names))
    for places in same.values():
        words = [place for place in places if place >= len(GENERAL)]
        if words != places:  # a trait of the whole text is the same
            becomes[words] = places[0]
            continue
        becomes[words] = len(kept)
        more = ["…"] if len(words) > NAMED else []
        kept.append(" ".join([*(names[place] for place in words[:NAMED]), *more]))
    one = np.unique(np.stack([becomes[trait], wording]), axis=1)
    return Traits(tuple(kept), one[0], one[1])


def _general(text: str, words: Sequence[str], *, long: bool) -> Iterator[int]:
    has: Mapping[str, bool] = {
        NUMBER: DIGIT.search(text) is not None,
        ASKS: QUESTION.search(text) is not None,
        QUOTES: QUOTATION.search(text) is not None,
        ADDRESSES: any(word.partition("'")[0] in TO_THE_READER for word in words),
        LONG: long,
    }
    return (place for place, name in enumerate(GENERAL) if has[name])


def _words(words: Sequence[str], places: dict[str, int]) -> Iterator[int]:
    return (len(GENERAL) + places.setdefault(word, len(places)) for word in dict.fromkeys(words))
