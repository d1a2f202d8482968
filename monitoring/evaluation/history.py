"""What a surface remembers of its updates, and what of that the next one needs: one value, `History`.

    recalled = recall(past, claim)        # the same function for production, backtest and drill

They differ in where the past comes from: a table that only grows (``monitoring/records/history_store.py``), or a list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from monitoring.checks.history import DAYS_COMPARED, RECENT_SPAN
from monitoring.checks.limits import Limits, PastWindow, is_factor
from monitoring.checks.own import own_limit
from monitoring.checks.profiles import Profile
from monitoring.evaluation.process_record import ProcessRecord, latest_before
from monitoring.names import CANARY, GATE
from monitoring.statistics.error_control import PastTests

if TYPE_CHECKING:
    from models.frames import Frame
    from models.learning.model import Model

DAY, HOUR = timedelta(days=1), timedelta(hours=1)

WINDOWS_OF = timedelta(days=DAYS_COMPARED)
"""How far back windows are compared with."""

PROFILES = 24
"""Profiles that a window's features are compared with, the newest."""

NEEDS = 336
"""Windows that say what limits are usual, the newest: two weeks of hours."""

CHECK = "check/"
"""Begins the codes of data checks."""

QUERIES = "query_drift/beyond chance"
"""The code under which a window's drift of queries is kept."""

COLUMNS = ("drift/", "season_drift/", "query_drift/")
"""Begin the codes of columns' drift, and of queries'."""

SLOW = 2 * DAY
"""The newest windows say nothing of how far a column usually drifts: what drifts slowly would make itself usual."""

MOST_FAILED = 200
"""Updates that failed the same check, at most: more than a day of those that wait for a person."""

State = Literal["canary", "promoted", "held", "rejected", "superseded", "expired"]


@dataclass(frozen=True, eq=False)
class Remembered:
    """What one update leaves behind for those after it."""

    update_id: int
    champion: str | None
    """The version that the challenger was judged against."""

    window: PastWindow
    failed: tuple[str, ...]
    """Data checks that failed, by name."""

    process_before: ProcessRecord | None = None
    """The process record before the challenger, and with it; None where nothing was compared with a champion."""

    process_after: ProcessRecord | None = None
    tests: PastTests | None = None
    """The tests of new designs, with this one; None where the challenger was none."""

    baseline: str | None = None
    """The proven baseline's version, before this update."""

    baseline_moves: bool = False
    """Whether the challenger, if it is promoted, is the next proven baseline."""

    profiles: tuple[Profile, ...] = ()
    """Of the window's features, by hour, the newest last."""

    needs: Mapping[str, float] = field(default_factory=dict)
    """By the code of a finding: the least limit with which the window passes."""


@dataclass(frozen=True, eq=False)
class PastUpdate:
    """An update that came to a verdict, and what became of it."""

    remembered: Remembered
    state: State
    version: str | None
    """The challenger's."""

    promoted_by: str | None
    """Who decided to promote it: 'gate', 'canary', or a person's name."""

    measured_at: datetime


@dataclass(frozen=True)
class InService:
    """The champion as the promotions have it."""

    version: str
    restored_at: datetime | None = None
    """When it came back by a rollback; None for one that an update brought."""


@dataclass(frozen=True)
class CurrentUpdate:
    """The update that the past is recalled for."""

    update_id: int
    champion: InService | None
    start: datetime
    end: datetime
    """Of its window."""

    judged_from: datetime
    """What was shown after this judges."""


@dataclass(frozen=True, eq=False)
class Recalled:
    """What of the past an update needs, in plain values."""

    windows: tuple[PastWindow, ...] = ()
    """Promoted ones, newest first: the latest, and those at this hour of earlier days."""

    profiles: tuple[Profile, ...] = ()
    """Of promoted windows, in time order."""

    failed_before: Mapping[str, int] = field(default_factory=dict)
    """Windows rejected with a check failed, by its name, of those in a row up to this one that failed it."""

    needed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By the code of a finding: the least limits with which windows passed, the newest first. Of those held one after
    another the last one counts, which holds them all; what was rejected was no window of the surface's. Of columns'
    drift those older than two days."""

    process: ProcessRecord = field(default_factory=ProcessRecord)
    tests: PastTests = field(default_factory=PastTests)
    baseline: str | None = None
    """The last champion that was shown better than the proven baseline before it; None without a champion."""

    def needed_of(self, code: str) -> Mapping[str, tuple[float, ...]]:
        """By the subject of a code, ``code/subject``: the same."""
        begins = f"{code}/"
        return {name.removeprefix(begins): values for name, values in self.needed.items() if name.startswith(begins)}

    def own(self, declared: Limits) -> Mapping[str, float]:
        """By data check: the limit that the surface's own windows need, where enough of them are known."""
        checks = self.needed_of(CHECK.removesuffix("/"))
        found = {name: own_limit(values, declared.of(name), factor=is_factor(name)) for name, values in checks.items()}
        return {name: limit for name, limit in found.items() if limit is not None}


@dataclass(frozen=True, eq=False)
class Reference:
    """A champion of before, to see that small permitted losses do not add up."""

    name: str
    """'a day ago', 'a week ago' or 'proven baseline'."""

    version: str
    model: "Model"


