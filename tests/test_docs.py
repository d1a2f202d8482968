"""The documentation names what is there: paths, links, commands, settings, tables."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from infra.settings import Settings

ROOT = Path(__file__).parent.parent

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])

FOLDERS = ("flows", "monitoring", "models", "features", "infra", "tests", "benchmarks", "docs")

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SETTING = re.compile(r"MILLRACE_[A-Z_]+")
COMMAND = re.compile(r"(?:^|`)(?:millrace|python -m benchmarks) ([a-z][a-z -]*)", re.MULTILINE)
TABLE = re.compile(r"tables? ((?:`\w+`(?:, | and )?)+)")

ONLY_IN_TESTS = {"MILLRACE_DATA"}


def pages() -> list[Path]:
    return PAGES


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    named = [text for text in CODE.findall(page.read_text()) if text.split("/")[0] in FOLDERS and "/" in text]
    missing = [text for text in named if " " not in text and not (ROOT / text.rstrip("/")).exists()]
    assert not missing


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        target, _, heading = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]
            assert heading in slugs, link


def test_every_setting_is_documented_and_every_one_documented_is_there() -> None:
    settings = {f"MILLRACE_{name.upper()}" for name in Settings.model_fields}
    documented = set(SETTING.findall((ROOT / "docs" / "operating.md").read_text()))
    assert settings <= documented
    named = {name for page in PAGES for name in SETTING.findall(page.read_text())}
    assert named <= settings | ONLY_IN_TESTS


def test_every_command_that_a_page_names_is_there() -> None:
    from benchmarks.__main__ import app as benches
    from flows.cli.main import app

    commands = _commands(get_command(app)) | _commands(get_command(benches))
    for page in PAGES:
        for words in COMMAND.findall(page.read_text()):
            first = words.split()[0]
            assert first in {command.split()[0] for command in commands}, f"{page.name}: {words}"


def _commands(group: object) -> set[str]:
    found = getattr(group, "commands", {})
    return set(found) | {f"{name} {inner}" for name, below in found.items() for inner in _commands(below)}


def test_every_table_that_a_page_names_is_made_by_a_migration() -> None:
    made = set()
    for migration in (ROOT / "infra" / "migrations").glob("*.sql"):
        made |= set(re.findall(r"CREATE TABLE (\w+)", migration.read_text()))
    for page in PAGES:
        for names in TABLE.findall(page.read_text()):
            assert set(re.findall(r"`(\w+)`", names)) <= made, f"{page.name}: {names}"
