"""The window of an update: its impressions, and what the data checks say of them before anything is trained on them.

checks = check(window, champion, history)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.log.json_texts import value_of
from models.examples import EMPTY, Examples
from models.frames import HALF_MICROSECOND, Frame
from models.learning.model import Model
from models.learning.scores import Scores
from monitoring.checks import features as feature_checks
from monitoring.checks import labels as label_checks
from monitoring.checks import limits as check_limits
from monitoring.checks import window as window_checks
from monitoring.checks.gaps import find_gap, usual_length
from monitoring.checks.ids import codes_of
from monitoring.checks.limits import Check, Expected, InForce
from monitoring.checks.own import KNOWN_FROM
from monitoring.checks.profiles import Profile
from monitoring.evaluation import drift, query_drift
from monitoring.evaluation.compare import measure
from monitoring.evaluation.comparison import Measures
from monitoring.evaluation.drift import MeasuredDrift
from monitoring.evaluation.history import QUERIES, History
from monitoring.evaluation.queries import keys_of, texts_of
from monitoring.evaluation.query_drift import Asked, QueryDrift
from monitoring.evaluation.season import has_week, is_long
from monitoring.evaluation.skew import Skew
from monitoring.evaluation.terms import Terms

TRAINED_ON, SAME_HOURS, WINDOWS_BEFORE = (
    "what the champion was trained on",
    "the same hours of earlier days",
    "the windows before",
)
"""What drift is measured against."""


@dataclass(frozen=True, eq=False)
class Champion:
    """The version in service, in memory."""

    version: str
    model: Model


@dataclass(frozen=True, eq=False)
class Window:
    """The impressions of ``(start, end]`` with their features and labels; those up to ``split`` are trained on."""

    update_id: int
    """Of the update; it seeds what is drawn."""

    start: datetime
    split: datetime
    end: datetime
    as_of: datetime
    """Labels are as they were known then."""

    frame: Frame
    """[N], the training part first."""

    terms: Terms
    lateness_s: NDArray[np.float64] | None = None
    """Seconds of each feedback of the window from when it happened to when the log knew of it."""

    propensity: NDArray[np.float64] | None = None
    """[N], the logged probabilities of showing; NaN where none was logged."""

    skew: Skew | None = None
    """What the fold's probes found in the window."""

    @property
    def trained_to(self) -> int:
        """The row at which the training part ends."""
        return int(np.count_nonzero(self.frame.examples.time <= self.split.timestamp() + HALF_MICROSECOND))

    @property
    def training_part(self) -> Frame:
        return self.frame[: self.trained_to]

    @property
    def judged_from(self) -> datetime:
        """What was shown after this judges."""
        return self.start if self.terms.judging == "progressive" else self.split


@dataclass(frozen=True, eq=False)
class Checks:
    """What was found of a window before anything was trained on it."""

    window: Window
    found: tuple[Check, ...]
    scores: NDArray[np.float64] | None
    """[N], the champion's, by which it ranks; None where there is none."""

    prequential: Measures | None
    """The champion's."""

    profiles: tuple[Profile, ...]
    """What the features look like, by hour, for later windows to be compared with."""

    drift: MeasuredDrift | None = None
    """From what the champion was trained on."""

    as_shown: NDArray[np.float64] | None = None
    """[N], the champion's expectation of labels, where it knows positions (``models.learning.scores``)."""

    season_drift: MeasuredDrift | None = None
    """From the same hours of earlier days: slow drift hides from the other."""

    query_drift: QueryDrift | None = None
    """From what the champion was trained on, of a surface that reads texts."""

    limits: InForce = field(default_factory=InForce)
    """What the checks were held against."""

    @property
    def drifts(self) -> tuple[MeasuredDrift, ...]:
        """Those that were measured."""
        return tuple(found for found in (self.drift, self.season_drift) if found is not None)

    @property
    def sound(self) -> bool:
        """No check found what must not be trained on."""
        return not any(check.breach == "reject" for check in check_limits.failed(self.found))


