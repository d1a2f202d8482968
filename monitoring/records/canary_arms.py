"""What a look at a canary reads: `monitoring.live.arms.Arms`, from the log, what serving counted, what a shadow scored.

Users are counted in the arm that their hash puts them in, whoever ranked for them (intention to treat). Of what was
shown since the canary began, only what this champion or this canary ranked counts. Rewards are of mature impressions;
clicks are those that have arrived by now. A look reads the log since the canary began, summed up by user.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import numpy as np
import polars as pl
import psycopg
from psycopg import sql

from features.declare.features import Features
from features.declare.labels import Label
from features.feast.training_frame import labelled_impressions, target_columns
from infra.postgres.copying import Schema, copy_out
from models.serving.rank.arms import arm_of
from models.versions.canaries import SCORE_BINS, CanaryRecord
from models.versions.canaries import Arm as Side
from monitoring.evaluation.compare import paired
from monitoring.live.arms import Arm, Arms, Preferences
from monitoring.statistics.difference import Ratio
from monitoring.statistics.sequential import Moments

# Impressions of the canary's time that one of the two ranked, with the combined target of each, and whether it had a
# click and is mature.
SHOWN = """
SELECT l.impression_id, l.user_id, l.request_id, l.event_timestamp AS shown_at, {reward} AS reward,
    ({click} > 0)::int AS clicked, l.event_timestamp <= {mature_to} AS mature, i.model_version = {version} AS by_canary,
    extract(epoch FROM least({now} - l.event_timestamp, {within}))::float8 AS exposure_s
FROM ({labelled}) l JOIN impressions i ON i.surface = {surface} AND i.impression_id = l.impression_id
    AND i.shown_at = l.event_timestamp AND i.shown_at > {began} AND i.shown_at <= {now}
WHERE i.model_version IN ({version}, {champion})
"""

BY_USER = """
SELECT user_id, count(DISTINCT request_id) AS requests, count(*) AS impressions,
    count(DISTINCT request_id) FILTER (WHERE by_canary) AS by_canary, sum(clicked) AS clicks,
    sum(exposure_s) AS exposure_s, sum(reward) FILTER (WHERE mature) AS reward,
    count(DISTINCT request_id) FILTER (WHERE mature) AS mature_requests
FROM ({shown}) s GROUP BY user_id
"""

BY_REQUEST = """
SELECT user_id, min(shown_at) AS shown_at, sum(reward) FILTER (WHERE by_canary) AS canary,
    sum(reward) FILTER (WHERE NOT by_canary) AS champion
FROM ({shown}) s WHERE mature GROUP BY user_id, request_id
"""

OF_SHADOW = """
SELECT s.user_id || ' ' || s.request_id AS request, s.reward AS label, b.champion, b.canary
FROM ({shown}) s JOIN shadow_scores b ON b.canary_id = {canary_id} AND b.impression_id = s.impression_id WHERE s.mature
"""

# Of events that came since the tables were last analysed the planner believes there are none, and would go over them
# again for each impression.
EACH_ONCE = "SET LOCAL enable_nestloop = off"

COUNTED = "SELECT arm, answered, errors, empty, slow, scores FROM canary_counts WHERE canary_id = %s"

USERS: Schema = {
    "user_id": pl.String,
    "requests": pl.Int64,
    "impressions": pl.Int64,
    "by_canary": pl.Int64,
    "clicks": pl.Int64,
    "exposure_s": pl.Float64,
    "reward": pl.Float64,
    "mature_requests": pl.Int64,
}

REQUESTS: Schema = {
    "user_id": pl.String,
    "shown_at": pl.Datetime("us", "UTC"),
    "canary": pl.Float64,
    "champion": pl.Float64,
}

SCORES: Schema = {"request": pl.String, "label": pl.Float64, "champion": pl.Float64, "canary": pl.Float64}


@dataclass(frozen=True)
class ArmsRead:
    """What was read, and what of it the judge does not need."""

    arms: Arms
    ranked: float
    """Share of the requests of the canary's users that the canary ranked: its own are few while it cannot serve."""


def read_arms(connection: psycopg.Connection, canary: CanaryRecord, declared: Features, now: datetime) -> ArmsRead:
    """Both arms as of ``now``."""
    with connection.transaction():
        connection.execute(EACH_ONCE)
        return _read(connection, canary, _shown(canary, declared, now))


