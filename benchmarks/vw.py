"""The peer: Vowpal Wabbit, logistic regression on hashed ids and their crosses, over the same stream.

    text = VwText.of(stream, FEED.features)
    result = prequential(CROSSED, text, stream, every=EVERY_EVENT, fewest=1, folder=folder, name="Vowpal Wabbit")

It reads a text file, as its users give it one, in which a window stands twice where it trains at a cadence: once
without labels, which it predicts and does not train on, and once with them. So all of it runs in its own compiled loop.
Reading that text costs it no more than reading its binary cache would (measured), and one pass is what serves it best.
"""

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TextIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.prequential import StreamResult
from benchmarks.stream import EVERY_EVENT, Stream, schedule
from features.declare.features import Features

ITEM, SECTION, USER, CONTEXT, LAST, BEFORE_LAST = "i", "s", "u", "c", "l", "m"
"""Its namespaces: the item, its attributes, the user, the context, the item clicked last, the one before."""


@dataclass(frozen=True)
class VowpalWabbit:
    """One way to run it."""

    name: str

    crosses: tuple[str, ...] = ()
    """Namespaces whose ids are crossed: two letters or three."""

    options: tuple[str, ...] = ("--coin",)
    """The optimiser. Tried on the Globo log: its default at three rates, plain adaptive, FTRL-proximal, coin betting
    (Orabona & Tommasi 2017). The last was best after every event, AUC .793 against .780 and .773; in windows
    FTRL-proximal was, .790 and .764 every 10 min and 1 h against .788 and .759."""

    bits: int = 24
    """Of its table of weights; one more is no better."""

    @property
    def arguments(self) -> list[str]:
        crosses = [argument for cross in self.crosses for argument in ("--interactions", cross)]
        return ["--loss_function", "logistic", "--link", "logistic", "-b", str(self.bits), *crosses, *self.options]


PAIRS = ("is", "iu", "ic", "il", "im", "su", "sc", "sl", "sm")
"""Item and section each with all others."""

UNCROSSED = VowpalWabbit("Vowpal Wabbit without crosses")
CROSSED = VowpalWabbit("Vowpal Wabbit with crosses", PAIRS)
IN_WINDOWS = replace(CROSSED, options=("--ftrl",))
TRIPLES = VowpalWabbit("Vowpal Wabbit with more crosses", (*PAIRS, "ilm", "ilc"))


@dataclass(frozen=True, eq=False)
class VwText:
    """The stream in its format."""

    features: pl.Series
    """[N], a line each without its label."""

    clicked: NDArray[np.bool_]
    """[N]"""

    cpu_s: float
    """CPU seconds that making it took; they count apart, as the fold's do for us."""

    @staticmethod
    def of(stream: Stream, declared: Features) -> "VwText":
        """The ids of the stream's impressions, without the surface's counters and other numbers."""
        began = time.process_time()
        names, examples = stream.layout.ids, stream.examples
        columns = [(ITEM, "item"), *((SECTION, column.name) for column in declared.of_items), (USER, "user")]
        columns += [(CONTEXT, column.name) for column in declared.contexts]
        namespaces = [(space, examples.ids[:, names.index(name)]) for space, name in columns]
        namespaces += list(zip((LAST, BEFORE_LAST), examples.history.T[:2], strict=False))
        line, words, space_before = "", dict[str, NDArray[np.int64]](), ""
        for number, (space, ids) in enumerate(namespaces):
            line += f" |{space}" if space != space_before else ""
            line += f" {chr(ord('a') + number)}{{}}"
            words[str(number)] = np.unique(ids, return_inverse=True)[1]
            space_before = space
        features = pl.DataFrame(words).select(pl.format(line.lstrip(), *words)).to_series()
        return VwText(features, examples.label > 0, time.process_time() - began)

    def write(self, path: Path, stream: Stream, every: timedelta | None, fewest: int) -> NDArray[np.int64]:
        """Write its file; returns the row of each line whose prediction counts, -1 for the others [lines]."""
        everything = slice(0, len(self.features))
        with path.open("w", encoding="utf-8") as file:
            if every == EVERY_EVENT:  # predicted, then trained on, line after line: that is its own way
                self._labelled(file, everything)
                return np.where(np.arange(everything.stop) >= stream.warm, np.arange(everything.stop), -1)
            warm, steps = schedule(stream, every, fewest=fewest)
            self._labelled(file, slice(0, warm))
            rows = [np.full(warm, -1)]
            for step in steps:
                _lines(file, self.features[step.test])
                self._labelled(file, step.train)
                rows += [np.arange(step.test.start, step.test.stop), np.full(step.train.stop - step.train.start, -1)]
        return np.concatenate(rows)

    def _labelled(self, file: TextIO, rows: slice) -> None:
        label = pl.Series(np.where(self.clicked[rows], "1 ", "-1 "), dtype=pl.String)
        _lines(file, label + self.features[rows])


def _lines(file: TextIO, lines: pl.Series) -> None:
    if len(lines):
        file.write("\n".join(lines) + "\n")


def prequential(
    peer: VowpalWabbit, text: VwText, stream: Stream, *, every: timedelta | None, fewest: int, folder: Path, name: str
) -> StreamResult:
    """The peer over the whole stream, updated as ours is or after every event. ``folder`` is for its files."""
    from vowpalwabbit import Workspace

    lines, predictions = folder / "lines.txt", folder / "predictions.txt"
    rows = text.write(lines, stream, every, fewest)
    began = time.process_time()
    workspace = Workspace(arg_list=["--quiet", "-d", str(lines), "-p", str(predictions), *peer.arguments])
    workspace.finish()
    cpu = time.process_time() - began
    predicted = pl.read_csv(predictions, has_header=False, schema={"p": pl.Float64})["p"].to_numpy()
    assert len(predicted) == len(rows), "a prediction for every line"
    scores = np.full(len(text.features), np.nan)
    scores[rows[rows >= 0]] = predicted[rows >= 0]
    updates = len(rows) if every == EVERY_EVENT else int((np.diff((rows < 0).astype(np.int8)) == 1).sum())
    lines.unlink()
    predictions.unlink()
    return StreamResult(name, stream, scores[stream.warm :], cpu, updates)