def check(window: Window, champion: Champion | None, history: History) -> Checks:
    """All data checks of a window, and its drift, by the model in service and the windows before it."""
    examples, table, terms = window.frame.examples, window.frame.table, window.terms
    past, limits = history.recalled.windows, InForce(terms.limits, history.recalled.own(terms.limits))
    users, gap = codes_of(table["user_id"]), find_gap(examples.time, window.start, past)
    model = None if champion is None else champion.model
    found = window_checks.check_window(
        table,
        examples.dense,
        terms.features,
        Expected(terms.schema_version, window.start, window.end, past, gap),
        limits,
        lateness_s=window.lateness_s,
        new=new_ids(examples, model, usual_length(past) or window.end - window.start),
    )
    profiles: tuple[Profile, ...] = ()
    if len(window.frame):
        order = _in_time_order(examples.time)
        dense, label, user, time = examples.dense[order], examples.label[order], users[order], examples.time[order]
        whole = Profile.of(dense, terms.features, label=label, user=user)
        profiles = tuple(Profile.by_hour(dense, terms.features, time=time, label=label, user=user, whole=whole))
        found += feature_checks.check_features(
            dense,
            terms.features,
            history.recalled.profiles,
            label,
            limits,
            ids=table["impression_id"][order],
            profile=whole,
            gap=gap,
            item=codes_of(table["item_id"])[order],
        )
    scores, as_shown, prequential = None, None, None
    if model is not None and len(examples):
        champion_scores = Scores.of(model, examples)
        scores, as_shown = champion_scores.ranked, champion_scores.as_shown
        prequential = measure(examples.label, examples.request, scores, expected=as_shown)
        contexts = contexts_of(table, terms.contexts)
        found += label_checks.check_labels(
            table, examples.label, champion_scores.known, past, limits, contexts=contexts
        )
    found = check_limits.reconsidered(found, history.recalled.failed_before)
    drifts = (None, None) if model is None else _drifts(window, model, history)
    return Checks(
        window,
        tuple(found),
        scores,
        prequential,
        profiles,
        drift=drifts[0],
        season_drift=drifts[1],
        as_shown=as_shown,
        query_drift=None if model is None else _query_drift(window, model, history),
        limits=limits,
    )


def _in_time_order(time: NDArray[np.float64]) -> slice | NDArray[np.int64]:
    """Rows [N] in order of time; a slice, which copies nothing, where they are."""
    return np.argsort(time, kind="stable") if (np.diff(time) < 0).any() else slice(None)


def _drifts(window: Window, model: Model, history: History) -> tuple[MeasuredDrift | None, MeasuredDrift | None]:
    """The window against the two parts of the past that the history has for it."""
    if not len(window.frame):
        return None, None
    terms, seed = window.terms, window.update_id
    random = np.random.default_rng(seed)
    now = _sample(window.frame, random)
    leaned_on = drift.important(now.examples.dense, model.score(now.examples), terms.features, len(terms.features))
    chosen = tuple(dict.fromkeys((*terms.numbers, *leaned_on)))[: drift.MOST_FEATURES]

    def columns(part: Frame) -> pl.DataFrame:
        context = part.table["context"]
        beside: dict[str, np.ndarray | pl.Series] = {
            name: value_of(context, key) for name, key in terms.contexts.items()
        }
        beside |= {"prediction": model.score(part.examples), "label": part.examples.label}
        return drift.sample(part.examples.dense, terms.features, beside, seed=seed, features=chosen)

    current, users = columns(now), codes_of(now.table["user_id"])
    counted = frozenset(chosen).difference(terms.numbers)
    rates = (float(np.nanmean(current[name].to_numpy())) for name in ("prediction", "label"))
    labels = max(min(rate, 1 - rate) for rate in rates) * len(window.frame)

    def measured(code: str, against: str, part: Frame | None, *, complete: bool = True) -> MeasuredDrift | None:
        if part is None or not len(part):
            return None
        before = _sample(part, random)
        usual, earlier = history.recalled.needed_of(code), columns(before)
        # What a young model predicts moves as counters fill: nobody knows by how much, until its windows tell.
        informing = counted if len(usual.get("prediction", ())) >= KNOWN_FROM else counted | {"prediction"}
        held_against = drift.Against(against, usual, terms.drift, informing=informing, complete=complete)
        return drift.measure(
            earlier,
            current,
            held_against,
            users=(codes_of(before.table["user_id"]), users),
            indistinguishable={"prediction": drift.within_chance(earlier["prediction"].to_numpy(), labels)},
        )

    shown = window.frame.table["shown_at"]
    long, season = is_long(shown), history.season
    return (
        measured("drift", TRAINED_ON, history.trained_on),
        measured(
            "season_drift",
            WINDOWS_BEFORE if long else SAME_HOURS,
            season,
            complete=long or (season is not None and has_week(season.table["shown_at"], shown)),
        ),
    )