def _read(connection: psycopg.Connection, canary: CanaryRecord, shown: sql.Composed) -> ArmsRead:
    users = copy_out(connection, sql.SQL(BY_USER).format(shown=shown).as_string(), [], USERS)
    counted = _counted(connection, canary.canary_id)
    way, share = str(canary.settings["way"]), float(canary.settings["share"])
    if way == "shadow":
        arms = Arms(_arm(users, counted["control"]), _arm(users, counted["canary"]), _paired(connection, canary, shown))
        return ArmsRead(arms, 1.0 if arms.paired.n else 0.0)
    sides = np.array([arm_of(canary.salt, user, share) or "" for user in users["user_id"]])
    of_canary, of_control = (users.filter(pl.Series(sides == side, dtype=pl.Boolean)) for side in ("canary", "control"))
    preferences = Preferences()
    if way == "interleave":
        requests = copy_out(connection, sql.SQL(BY_REQUEST).format(shown=shown).as_string(), [], REQUESTS)
        preferences = _preferences(requests, lambda user: arm_of(canary.salt, user, share) == "canary")
    arms = Arms(
        control=_arm(of_control, counted["control"]),
        canary=_arm(of_canary, counted["canary"]),
        preferences=preferences,
    )
    ranked = int(of_canary["by_canary"].sum()) / max(arms.canary.requests, 1)
    return ArmsRead(arms, ranked)


def _shown(canary: CanaryRecord, declared: Features, now: datetime) -> sql.Composed:
    labels: Sequence[Label] = declared.labels
    columns = [sql.Identifier(name) for name in target_columns(labels)]
    weights = np.array([label.weight for label in labels])
    shares = (weights / weights.sum()).tolist()
    terms = [
        sql.SQL("{} * l.{}").format(sql.Literal(weight), name) for weight, name in zip(shares, columns, strict=True)
    ]
    within = declared.label.within
    values = {
        "mature_to": now - max(label.within for label in labels),
        "version": canary.version,
        "champion": canary.champion_version,
        "now": now,
        "began": canary.began_at,
        "within": within,
        "surface": canary.surface,
    }
    return sql.SQL(SHOWN).format(
        reward=sql.SQL("({})::float8").format(sql.SQL(" + ").join(terms)),
        click=sql.SQL("l.{}").format(columns[0]),
        labelled=sql.SQL(labelled_impressions(canary.surface, canary.began_at, now, labels, now)),
        **{name: sql.Literal(value) for name, value in values.items()},
    )


@dataclass(frozen=True)
class _Counted:
    answered: int
    errors: int
    empty: int
    slow: int
    scores: tuple[int, ...]


def _counted(connection: psycopg.Connection, canary_id: int) -> dict[Side, _Counted]:
    """What all serving processes have counted, by arm."""
    rows = connection.execute(COUNTED, [canary_id]).fetchall()
    found: dict[Side, _Counted] = {}
    sides: tuple[Side, ...] = ("canary", "control")
    for side in sides:
        own = [row[1:] for row in rows if row[0] == side]
        answered, errors, empty, slow = (int(sum(row[place] for row in own)) for place in range(4))
        scores = np.array([row[4] for row in own], np.int64).reshape(len(own), SCORE_BINS).sum(axis=0)
        found[side] = _Counted(answered, errors, empty, slow, tuple(scores.tolist()))
    return found


def _arm(users: pl.DataFrame, counted: _Counted) -> Arm:
    mature = users.filter(pl.col("mature_requests") > 0)
    clicks, impressions = users["clicks"].to_numpy(), users["impressions"].to_numpy()
    return Arm(
        users=len(users),
        requests=int(users["requests"].sum()),
        impressions=int(impressions.sum()),
        reward=Ratio.of(mature["reward"].to_numpy(), mature["mature_requests"].to_numpy()),
        clicks=int(clicks.sum()),
        clicks_squared=int((clicks**2).sum()),
        exposure_s=float(users["exposure_s"].sum()),
        answered=counted.answered,
        errors=counted.errors,
        empty=counted.empty,
        slow=counted.slow,
        scores=counted.scores,
        # The log may lag behind what serving has counted, by what its journal holds.
        impressions_squared=max(int((impressions**2).sum()), sum(counted.scores)),
    )


def _paired(connection: psycopg.Connection, canary: CanaryRecord, shown: sql.Composed) -> Moments:
    query = sql.SQL(OF_SHADOW).format(shown=shown, canary_id=sql.Literal(canary.canary_id)).as_string()
    scores = copy_out(connection, query, [], SCORES)
    if scores.is_empty():
        return Moments()
    columns = (scores[name].to_numpy() for name in ("label", "request", "champion", "canary"))
    return paired(*columns).moments or Moments()


def _preferences(requests: pl.DataFrame, takes_part: Callable[[str], bool]) -> Preferences:
    """Each user's word: that of the first request in which one team had more."""
    wins = losses = ties = 0
    ordered = requests.sort("user_id", "shown_at").fill_null(0.0)
    rows = ordered.select("user_id", pl.col("canary") - pl.col("champion")).iter_rows()
    for user, of_user in groupby(rows, key=lambda row: row[0]):
        if not takes_part(user):
            continue
        word = next((more for _, more in of_user if more), 0.0)
        wins, losses, ties = wins + (word > 0), losses + (word < 0), ties + (word == 0)
    return Preferences(wins, losses, ties)
