"""The report on a surface's wordings in words: of each thing its variants, and the traits that gain or lose."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitoring.desk import drawings, words
from monitoring.desk.drawings import DrawnInterval
from monitoring.evaluation.wordings import FALSE_SHARE, RISK, Thing, Trait, Variant, Wordings
from monitoring.sentences import counted
from monitoring.statistics.mantel_haenszel import FEWEST_THINGS

MOST_TRAITS = 40
"""Called traits that are listed, the surest."""

WIDEST = 2.5
"""A bar of shares ends at this many times the highest, however wide the bounds of one that was hardly shown."""


@dataclass(frozen=True)
class VariantRow:
    """One wording of a thing."""

    text: str
    shown: str
    share: str
    bounds: str
    gain: str
    gain_bounds: str
    bar: DrawnInterval | None
    marks: tuple[tuple[str, str], ...]
    """Words of its state, with their tone: ``("best", "promote")``."""


@dataclass(frozen=True)
class ThingShown:
    name: str
    note: str
    rows: tuple[VariantRow, ...]


@dataclass(frozen=True)
class TraitRow:
    name: str
    things: str
    gain: str
    bounds: str
    bar: DrawnInterval | None


@dataclass(frozen=True)
class WordingsShown:
    title: str
    lead: str
    traits: tuple[TraitRow, ...]
    """Those that are called."""

    others: tuple[TraitRow, ...]
    """Of whole texts, that are not."""

    asked: str
    """How many were asked, and what calling one promises, as a sentence."""

    things: tuple[ThingShown, ...]
    of_things: str
    """What the list is, or why there is none; empty where nothing was shown."""


def shown(found: Wordings) -> WordingsShown:
    """The report, whatever there is of it."""
    called = [trait for trait in found.traits if trait.called]
    listed, others = called[:MOST_TRAITS], [trait for trait in found.traits if trait.general and not trait.called]
    scale = max((abs(math.log1p(end)) for trait in listed for end in (trait.lower, trait.upper)), default=0.0)
    return WordingsShown(
        title=_title(found, called),
        lead=_lead(found),
        traits=tuple(_trait(trait, scale) for trait in listed),
        others=tuple(_trait(trait, scale) for trait in others),
        asked=_asked(found, len(called)),
        things=tuple(_thing(thing) for thing in found.things),
        of_things=_of_things(found),
    )


def _title(found: Wordings, called: Sequence[Trait]) -> str:
    if not found.impressions:
        return "Nothing was shown in this time."
    if not called:
        return "No trait of wordings is known to gain or lose."
    gaining = sum(trait.gain > 0 for trait in called)
    traits = f"{counted(gaining, 'trait')} of wordings gain{'s' if gaining == 1 else ''}"
    return f"{traits}, {len(called) - gaining:,} lose{'s' if len(called) - gaining == 1 else ''}."


def _lead(found: Wordings) -> str:
    if not found.impressions:
        return "Or what came of it is not known yet: an impression counts once the time for its click has passed."
    return (
        f"{counted(found.variants, 'wording')} of {counted(found.of_things, 'thing')},"
        f" {counted(found.impressions, 'impression')}, of which"
        f" {words.percent(found.clicks / found.impressions)} were clicked."
    )


def _asked(found: Wordings, called: int) -> str:
    if not found.traits:
        return (
            f"A trait is spoken of once the wordings of {FEWEST_THINGS:.0f} things or more differ in it, and none does"
            " yet."
        )
    promise = words.percent(FALSE_SHARE)
    if not called:
        return f"Of {counted(len(found.traits), 'trait')} that enough things differ in, none is more than chance."
    listed = f" The {MOST_TRAITS} surest are listed." if called > MOST_TRAITS else ""
    return (
        f"Called are {called:,} of {counted(len(found.traits), 'trait')} that enough things differ in; of those called,"
        f" {promise} at most are there by chance, and their bounds are as strict. The gain is in the odds of a click,"
        f" beside wordings of the same thing without it; a trait is not a cause.{listed}"
    )


def _of_things(found: Wordings) -> str:
    if not found.impressions:
        return ""
    if not found.things:
        return "No thing was shown in several wordings, so there is nothing to compare."
    return (
        "Those with most impressions. A wording is best, or behind, by its share of clicks beside the best of the"
        f" others of its thing. Bounds hold for all wordings of a thing together, with {words.percent(1 - RISK)}: since"
        " the log began, however often they are looked at; of a day or a week, which move along, for one look."
    )


def _trait(trait: Trait, scale: float) -> TraitRow:
    return TraitRow(
        trait.name,
        counted(trait.things, "thing"),
        words.percent(trait.gain, signed=True),
        f"{words.percent(trait.lower, signed=True)} to {words.percent(trait.upper, signed=True)}",
        # By the logarithm half as many and twice as many are as far from none.
        drawings.interval(
            *(math.log1p(value) for value in (trait.gain, trait.lower, trait.upper)), scale=scale or None
        ),
    )


def _thing(thing: Thing) -> ThingShown:
    most = max(variant.share for variant in thing.variants)
    scale = min(max(variant.upper for variant in thing.variants), WIDEST * most) or 1.0
    return ThingShown(
        thing.name,
        counted(thing.impressions, "impression"),
        tuple(_variant(variant, scale) for variant in thing.variants),
    )


def _variant(variant: Variant, scale: float) -> VariantRow:
    marks = tuple(_marks(variant))
    tone = "better" if variant.best else "worse" if variant.behind else ""
    return VariantRow(
        text=variant.text,
        shown=words.count(variant.impressions),
        share=words.percent(variant.share),
        bounds=f"{words.percent(variant.lower)} to {words.percent(variant.upper)}",
        gain=_points(variant.gain),
        gain_bounds=f"{_points(variant.gain_lower)} to {_points(variant.gain_upper)}",
        bar=drawings.share(variant.share, variant.lower, variant.upper, scale=scale, tone=tone),
        marks=marks,
    )


def _marks(variant: Variant) -> Iterator[tuple[str, str]]:
    if variant.best:
        yield "best", "promote"
    if variant.behind:
        yield "behind", "reject"
    if variant.withdrawn:
        yield "stopped", "hold"


def _points(gain: float | None) -> str:
    """A difference of shares in percentage points: ``+0.42``, ``−55``."""
    return words.NO_FIGURE if gain is None else words.signed(100 * gain, 2 if abs(gain) < 0.1 else 0)