def _query_drift(window: Window, champion: Model, history: History) -> QueryDrift | None:
    """The window's queries against those that the champion was trained on, by the encoder as it comes."""
    texts, before = window.frame.examples.texts, history.trained_on
    if champion.text is None or texts is None or before is None:
        return None
    return query_drift.measure(
        _asked(before, champion),
        _asked(window.frame, champion),
        texts.base.encode,
        usual=history.recalled.needed.get(QUERIES, ()),
        against=TRAINED_ON,
        seed=window.update_id,
    )


def _asked(part: Frame, model: Model) -> Asked:
    """The query of each request, and whose it was."""
    first = np.unique(part.examples.request, return_index=True)[1]
    keys = keys_of(model, part.examples)
    return Asked(
        np.zeros(0, np.int64) if keys is None else keys[first],
        codes_of(part.table["user_id"])[first],
        texts_of(model, part.examples),
    )


def _sample(part: Frame, random: np.random.Generator) -> Frame:
    """As many impressions as drift is measured on."""
    if len(part) <= drift.SAMPLE_ROWS:
        return part
    rows = np.sort(random.choice(len(part), drift.SAMPLE_ROWS, replace=False))
    return Frame(part.table[rows], part.examples[rows], part.without_row)


def new_ids(examples: Examples, champion: Model | None, usual: timedelta | None = None) -> dict[str, NDArray[np.bool_]]:
    """Which impressions [N] are of users without a history, and of items that have no row of their own yet.

    ``usual``: how long a window is. One that was held before is longer, and the items of its earlier parts are not new
    in the later ones, as they would not be had these been trained on. None: as the champion has it.
    """
    new = {}
    if examples.history.shape[1]:
        new["users"] = examples.history[:, 0] == EMPTY
    if champion is not None and "item" in champion.layout.ids and len(examples):
        items = examples.ids[:, champion.layout.ids.index("item")]
        new["items"] = ~champion.tables[champion.layout.ids.index("item")].admitted(items)
        if usual is not None:
            part = (examples.time - examples.time.min()) // max(usual.total_seconds(), 1.0)
            _, item = np.unique(items, return_inverse=True)
            first = np.full(item.max() + 1, np.inf)
            np.minimum.at(first, item, part)
            new["items"] &= part == first[item]
    return new


def contexts_of(table: pl.DataFrame, contexts: Mapping[str, str]) -> Mapping[str, pl.Series]:
    """Values [J] of several keys of the context, by name."""
    return {name: context_of(table, key) for name, key in contexts.items()}


def context_of(table: pl.DataFrame, name: str) -> pl.Series:
    """Values [J] of a key of the context, as text; ``none`` where an impression has none."""
    return value_of(table["context"], name).fill_null("none")
