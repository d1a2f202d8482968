"""``millrace items …``, on a real database."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.item_commands import app
from infra.errors import MillraceError
from tests.worlds.serving import with_items

Run = Callable[..., Result]


@pytest.fixture
def items(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``millrace items …``; what a person can mend is raised."""
    monkeypatch.setenv("MILLRACE_DATABASE_URL", database)

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(app, list(arguments))
        if isinstance(done.exception, MillraceError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done

    return run


def test_items_are_withdrawn_put_back_and_shown(items: Run, database: str) -> None:
    with_items(database)
    assert items("withdraw", "feed", "a", "b").output == (
        "2 items are withdrawn from feed, 2 that were not so before.\n"
    )
    assert items("withdraw", "feed", "a").output == "1 item is withdrawn from feed, 0 that were not so before.\n"
    assert items("show", "feed", "a").output.startswith("a: withdrawn since ")
    assert items("put-back", "feed", "b").output == "1 item is not withdrawn from feed, 1 that were so before.\n"
    shown = json.loads(items("show", "feed", "a", "b", "--json").stdout)["items"]
    assert [(item["item_id"], item["alive"], item["attributes"]) for item in shown] == [
        ("a", False, {"section": "news"}),
        ("b", True, {"section": "sport"}),
    ]


def test_a_mistake_is_named(items: Run, database: str) -> None:
    for arguments in (("show", "feed", "nobody"), ("withdraw", "feed", ""), ("withdraw", "nothing", "a")):
        with pytest.raises(MillraceError, match=r"nobody|must not be empty|nothing"):
            items(*arguments)
