"""``millrace wordings SURFACE``: which wordings gain, as the desk shows it. ``flows/cli/main.py`` registers it."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import AsJson, BadArgument, find_surface, load_settings, optional_instant

if TYPE_CHECKING:
    from monitoring.desk.wordings_shown import ThingShown, TraitRow
    from monitoring.evaluation.wordings import Wordings

THINGS = 10
"""That are printed; with ``--json`` come all that the report lists."""


def wordings(
    surface: Annotated[str, typer.Argument(help="The surface, declared in a file of the folder surfaces.")],
    since: Annotated[
        str | None, typer.Option(help="Leave out what was shown before this time, UTC; all of the log when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Which wordings gain: of each thing its variants, and the traits of those that do."""
    from flows.cli.embedded import connected
    from monitoring.records.wording_counts import WordedItems, read_wordings

    declared = find_surface(surface)
    if declared.variants is None:
        raise BadArgument(
            f"the items of {surface} are no variants; a surface with wordings declares"
            ' variants=Variants(of="article", text="headline")'
        )
    begin = optional_instant(since)
    items = WordedItems.declared(declared.variants, declared.features)
    with connected(load_settings()) as connection:
        found = read_wordings(connection, surface, items, since=begin, now=datetime.now(UTC))
    if as_json:
        print(json.dumps(as_object(found), indent=1))
    else:
        _print(found)


def as_object(found: "Wordings") -> dict[str, object]:
    """The report as a JSON object; each variant says whether it is best or behind."""
    made = asdict(found)
    made["span"] = {"start": found.span.start.isoformat(), "end": found.span.end.isoformat()}
    made["things"] = [
        {
            **asdict(thing),
            "variants": [asdict(each) | {"best": each.best, "behind": each.behind} for each in thing.variants],
        }
        for thing in found.things
    ]
    return made


def _print(found: "Wordings") -> None:
    from rich.console import Console

    from monitoring.desk import words
    from monitoring.desk.wordings_shown import shown

    console, report = Console(highlight=False), shown(found)
    console.print(report.title, style="bold", markup=False)
    if found.impressions:
        console.print(f"Shown {words.window(found.span.start, found.span.end)}: {report.lead}", markup=False)
        console.print(f"\n{report.asked}", markup=False)
        if report.traits:
            console.print()
            console.print(_traits(report.traits))
        console.print(f"\n{report.of_things}", markup=False)
        for thing in report.things[:THINGS]:
            console.print()
            console.print(_thing(thing))
    else:
        console.print(report.lead, markup=False)


def _traits(rows: "tuple[TraitRow, ...]") -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table("trait", box=None, pad_edge=False)
    for name in ("differs in", "gain", "bounds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        tone = "" if row.bar is None else {"better": "green", "worse": "red"}.get(row.bar.tone, "")
        table.add_row(Text(row.name), row.things, Text(row.gain, tone), row.bounds)
    return table


def _thing(thing: "ThingShown") -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=Text(f"{thing.name}, {thing.note}"), title_justify="left")
    table.add_column("wording", ratio=1)
    for name in ("shown", "clicked", "ahead", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in thing.rows:
        marks = Text(" ").join(
            Text(mark, {"promote": "green", "reject": "red"}.get(tone, "yellow")) for mark, tone in row.marks
        )
        table.add_row(Text(row.text), row.shown, f"{row.share}\n{row.bounds}", f"{row.gain}\n{row.gain_bounds}", marks)
    return table
