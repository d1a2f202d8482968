"""A team's surface files: each mistake has a message that names the file, its line, the field, the value, a remedy."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from flows.surface_files import EXAMPLES, BadSurface, add, find, read_file, read_folder

GOOD = """
from datetime import timedelta

from features.declare.columns import Id, Number, Tags, Text
from features.declare.families import DAY, HOUR, MINUTE, Family, Recent, last
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.log import FromRow, Log
from features.declare.standard import standard
from features.declare.views import TeamView
from flows.surface import Surface
from models.learning.design import Design, Learning
from models.networks.shape import Shape

COLUMNS = (Id("device"), Id("section", of="item"), Number("price", of="item"), Tags("genres", of="item"))

SURFACE = Surface(
    name="shop",
    features=Features(
        columns=COLUMNS,
        labels=(Label("click"), Label("purchase", within=timedelta(days=1), of="value", most=200, weight=5)),
        families=standard(
            COLUMNS,
            also=(
                Family("bought", ("item",), (HOUR, DAY), prior="item", kind="purchase"),
                Family("after", ("item", last("section")), (HOUR,), prior="item"),
                Family("since", ("section",), (DAY,), prior="section", recent=Recent("item", 3), naive_bayes=True),
            ),
        ),
    ),
    log=Log(user_id="customer", time_zone="UTC"),
)
"""

MISTAKES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a misspelled context in a key": (
        '("item", last("section"))',
        '("item", "devcie")',
        ("family after", "key", "'devcie'", "there are user, item, device"),
    ),
    "a misspelled attribute to remember": (
        'last("section")',
        'last("sektion")',
        ("family after", "'last_sektion'", "section"),
    ),
    "a family on an unknown key": (
        '"bought", ("item",)',
        '"bought", ("basket",)',
        ("family bought", "'basket'", "there are"),
    ),
    "one column without its comma": (
        "columns=COLUMNS",
        'columns=(Id("device"))',
        ("columns", "Id(name='device'", "wants a comma"),
    ),
    "a key that is a text": ('"bought", ("item",)', '"bought", ("item")', ("family bought", "key", "'item'", "comma")),
    "a negative half-life": (
        '("item",), (HOUR, DAY)',
        '("item",), (-HOUR, DAY)',
        ("family bought", "half_lives", "-3600.0", "above 0"),
    ),
    "a half-life of nothing": (
        '("item",), (HOUR, DAY)',
        '("item",), (0, DAY)',
        ("family bought", "half_lives", "0", "above 0"),
    ),
    "a half-life that is no number": (
        '("item",), (HOUR, DAY)',
        '("item",), (float("nan"), DAY)',
        ("family bought", "half_lives", "nan", "above 0"),
    ),
    "half-lives that do not rise": (
        '("item",), (HOUR, DAY)',
        '("item",), (DAY, HOUR)',
        ("family bought", "half_lives", "must rise"),
    ),
    "a kind that is no label": (
        'kind="purchase")',
        'kind="order")',
        ("family bought", "kind 'order'", "click, purchase", 'Label("order", weight=0)'),
    ),
    "a label that cannot come": (
        'Label("click")',
        'Label("Click!")',
        ("Label('Click!')", "lower-case word"),
    ),
    "a label that nothing is left of": (
        "within=timedelta(days=1)",
        "within=timedelta(days=90)",
        ("Label('purchase')", "within", "30 days"),
    ),
    "a label in seconds": ("within=timedelta(days=1)", "within=86400", ("Label('purchase')", "86400", "timedelta")),
    "a rate of 5": ("columns=COLUMNS,", "columns=COLUMNS, base_rate=5,", ("base_rate 5", "between 0 and 1")),
    "a weight below 0": ("weight=5", "weight=-5", ("Label('purchase')", "weight=-5", "0 or above")),
    "an unknown choice of what a column belongs to": (
        'Id("section", of="item")',
        'Id("section", of="items")',
        ("Id('section')", "of='items'", "request, item, user"),
    ),
    "an unknown choice of a network": (
        'name="shop",',
        'name="shop", design=Design(Shape(ranker="transformer")),',
        ("shape.ranker", "'transformer'", "attention"),
    ),
    "a name with a dash": ('name="shop"', 'name="web-shop"', ("name 'web-shop'", "single _")),
    "a name with capitals": ('name="shop"', 'name="Shop"', ("name 'Shop'", "lower-case")),
    "a name too long": ('name="shop"', f'name="{"x" * 40}"', ("32 at most",)),
    "a name that Feast would not tell apart": ('name="shop"', 'name="shop__eu"', ("name 'shop__eu'", "single _")),
    "two columns of one name": (
        'Id("device"),',
        'Id("device"), Tags("device"),',
        ("declares 'device' twice", "another name"),
    ),
    "a column with a name that is taken": (
        'Id("device")',
        'Id("stage")',
        ("Id('stage')", "taken", 'Id("log_stage", column="stage")'),
    ),
    "a family declared after the one that needs it": (
        'prior="item", kind',
        'prior="after", kind',
        ("family bought", "prior 'after'", "before it"),
    ),
    "a field that is not there": (
        "labels=(",
        "label=(",
        ("Features has no field 'label'", "did you mean labels?", "it has columns"),
    ),
    "a wrong type for a part": ("log=Log(", "log=dict(", ("surface shop", "log is {", "write log=Log(...)")),
    "a zone that is none": ('time_zone="UTC"', 'time_zone="Mars"', ("time_zone='Mars'", '"UTC"')),
    "a bag in a key twice": (
        '("section",), (DAY,), prior="section", recent',
        '("genres",), (DAY,), prior="section", recent',
        ("family since", "genres", "only one may"),
    ),
    "an update every second": ('name="shop",', 'name="shop", every=timedelta(seconds=1),', ("every", "0:01:00")),
    "a Python error": ("COLUMNS = (", "COLUMNS = unknown(", ("NameError", "'unknown'")),
    "what is no Python": ("SURFACE = Surface(", "SURFACE = Surface((", ("'(' was never closed",)),
    "no surface at all": ("SURFACE =", "OTHER =", ("declares no surface", "SURFACE = Surface(")),
    "a family left out that is not there": (
        "            COLUMNS,\n",
        '            COLUMNS, without=("item_colour",),\n',
        ("without", "'item_colour'", "there are all"),
    ),
}


def written(folder: Path, text: str, name: str = "shop.py") -> Path:
    path = folder / name
    path.write_text(dedent(text))
    return path


def test_a_sound_file_is_a_surface(tmp_path: Path) -> None:
    one = read_file(written(tmp_path, GOOD))
    assert one.surface.name == "shop"
    assert one.surface.features.kinds == ("click", "purchase")
    assert one.surface.features.remembered == ("section",)
    assert one.surface.layout.weights == (1.0, 5)
    assert {"price", "price_log", "price_known"} <= set(one.surface.layout.dense)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_a_message_that_a_person_can_act_on(tmp_path: Path, mistake: str) -> None:
    right, wrong, words = MISTAKES[mistake]
    assert right in GOOD
    path = written(tmp_path, GOOD.replace(right, wrong, 1))
    with pytest.raises(BadSurface) as caught:
        read_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert mistake == "no surface at all" or ", line " in message
    assert [word for word in words if word not in message] == []


def test_of_two_files_with_one_name_the_second_is_refused_and_names_the_first(tmp_path: Path) -> None:
    first = written(tmp_path, GOOD, "a.py")
    second = written(tmp_path, GOOD, "b.py")
    read = read_folder(tmp_path)
    assert read.surfaces["shop"].path == first
    assert f"'shop' is declared in {first}" in read.broken[second]


def test_a_wrong_file_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    broken = written(tmp_path, "SURFACE = 1 /", "ads.py")
    written(tmp_path, "raise SystemExit", "_helper.py")
    read = read_folder(tmp_path)
    assert list(read.surfaces) == ["shop"]
    assert list(read.broken) == [broken]
    with pytest.raises(BadSurface, match=r"ads\.py, line 1"):
        find(tmp_path, "ads")


def test_a_file_that_ends_its_program_ends_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    broken = written(tmp_path, "import sys\nsys.exit(3)", "ads.py")
    read = read_folder(tmp_path)
    assert list(read.surfaces) == ["shop"]
    assert read.broken[broken] == f"{broken}, line 2: SystemExit: 3"


def test_surfaces_whose_names_would_meet_in_feast_are_not_both_taken(tmp_path: Path) -> None:
    view = 'views=(TeamView(name="eu_served", table="t", keys={"k": "user_id"}, values=("v",)),), log='
    first = written(tmp_path, GOOD.replace("log=", view, 1), "a.py")
    clash = written(tmp_path, GOOD.replace('name="shop"', 'name="shop_eu"'), "b.py")
    written(tmp_path, GOOD.replace('name="shop"', 'name="shop_us"'), "c.py")
    read = read_folder(tmp_path)
    assert list(read.surfaces) == ["shop", "shop_us"]
    assert list(read.broken) == [clash]
    assert f"'shop_eu': {first} has a view that Feast calls shop_eu_served too" in read.broken[clash]


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "__init__"])
def test_an_example_is_sound_and_becomes_ones_own(tmp_path: Path, name: str) -> None:
    assert find(tmp_path, name).path.parent == EXAMPLES
    one, added = add(tmp_path / "surfaces", name)
    assert added
    assert one.surface.name == name
    again, added = add(tmp_path / "surfaces", name)
    assert not added
    assert again.version == one.version


def test_a_name_that_nothing_declares_names_those_that_are(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    with pytest.raises(
        BadSurface, match=r"surface 'moon': .* declares shop, and the examples are feed.*millrace surface add feed"
    ):
        find(tmp_path, "moon")


@pytest.mark.parametrize("read", [read_file])
def test_what_cannot_be_read_says_so(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(BadSurface, match="cannot be read"):
        read(tmp_path / "gone.py")
