"""The world behind the log changes: a new client version, a mix that shifts from day to day, a market switched on."""

import copy
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.declare.columns import Column, Number
from flows.drill.columns import common_values, having, values, widest, with_value
from flows.drill.faults.fault import Met, Scene, by_chance, hardly_new, independent_rows, refolded, some_requests
from flows.drill.windows import LogWindow
from monitoring.statistics.chance import CANNOT_BE, surprise_above

DAY = timedelta(days=1)

NEW_VALUE = "never-seen-9"

FEWEST_WINDOWS = 3
"""Windows of two days that are several."""


def client_version(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """A column of the request or the user has a value never seen before on a share of the requests; where there is
    none, a number of the item for a share of the items."""
    column, shown = _any_column(scene), scene.window.shown
    assert column is not None, "it was looked whether there is one"
    if column.of == "item":
        items = shown["item_id"].unique(maintain_order=True)
        chosen = items.filter(pl.Series(random.random(len(items)) < share))
        rows = shown["item_id"].is_in(chosen.implode()).to_numpy()
    else:
        rows = some_requests(shown, share, random)
    return Met((column.name,), refolded(scene, with_value(shown, column, rows, _unseen(shown, column))))


def cannot_be_new(scene: Scene, share: float) -> str | None:
    column = _any_column(scene)
    if column is None:
        return "No id of the request or the user, and no number, has a value in the window."
    return hardly_new(scene, share, _codes(scene.window.shown, column))


def _codes(shown: pl.DataFrame, column: Column) -> NDArray[np.int64]:
    """Of the values of each impression [N]."""
    known = [str(sorted(map(str, row))) for row in values(shown, column)]
    return np.unique(known, return_inverse=True)[1].astype(np.int64)


def _any_column(scene: Scene) -> Column | None:
    """The id with most common values, of the request before those of the user; else a number, of the item last."""
    shown = scene.window.shown
    numbers = [column for column in scene.features.numbers if any(values(shown, column))]
    numbers.sort(key=lambda number: number.of == "item")
    return _context(scene) or next(iter(numbers), None)


def _unseen(shown: pl.DataFrame, column: Column) -> object:
    """A value that no impression has."""
    if isinstance(column, Number):
        return 10 * max(abs(value) for row in values(shown, column) for value in row) + 1
    return NEW_VALUE


def slow_drift(scene: Scene, growth: float, random: np.random.Generator) -> Iterator[Met]:
    """The share of one value of a request's column grows by as much from window to window, over two days to ``growth``
    more than it was."""
    found = _growing(scene, growth)
    assert found is not None, "it was looked whether there is one"
    assert scene.before_run_up is not None, "likewise"
    column, value = found
    folding = copy.deepcopy(scene.before_run_up)
    windows = [*scene.run_up, scene.window]
    for place, window in enumerate(windows, 1):
        share = float(np.mean(having(window.shown, column, value)))
        taken = min(1.0, growth * place / len(windows) / max(1 - share, 1e-9))
        rows = some_requests(window.shown, taken, random)
        shown = with_value(window.shown, column, rows, value)
        yield Met((column.name,), LogWindow(window.start, window.end, folding.fold(shown, window.end), shown))


def cannot_drift(scene: Scene, growth: float) -> str | None:
    begins = scene.run_up[0].start if scene.run_up else scene.window.start
    if len(scene.run_up) + 1 < FEWEST_WINDOWS or scene.window.end - begins < DAY:
        return "The two days up to the window have not several windows, over a day or more, in which a model served."
    found = _growing(scene, growth)
    if found is None:
        return f"No column of the request has a common value that could grow by {100 * growth:.0f} points."
    column, value = found
    share = float(np.mean(having(scene.window.shown, column, value)))
    independent = independent_rows(scene, _codes(scene.window.shown, column))
    if surprise_above(share + growth, independent, share) < CANNOT_BE:
        of = f"of what is as good as {independent:,.0f} independent rows"
        return by_chance(scene, f"{column.name} {value} has {share + growth:.0%} in place of {share:.0%} {of}")
    return None


def _growing(scene: Scene, growth: float) -> tuple[Column, str] | None:
    """A column of the request or the user, and its most frequent value of those that leave room to grow."""
    shown = scene.window.shown
    column = widest(shown, scene.features.contexts)
    if column is None:
        return None
    shares = {value: float(np.mean(having(shown, column, value))) for value in common_values(shown, column)}
    return next(((column, value) for value, share in shares.items() if share + growth <= 1), None)


def market(scene: Scene, share: float, random: np.random.Generator) -> Met:
    """Users never seen before, with a value of a column never seen before, are a share of the traffic."""
    column, shown = _context(scene), scene.window.shown
    assert column is not None, "it was looked whether there is one"
    copied = shown.filter(pl.Series(some_requests(shown, share / (1 - share), random)))
    theirs = with_value(copied, column, np.ones(len(copied), dtype=bool), NEW_VALUE).with_columns(
        ("market-" + pl.col(name)).alias(name) for name in ("impression_id", "request_id", "user_id")
    )
    return Met((column.name, NEW_VALUE), refolded(scene, pl.concat([shown, theirs])))


def cannot_open(scene: Scene, share: float) -> str | None:
    column = _context(scene)
    if column is None:
        return "The surface has no id of the request or the user with a common value."
    return hardly_new(scene, share, _codes(scene.window.shown, column))


def _context(scene: Scene) -> Column | None:
    return widest(scene.window.shown, scene.features.contexts, fewest=1)
