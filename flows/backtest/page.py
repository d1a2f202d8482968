"""The page of a backtest: one HTML file that needs no network, and its numbers beside it as JSON.

    write_page(report.summary(), "feed", Path("report"))  ->  report/backtest.html, report/backtest.json
    python -m flows.backtest.page feed report/backtest.json   # drawn anew, beside it

It is drawn by its template and a hundred lines of script: Plotly, which Evidently brings along, would put 4.6 MB of
script into each page, which has 0.06 MB for a day of hours.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.backtest.contents import contents
from flows.backtest.summary import Summary
from flows.backtest.texts import format_seconds
from monitoring.desk.words import signed
from monitoring.measures import number
from monitoring.sentences import percent


def write_page(summary: Summary, surface: str, folder: Path) -> Path:
    """Write ``backtest.html`` and ``backtest.json`` into the folder, made if absent; the path of the page.

    The page depends on the summary alone: the same summary gives the same bytes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(summary.as_json(), indent=1, allow_nan=False)
    (folder / "backtest.json").write_text(numbers + "\n", encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.filters |= {"signed": signed, "number": number, "seconds": format_seconds, "percent": percent}
    page = folder / "backtest.html"
    html = environment.get_template("page.html").render(vars(contents(summary, surface)))
    page.write_text(html, encoding="utf-8")
    return page


def redraw(surface: str, numbers: Annotated[Path, typer.Argument(exists=True, dir_okay=False)]) -> None:
    """Draw the page of a backtest anew, beside its backtest.json."""
    summary = Summary.from_json(json.loads(numbers.read_text(encoding="utf-8")))
    typer.echo(write_page(summary, surface, numbers.parent))


if __name__ == "__main__":
    typer.run(redraw)
