"""The demo begins from nothing, and throws away nothing that it did not make."""

from pathlib import Path

import pytest

from flows.cli.demo import MARK, NotOurs, clear_home
from infra.settings import Settings
from infra.stack import environment
from infra.stack.home import prepare_home


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = Settings(home=tmp_path / "home")
    for name, value in environment.library_environment(found).items():
        monkeypatch.setenv(name, value)  # and as it was afterwards
    return found


def test_a_fresh_clone_is_nobodys_installation(settings: Settings) -> None:
    clear_home(settings)
    assert [path.name for path in settings.home.iterdir()] == [MARK]


def test_what_a_command_makes_on_its_way_is_no_installation(settings: Settings) -> None:
    environment.apply(settings)  # as the demo itself does first
    prepare_home(settings)
    assert any(settings.home.iterdir())
    clear_home(settings)
    assert (settings.home / MARK).exists()


def test_an_installation_is_left_as_it_is(settings: Settings) -> None:
    (settings.home / "postgres").mkdir(parents=True)
    version = settings.home / "postgres" / "PG_VERSION"
    version.write_text("18")
    with pytest.raises(NotOurs, match=f"{settings.home} holds an installation of yours"):
        clear_home(settings)
    assert version.read_text() == "18"


def test_the_next_demo_begins_from_nothing(settings: Settings) -> None:
    clear_home(settings)
    (settings.home / "log.parquet").write_text("of the last demo")
    clear_home(settings)
    assert [path.name for path in settings.home.iterdir()] == [MARK]
