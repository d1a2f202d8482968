"""Looking early at real experiments: how often a plain test that is looked at after every snapshot finds something, how
often ours does, how early, and how often either contradicts what the plain test says at the last look.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import NormalDist, median

import polars as pl

from benchmarks.bench import Progress
from benchmarks.table import Row
from monitoring.live.canary import TUNED_FOR
from monitoring.statistics.difference import Ratio, lift

LEVEL = 0.05
"""Two-sided, of both tests."""

SERIES = ("experiment_id", "variant_id", "metric_id")
FIGURES = ("count_c", "count_t", "mean_c", "mean_t", "variance_c", "variance_t")
"""Cumulative figures of control and treatment."""


TUNINGS = (TUNED_FOR, 50 * TUNED_FOR)
"""Users of an arm at which our bounds are tightest: as a canary has it, and nearer to what these experiments count."""


@dataclass(frozen=True)
class Snapshot:
    """Both arms at one moment."""

    at: float
    """Share of the experiment's length."""

    control: Ratio
    treatment: Ratio


@dataclass(frozen=True)
class Verdicts:
    """What a test says at the looks of one series: -1 worse, 1 better, 0 nothing."""

    at: tuple[float, ...]
    says: tuple[int, ...]

    @property
    def first(self) -> int | None:
        """The first look that says something."""
        return next((look for look, said in enumerate(self.says) if said), None)


def compared(path: Path, *, progress: Progress) -> Iterator[Row]:
    """All series of a parquet file with a row a snapshot: SERIES, ``time_since_start`` and FIGURES, as in the ASOS
    Digital Experiments Dataset (Liu, Cardoso, Couturier & McCoy 2021)."""
    series = list(read(path))
    progress(f"{len(series)} series, {sum(map(len, series)):,} snapshots")
    plain = [looked_at(one, plain_test) for one in series]
    last = [each.says[-1] for each in plain]
    yield Row("series of real experiments", float(len(series)))
    yield from _rows("plain 5 % z-test", plain, last)
    for tuned_for in TUNINGS:
        ours = [looked_at(one, partial(sequential_test, tuned_for=tuned_for)) for one in series]
        yield from _rows(f"ours, tuned for {tuned_for:,} users", ours, last)


def read(path: Path) -> Iterator[list[Snapshot]]:
    """The series of a file, each in order of time. Snapshots without a variance are left out."""
    table = pl.read_parquet(path, columns=[*SERIES, "time_since_start", *FIGURES]).drop_nulls()
    for _, rows in table.sort(*SERIES, "time_since_start").group_by(SERIES, maintain_order=True):
        length = float(rows["time_since_start"][-1])
        yield [
            Snapshot(
                at / length,
                Ratio(round(count_c), mean_c, 1.0, variance_c),
                Ratio(round(count_t), mean_t, 1.0, variance_t),
            )
            for at, count_c, count_t, mean_c, mean_t, variance_c, variance_t in rows.select(
                "time_since_start", *FIGURES
            ).iter_rows()
        ]


def looked_at(series: Sequence[Snapshot], test: Callable[[Snapshot], int]) -> Verdicts:
    """A test looked at after every snapshot."""
    return Verdicts(tuple(look.at for look in series), tuple(test(look) for look in series))


def plain_test(look: Snapshot) -> int:
    """What a two-sided z-test that is meant for one look says."""
    error = sqrt(look.control.error**2 + look.treatment.error**2)
    apart = look.treatment.top - look.control.top
    return _sign(apart) if abs(apart) > NormalDist().inv_cdf(1 - LEVEL / 2) * error else 0


def sequential_test(look: Snapshot, tuned_for: int) -> int:
    """What a canary's test says: is the treatment's mean another than the control's?"""
    shown = lift(look.treatment, look.control, LEVEL / 2, tuned_for=tuned_for)
    return 1 if shown.lower > 1 else -1 if shown.upper < 1 else 0


def _rows(name: str, tested: Sequence[Verdicts], last: Sequence[int]) -> Iterator[Row]:
    """How often a test speaks and at which share of the length, beside what the plain test says at the last look."""
    all_, first = len(tested), [(each, each.first) for each in tested]
    spoke = [
        (each.says[look], each.at[look], at_last)
        for (each, look), at_last in zip(first, last, strict=True)
        if look is not None
    ]
    yield Row(f"{name}: significant at some look", _percent(len(spoke), all_), "%")
    yield Row(f"{name}: significant at the last look", _percent(sum(each.says[-1] != 0 for each in tested), all_), "%")
    if spoke:
        yield Row(f"{name}: share of the length at the first, median", 100 * median(at for _, at, _ in spoke), "%")
    yield Row(
        f"{name}: contradicts the plain test at the last look",
        _percent(sum(said != at_last for said, _, at_last in spoke), all_),
        "%",
    )
    yield Row(
        f"{name}: of these, the other sign", _percent(sum(said == -at_last for said, _, at_last in spoke), all_), "%"
    )
    found = sum(at_last != 0 and said == at_last for said, _, at_last in spoke)
    yield Row(
        f"{name}: of what is significant at the last look, found at some look",
        _percent(found, sum(each != 0 for each in last)),
        "%",
    )


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
