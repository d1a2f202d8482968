"""``millrace wordings``, on a real database."""

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.wording_commands import wordings
from flows.services.desk import declared
from flows.surface import Surface
from flows.surfaces.feed import SURFACE
from infra.errors import MillraceError
from tests.worlds.wording_log import FEATURES, ITEMS, VARIANTS, seeded

Run = Callable[..., Result]

TITLES = """
from flows.surface import Surface
from tests.worlds.wording_log import FEATURES, VARIANTS

SURFACE = Surface(name="titles", features=FEATURES, variants=VARIANTS)
"""


@pytest.fixture
def run(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``millrace wordings …`` in a terminal of 80 columns; what a person can mend is raised."""
    (tmp_path / "titles.py").write_text(TITLES)
    monkeypatch.setenv("MILLRACE_DATABASE_URL", database)
    monkeypatch.setenv("MILLRACE_SURFACES", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    app = typer.Typer()
    app.command()(wordings)

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(app, list(arguments))
        if isinstance(done.exception, MillraceError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done

    return run


def test_what_gains_is_printed_within_eighty_columns(run: Run, connection: psycopg.Connection) -> None:
    seeded(connection, "titles", shown=120)
    connection.commit()
    lines = run("titles").output.splitlines()
    assert lines[0] == "1 trait of wordings gains, 1 loses."
    assert max(map(len, lines)) <= 80
    assert any("“why”" in line and "40 things" in line for line in lines)
    assert any("stopped" in line for line in run("titles", "--since", "2026-02-28").output.splitlines())
    assert run("titles", "--since", "2026-03-02").output.startswith("Nothing was shown in this time.\n")


def test_the_report_is_one_json_object(run: Run, connection: psycopg.Connection) -> None:
    seeded(connection, "titles", things=31, shown=120)
    connection.commit()
    found = json.loads(run("titles", "--json").stdout)
    assert (found["variants"], found["impressions"], found["of_things"]) == (93, 93 * 120, 31)
    assert found["span"]["start"].startswith("2026-02-28T")
    assert {trait["name"] for trait in found["traits"] if trait["called"]} == {"“why”", "“how”"}
    first = found["things"][0]["variants"][0]
    assert first["lower"] < first["share"] < first["upper"]
    assert set(first) >= {"item_id", "text", "gain_lower", "best", "behind", "withdrawn"}
    assert json.loads(run("titles", "--json", "--since", "2026-03-02").stdout)["traits"] == []


def test_the_desk_shows_wordings_of_a_surface_that_declares_variants() -> None:
    titles = Surface(name="titles", features=FEATURES, variants=VARIANTS)
    assert declared(titles).worded == ITEMS
    assert declared(SURFACE).worded is None


def test_a_mistake_is_named(run: Run) -> None:
    for arguments, why in (
        (("feed",), "no variants.*declares variants="),
        (("nothing",), "nothing"),
        (("titles", "--since", "yesterday"), "no time; write"),
    ):
        with pytest.raises(MillraceError, match=why):
            run(*arguments)
