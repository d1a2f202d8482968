"""What the processes run by: the team's files as they were last taken up, whole, whatever is being edited."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.surface_files import BadSurface, add
from flows.taken_up import Running, copy_of, running, served, take_up
from infra.settings import Settings

SHOP = """
from features.declare.columns import Id
from features.declare.features import Features
from flows.surface import Surface

SURFACE = Surface(name="kiosk", features=Features(columns=(Id("device"),)))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with one surface of its own."""
    folder = tmp_path / "surfaces"
    folder.mkdir()
    (folder / "kiosk.py").write_text(SHOP)
    return Settings(home=tmp_path / "home", surfaces=folder)


def write(settings: Settings, text: str, name: str = "kiosk.py") -> None:
    (settings.surfaces / name).write_text(text)


def test_an_edit_is_nobodys_declaration_until_it_is_taken_up(settings: Settings) -> None:
    surfaces = Running(settings)
    assert list(surfaces) == ["kiosk"]  # nothing was taken up yet: as the folder has it
    assert take_up(settings).new == ("kiosk",)
    before = surfaces.file("kiosk")
    write(settings, SHOP.replace("device", "browser"))
    assert surfaces.file("kiosk") == before
    assert running(settings, "kiosk").features.columns[0].name == "device"
    taken = take_up(settings)
    assert (taken.new, taken.changed, taken.gone, taken.broken) == ((), ("kiosk",), (), {})
    assert surfaces["kiosk"].features.columns[0].name == "browser"
    assert surfaces.file("kiosk").version != before.version
    assert len([*copy_of(settings).parent.glob("surfaces-*")]) == 1


def test_what_taking_up_left_behind_when_it_was_killed_is_cleared_away(settings: Settings) -> None:
    take_up(settings)
    home = copy_of(settings).parent
    (home / "surfaces-begun").mkdir()
    (home / "surfaces-begun" / "link").symlink_to("surfaces-begun")
    write(settings, SHOP.replace("device", "browser"))
    assert take_up(settings).changed == ("kiosk",)
    assert [path.resolve() for path in home.glob("surfaces-*")] == [copy_of(settings).resolve()]


def test_files_that_are_taken_up_again_and_again_are_never_seen_half(settings: Settings) -> None:
    take_up(settings)
    surfaces, seen, done = Running(settings), set[tuple[str, ...]](), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(tuple(Running(settings)))
            seen.add(tuple(surfaces))

    watching = threading.Thread(target=look)
    watching.start()
    with ThreadPoolExecutor(2) as several:
        assert [taken.gone for taken in several.map(lambda _: take_up(settings), range(40))] == [()] * 40
    done.set()
    watching.join()
    assert seen == {("kiosk",)}


def test_of_a_file_that_is_wrong_what_was_taken_up_before_goes_on_and_the_others_change(settings: Settings) -> None:
    add(settings.surfaces, "feed")
    take_up(settings)
    before = Running(settings).file("kiosk").version
    write(settings, SHOP.replace('Id("device")', 'Id("stage")'))
    write(settings, SHOP.replace('"kiosk"', '"ads"'), "ads.py")
    taken = take_up(settings)
    assert (taken.new, taken.changed, taken.gone) == (("ads",), (), ())
    assert "Id('stage')" in taken.broken[settings.surfaces / "kiosk.py"]
    surfaces = Running(settings)
    assert list(surfaces) == ["ads", "feed", "kiosk"]
    assert surfaces.file("kiosk").version == before


def test_a_file_that_is_gone_is_served_no_longer(settings: Settings) -> None:
    add(settings.surfaces, "feed")
    take_up(settings)
    now = served(settings)
    assert set(now()) == {"feed", "kiosk"}
    (settings.surfaces / "kiosk.py").unlink()
    assert take_up(settings).gone == ("kiosk",)
    assert set(now()) == {"feed"}
    with pytest.raises(BadSurface, match="surface 'kiosk'"):
        running(settings, "kiosk")


def test_an_example_need_not_be_copied_to_be_named(settings: Settings) -> None:
    assert running(settings, "feed").name == "feed"
