"""The peer: Vowpal Wabbit, logistic regression on hashed ids and their crosses, over the same stream.

    text = Text.of(stream, FEED.features)
    run = follow(CROSSES, text, stream, every=EACH, fewest=1, folder=folder)

It reads a text file, as it does at home, in which a window stands twice where it is to learn at a cadence: once without
labels, which it predicts and does not learn, and once with them. So all of it runs in its own compiled loop. Reading
that text costs it no more than reading its binary cache would (measured), and one pass is what serves it best.
"""

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TextIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.prequential import Run
from benchmarks.stream import EACH, Stream, schedule
from features.declare.families import Features

ITEM, SECTION, USER, CONTEXT, LAST, BEFORE_LAST = "i", "s", "u", "c", "l", "m"
"""Its namespaces: the item, its attributes, the user, the context, the item clicked last, the one before."""


@dataclass(frozen=True)
class Peer:
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

ALONE = Peer("Vowpal Wabbit without crosses")
CROSSES = Peer("Vowpal Wabbit with crosses", PAIRS)
IN_WINDOWS = replace(CROSSES, options=("--ftrl",))
TRIPLES = Peer("Vowpal Wabbit with more crosses", (*PAIRS, "ilm", "ilc"))


@dataclass(frozen=True, eq=False)
class Text:
    """The stream in its format."""

    features: pl.Series
    """[N], a line each without its label."""

    clicked: NDArray[np.bool_]
    """[N]"""

    cpu_s: float
    """CPU seconds that making it took; they are beside, as the fold's are for us."""

    @staticmethod
    def of(stream: Stream, declared: Features) -> "Text":
        """The ids of the stream's impressions; what the surface makes of the user's state and counts is not told."""
        began = time.process_time()
        names, examples = stream.layout.ids, stream.examples
        columns = [(ITEM, "item"), *((SECTION, name) for name in declared.attributes), (USER, "user")]
        columns += [(CONTEXT, name) for name in declared.contexts]
        told = [(space, examples.ids[:, names.index(name)]) for space, name in columns]
        told += list(zip((LAST, BEFORE_LAST), examples.history.T[:2], strict=False))
        line, words, space_before = "", dict[str, NDArray[np.int64]](), ""
        for number, (space, ids) in enumerate(told):
            line += f" |{space}" if space != space_before else ""
            line += f" {chr(ord('a') + number)}{{}}"
            words[str(number)] = np.unique(ids, return_inverse=True)[1]
            space_before = space
        features = pl.DataFrame(words).select(pl.format(line.lstrip(), *words)).to_series()
        return Text(features, examples.label > 0, time.process_time() - began)

    def write(self, path: Path, stream: Stream, every: timedelta | None, fewest: int) -> NDArray[np.int64]:
        """Write what it is to read; returns the row of each line whose prediction counts, -1 for the others [lines]."""
        everything = slice(0, len(self.features))
        with path.open("w", encoding="utf-8") as file:
            if every == EACH:  # predicted, then learned, line after line: that is its own way
                self._labelled(file, everything)
                return np.where(np.arange(everything.stop) >= stream.warm, np.arange(everything.stop), -1)
            warm, steps = schedule(stream, every, fewest=fewest)
            self._labelled(file, slice(0, warm))
            rows = [np.full(warm, -1)]
            for step in steps:
                _lines(file, self.features[step.score])
                self._labelled(file, step.learn)
                rows += [np.arange(step.score.start, step.score.stop), np.full(step.learn.stop - step.learn.start, -1)]
        return np.concatenate(rows)

    def _labelled(self, file: TextIO, rows: slice) -> None:
        label = pl.Series(np.where(self.clicked[rows], "1 ", "-1 "), dtype=pl.String)
        _lines(file, label + self.features[rows])


def _lines(file: TextIO, lines: pl.Series) -> None:
    if len(lines):
        file.write("\n".join(lines) + "\n")


def follow(
    peer: Peer, text: Text, stream: Stream, *, every: timedelta | None, fewest: int, folder: Path, name: str
) -> Run:
    """The peer over the whole stream, updated as ours is or after every event. ``folder`` is for its files."""
    from vowpalwabbit import Workspace

    lines, said = folder / "lines.txt", folder / "predictions.txt"
    rows = text.write(lines, stream, every, fewest)
    began = time.process_time()
    workspace = Workspace(arg_list=["--quiet", "-d", str(lines), "-p", str(said), *peer.arguments])
    workspace.finish()
    cpu = time.process_time() - began
    predicted = pl.read_csv(said, has_header=False, schema={"p": pl.Float64})["p"].to_numpy()
    assert len(predicted) == len(rows), "a prediction for every line"
    scores = np.full(len(text.features), np.nan)
    scores[rows[rows >= 0]] = predicted[rows >= 0]
    updates = len(rows) if every == EACH else int((np.diff((rows < 0).astype(np.int8)) == 1).sum())
    lines.unlink()
    said.unlink()
    return Run(name, stream, scores[stream.warm :], cpu, updates)