@dataclass(frozen=True, eq=False)
class History:
    """All that an update needs to know of the past."""

    recalled: Recalled = field(default_factory=Recalled)
    references: tuple[Reference, ...] = ()
    """Champions of before."""

    earlier: "Frame | None" = None
    """Impressions of the day before the window, on which forgetting shows."""

    trained_on: "Frame | None" = None
    """The latest part of what the champion was trained on, for drift."""

    season: "Frame | None" = None
    """Impressions of the same hours of earlier days (``monitoring/evaluation/season.py``), for drift too."""


def recall(past: Sequence[PastUpdate], current: CurrentUpdate) -> Recalled:
    """What `current` needs of the past, which may come in any order and be of later updates too."""
    ordered = sorted(
        (update for update in past if update.remembered.update_id < current.update_id),
        key=lambda update: update.remembered.update_id,
    )
    process, baseline = _process(ordered, current)
    tests = [update.remembered.tests for update in ordered if update.remembered.tests is not None]
    return Recalled(
        windows=_windows(ordered, current),
        profiles=_profiles(ordered),
        failed_before=_failed_before(ordered, current),
        needed=_needed(ordered, current),
        process=process,
        tests=tests[-1] if tests else PastTests(),
        baseline=baseline,
    )


def since(current: CurrentUpdate) -> datetime:
    """Windows that `recall` compares with ended after this."""
    return _earliest(current) - WINDOWS_OF


def _earliest(current: CurrentUpdate) -> datetime:
    return current.start - max(HOUR, 3 * (current.end - current.start))


def _windows(past: Sequence[PastUpdate], current: CurrentUpdate) -> tuple[PastWindow, ...]:
    # As far as ``checks/history.py`` looks: an hour to either side, and as far back as growth is measured from.
    length = current.end - current.start
    earliest, latest = _earliest(current), current.start + length / 2 + max(HOUR, length / 2)
    promoted = [update.remembered.window for update in past if update.state == "promoted"]
    return tuple(
        window
        for window in reversed(promoted)
        if earliest - WINDOWS_OF < window.end <= current.start
        and (
            window.end >= current.start - max(RECENT_SPAN, 3 * length)
            or (window.start + (window.end - window.start) / 2 - earliest) % DAY <= latest - earliest
        )
    )


def _profiles(past: Sequence[PastUpdate]) -> tuple[Profile, ...]:
    promoted = [update.remembered.profiles for update in past if update.state == "promoted"]
    return tuple([profile for profiles in promoted[-PROFILES:] for profile in profiles][-PROFILES:])


def _needed(past: Sequence[PastUpdate], current: CurrentUpdate) -> dict[str, tuple[float, ...]]:
    found: dict[str, list[float]] = {}
    start: datetime | None = None
    for update in [update for update in reversed(past) if update.state != "rejected"][:NEEDS]:
        if update.remembered.window.start != start:
            start = update.remembered.window.start
            lately = update.remembered.window.end > current.start - SLOW
            for code, limit in update.remembered.needs.items():
                if not (lately and code.startswith(COLUMNS)):
                    found.setdefault(code, []).append(limit)
    return {code: tuple(values) for code, values in found.items()}


def _failed_before(past: Sequence[PastUpdate], current: CurrentUpdate) -> dict[str, int]:
    """One that was held does not end the row: it waits for a person, who has until the row ends by itself."""
    champion = current.champion.version if current.champion else None
    judged = [update for update in past if update.remembered.champion == champion]
    counts: dict[str, int] = {}
    going: set[str] | None = None
    for update in reversed(judged[-MOST_FAILED:]):
        failed = set(update.remembered.failed)
        going = failed if going is None else going & failed
        if update.state == "promoted" or not going:
            break
        if update.state == "rejected":
            counts |= {name: counts.get(name, 0) + 1 for name in going}
    return counts


def _process(past: Sequence[PastUpdate], current: CurrentUpdate) -> tuple[ProcessRecord, str | None]:
    """The process record before a challenger, and the proven baseline's version."""
    if current.champion is None:
        return ProcessRecord(), None
    champion = current.champion
    records: list[ProcessRecord] = []
    baseline = champion.version
    for update in past:
        remembered = update.remembered
        made_it = update.state == "promoted" and update.version == champion.version
        if not made_it and remembered.champion != champion.version:
            continue
        by_person = made_it and update.promoted_by not in (GATE, CANARY, None)
        moves = remembered.baseline_moves or by_person
        # After a rollback the process has to show itself anew: only what was judged since counts.
        if champion.restored_at is None or update.measured_at > champion.restored_at:
            # The one before a challenger is there for the next whose judged part begins within its own.
            both = [each for each in (remembered.process_before, remembered.process_after) if each is not None]
            if made_it:
                both = [record.promoted(baseline_moves=moves) for record in both]
            # A person who promoted what the gate held has looked: the CUSUM begins anew.
            records += [record.reset() for record in both] if by_person else both
        if made_it:
            baseline = (champion.version if moves else remembered.baseline) or champion.version
    return latest_before(records, current.judged_from), baseline
