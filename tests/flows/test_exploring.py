"""A surface that explores, from its file to the version that serves."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from flows.surface_files import BadSurface, read_file
from flows.taken_up import served, take_up
from infra.settings import Settings
from models.exploration.plackett_luce import PlackettLuce
from models.exploration.thompson import Thompson
from tests.worlds.loop import Loop, after, expect_consistent, run_update

SHOP = """
from features.declare.columns import Id
from features.declare.features import Features
from flows.surface import Surface
from models.exploration.{module} import {kind}
from models.learning.design import Design
from models.networks.shape import Shape

SURFACE = Surface(
    name="shop",
    features=Features(columns=(Id("device"),)),
    explore={explore},{more}
)
"""


def written(folder: Path, explore: str, more: str = "") -> Path:
    kind = explore.partition("(")[0]
    module = {"EpsilonGreedy": "epsilon_greedy", "Thompson": "thompson"}.get(kind, "plackett_luce")
    folder.mkdir(exist_ok=True)
    path = folder / "shop.py"
    path.write_text(SHOP.format(module=module, kind=kind, explore=explore, more=more))
    return path


def test_what_a_file_declares_is_served_checked_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "surfaces"
    path = written(folder, "PlackettLuce(temperature=0.3)")
    settings = Settings(home=tmp_path / "home", surfaces=folder)
    take_up(settings)
    assert served(settings)()["shop"].explore == PlackettLuce(0.3)
    written(folder, "EpsilonGreedy(0.1)")
    assert served(settings)()["shop"].explore == PlackettLuce(0.3), "until it is taken up"
    monkeypatch.setenv("MILLRACE_SURFACES", str(folder))
    checked = CliRunner().invoke(app, ["surface", "check", str(path)])
    assert "numbers, epsilon-greedy, 10 % at random, version" in checked.output
    shown = CliRunner().invoke(app, ["surface", "show", "shop"])
    assert "Exploration: epsilon-greedy, 10 % at random" in shown.output


@pytest.mark.parametrize(
    ("explore", "more", "words"),
    [
        ("PlackettLuce(temperature=-1)", "", ("temperature -1", "from 0.001 to 1000")),
        ("PlackettLuce", "", ("explore is <class", "write one of EpsilonGreedy(...)", "or None")),
        ("Thompson()", 'design=Design(Shape(ranker="popularity")),', ("popularity", "another ranker")),
    ],
)
def test_a_mistake_says_what_to_write(tmp_path: Path, explore: str, more: str, words: tuple[str, ...]) -> None:
    with pytest.raises(BadSurface) as caught:
        read_file(written(tmp_path / "surfaces", explore, more))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow")
def test_thompson_sampling_may_be_switched_on_and_off_and_no_update_needs_to_be_better_for_it(
    served_loop: Loop,
) -> None:
    loop = served_loop
    for hours, explore in ((16, Thompson()), (18, Thompson()), (20, None)):
        with loop.world(explore=explore) as world:
            outcome = run_update(world, after(hours))
            assert outcome.judged.evidence.hypothesis == "not_worse"
            version = outcome.published.version
            assert version is not None
            uri = world.registry.version("feed", version).artifact_uri
            posterior = world.loaded_version(version, uri).model.posterior
            assert (posterior is not None) == (explore is not None)
    expect_consistent(loop)
