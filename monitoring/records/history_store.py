"""The table ``update_history``: what a surface remembers of its updates, a row each, written once, never changed.

What of it an update needs, ``monitoring/evaluation/history.py`` says: of a database and of a drill in memory alike.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg.rows import dict_row

from monitoring.checks.limits import PastWindow
from monitoring.checks.profiles import WIDTH, Profile
from monitoring.evaluation.history import MOST_FAILED, NEEDS, PROFILES, CurrentUpdate, PastUpdate, Remembered, since
from monitoring.evaluation.process_record import ProcessRecord, SinceBaseline
from monitoring.gate.sensitivity import PastNeeds
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments

RECORD = (
    "CASE WHEN %({which})s THEN ROW(%({which}_updates)s, %({which}_requests)s, %({which}_mean)s, %({which}_variance)s,"
    " %({which}_cusum)s, %({which}_judged_to)s, %({which}_against)s::text[],"
    " %({which}_against_cusum)s::double precision[], %({which}_promotions)s, %({which}_baseline_requests)s,"
    " %({which}_baseline_mean)s, %({which}_baseline_variance)s, %({which}_baseline_staleness)s)::process_record END"
)

WRITE = f"""
INSERT INTO update_history (
    surface, update_id, champion_version, window_start, window_end, impressions, label_rate, log_loss, agreement,
    new_users, new_items, failed_checks, process_before, process_after, tested, tests_promoted, baseline_version,
    baseline_moves, profile_names, profile_rows, profile_clicked, profile_users, profiles, limit_codes, limits_needed
) VALUES (
    %(surface)s, %(update_id)s, %(champion)s, %(start)s, %(end)s, %(impressions)s, %(label_rate)s, %(log_loss)s,
    %(agreement)s, %(new_users)s, %(new_items)s, %(failed)s, {RECORD.format(which="before")},
    {RECORD.format(which="after")}, %(tested)s, %(tests_promoted)s, %(baseline)s, %(baseline_moves)s,
    %(profile_names)s, %(profile_rows)s, %(profile_clicked)s, %(profile_users)s, %(profiles)s, %(limit_codes)s,
    %(limits_needed)s
)
"""  # noqa: S608

RECORD_FIELDS = (
    *("updates", "requests", "mean", "variance", "cusum", "judged_to", "against", "against_cusum", "promotions"),
    *("baseline_requests", "baseline_mean", "baseline_variance", "baseline_staleness"),
)

COLUMNS = ", ".join(
    (
        "h.update_id, h.champion_version, h.window_start, h.window_end, h.impressions, h.label_rate, h.log_loss",
        "h.agreement, h.new_users, h.new_items, h.failed_checks, h.tested, h.tests_promoted, h.baseline_version",
        "h.baseline_moves, h.measured_at, u.state, u.challenger_version",
        *(
            f"(h.process_{which}).{field} AS {which}_{field}"
            for which in ("before", "after")
            for field in RECORD_FIELDS
        ),
    )
)

# All that `recall` looks at, however old: the windows of two weeks, the champion's own update, the newest promoted
# ones for their profiles, the newest for the limits that they needed, the newest that were judged against the champion,
# and the last test of a new design. The newest row of an update counts: one that died and ran again may have two.
PAST = f"""
WITH judged AS MATERIALIZED (
    SELECT update_id, state, challenger_version, parent_version, window_end FROM updates
    WHERE surface = %(surface)s AND update_id < %(update_id)s AND state NOT IN ('failed', 'claimed')
), wanted AS (
    SELECT update_id FROM judged WHERE window_end > %(since)s
    UNION
    SELECT update_id FROM promotions WHERE surface = %(surface)s AND version = %(champion)s
    UNION
    (SELECT update_id FROM judged WHERE state = 'promoted' ORDER BY update_id DESC LIMIT %(profiles)s)
    UNION
    (SELECT update_id FROM judged WHERE state <> 'rejected' ORDER BY update_id DESC LIMIT %(needs)s)
    UNION
    (SELECT update_id FROM judged WHERE parent_version IS NOT DISTINCT FROM %(champion)s::text
     ORDER BY update_id DESC LIMIT %(in_a_row)s)
    UNION
    (SELECT update_id FROM judged JOIN update_history t USING (update_id)
     WHERE t.surface = %(surface)s AND t.tested IS NOT NULL AND NOT EXISTS (
         SELECT FROM update_history WHERE update_id = t.update_id AND history_id > t.history_id)
     ORDER BY update_id DESC LIMIT 1)
)
SELECT {COLUMNS}, (
    SELECT decided_by FROM decisions d WHERE d.update_id = u.update_id AND d.action = 'promote'
    ORDER BY decision_id DESC LIMIT 1
) AS promoted_by
FROM wanted JOIN judged u USING (update_id) CROSS JOIN LATERAL (
    SELECT * FROM update_history WHERE update_history.update_id = u.update_id ORDER BY history_id DESC LIMIT 1
) h ORDER BY u.update_id
"""  # noqa: S608

LATEST_PROFILES = """
WITH windows AS MATERIALIZED (
    SELECT update_id FROM updates WHERE surface = %(surface)s AND state = 'promoted' AND update_id < %(update_id)s
    ORDER BY update_id DESC LIMIT %(profiles)s
)
SELECT update_id, h.profile_names, h.profile_rows, h.profile_clicked, h.profile_users, h.profiles
FROM windows CROSS JOIN LATERAL (
    SELECT profile_names, profile_rows, profile_clicked, profile_users, profiles FROM update_history
    WHERE update_history.update_id = windows.update_id ORDER BY history_id DESC LIMIT 1
) h
"""


LATEST_NEEDS = """
SELECT u.update_id, h.limit_codes, h.limits_needed FROM updates u CROSS JOIN LATERAL (
    SELECT limit_codes, limits_needed FROM update_history
    WHERE update_history.update_id = u.update_id ORDER BY history_id DESC LIMIT 1
) h
WHERE u.surface = %(surface)s AND u.update_id < %(update_id)s AND u.state NOT IN ('failed', 'claimed', 'rejected')
ORDER BY u.update_id DESC LIMIT %(needs)s
"""

# As many as limits follow, those rejected since among them.
JUDGED = """
SELECT u.update_id, u.state, h.window_start, h.window_end, h.limit_codes, h.limits_needed FROM (
    SELECT update_id, state, count(*) FILTER (WHERE state <> 'rejected') OVER (ORDER BY update_id DESC) AS place
    FROM updates WHERE surface = %(surface)s AND state NOT IN ('failed', 'claimed')
) u CROSS JOIN LATERAL (
    SELECT window_start, window_end, limit_codes, limits_needed FROM update_history
    WHERE update_history.update_id = u.update_id ORDER BY history_id DESC LIMIT 1
) h WHERE u.place <= %(needs)s ORDER BY u.update_id DESC
"""


def write(connection: psycopg.Connection, surface: str, remembered: Remembered) -> None:
    """Add what an update leaves behind, in the caller's transaction."""
    window, profiles, tests = remembered.window, remembered.profiles, remembered.tests
    connection.execute(
        WRITE,
        {
            "surface": surface,
            "update_id": remembered.update_id,
            "champion": remembered.champion,
            "start": window.start,
            "end": window.end,
            "impressions": window.impressions,
            "label_rate": window.label_rate,
            "log_loss": window.log_loss,
            "agreement": window.agreement,
            "new_users": window.new.get("users"),
            "new_items": window.new.get("items"),
            "failed": list(remembered.failed),
            **_columns_of("before", remembered.process_before),
            **_columns_of("after", remembered.process_after),
            "tested": None if tests is None else tests.tested,
            "tests_promoted": None if tests is None else list(tests.promoted),
            "baseline": remembered.baseline,
            "baseline_moves": remembered.baseline_moves,
            "profile_names": list(profiles[0].names) if profiles else [],
            "profile_rows": [profile.rows for profile in profiles],
            "profile_clicked": [profile.clicked for profile in profiles],
            "profile_users": [profile.users for profile in profiles],
            "profiles": [profile.table().tolist() for profile in profiles],
            "limit_codes": list(remembered.needs),
            "limits_needed": list(remembered.needs.values()),
        },
    )


def read(connection: psycopg.Connection, surface: str, current: CurrentUpdate) -> list[PastUpdate]:
    """The past that `recall` needs for this update; only the newest promoted ones have their profiles."""
    champion = None if current.champion is None else current.champion.version
    parameters = {
        "surface": surface,
        "update_id": current.update_id,
        "since": since(current),
        "champion": champion,
        "profiles": PROFILES,
        "in_a_row": MOST_FAILED,
        "needs": NEEDS,
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        profiles = {row["update_id"]: _profiles(row) for row in cursor.execute(LATEST_PROFILES, parameters).fetchall()}
        needs = {
            row["update_id"]: dict(zip(row["limit_codes"], row["limits_needed"], strict=True))
            for row in cursor.execute(LATEST_NEEDS, parameters).fetchall()
        }
        rows = cursor.execute(PAST, parameters).fetchall()
    return [_past(row, profiles.get(row["update_id"], ()), needs.get(row["update_id"], {})) for row in rows]


def judged(connection: psycopg.Connection, surface: str) -> list[PastNeeds]:
    """The newest windows that came to a verdict, the newest first; of those held one after another the last, which
    holds them all."""
    found: list[PastNeeds] = []
    last: tuple[datetime, bool] | None = None
    parameters = {"surface": surface, "needs": NEEDS}
    for update_id, state, begins, ends, codes, limits in connection.execute(JUDGED, parameters).fetchall():
        if (begins, state == "rejected") != last:
            last = (begins, state == "rejected")
            found.append(PastNeeds(ends, dict(zip(codes, limits, strict=True)), update_id, state))
    return found


def _columns_of(which: str, known: ProcessRecord | None) -> dict[str, Any]:
    record = known or ProcessRecord()
    return {
        which: known is not None,
        f"{which}_updates": record.updates,
        f"{which}_requests": record.moments.n,
        f"{which}_mean": record.moments.mean,
        f"{which}_variance": record.moments.variance,
        f"{which}_cusum": record.cusum,
        f"{which}_judged_to": record.judged_to,
        f"{which}_against": list(record.against),
        f"{which}_against_cusum": list(record.against.values()),
        f"{which}_promotions": record.since_baseline.promotions,
        f"{which}_baseline_requests": record.since_baseline.gains.n,
        f"{which}_baseline_mean": record.since_baseline.gains.mean,
        f"{which}_baseline_variance": record.since_baseline.gains.variance,
        f"{which}_baseline_staleness": record.since_baseline.staleness,
    }


def _record(row: Mapping[str, Any], which: str) -> ProcessRecord | None:
    if row[f"{which}_updates"] is None:
        return None
    moments = Moments(row[f"{which}_requests"], row[f"{which}_mean"], row[f"{which}_variance"])
    against = dict(zip(row[f"{which}_against"], row[f"{which}_against_cusum"], strict=True))
    over_baseline = Moments(*(row[f"{which}_baseline_{field}"] for field in ("requests", "mean", "variance")))
    since = SinceBaseline(row[f"{which}_promotions"], over_baseline, row[f"{which}_baseline_staleness"])
    updates, cusum, judged_to = (row[f"{which}_{field}"] for field in ("updates", "cusum", "judged_to"))
    return ProcessRecord(updates, moments, cusum, judged_to, against, since)


def _past(row: Mapping[str, Any], profiles: tuple[Profile, ...], needs: Mapping[str, float]) -> PastUpdate:
    new = {kind: row[f"new_{kind}"] for kind in ("users", "items") if row[f"new_{kind}"] is not None}
    remembered = Remembered(
        update_id=row["update_id"],
        champion=row["champion_version"],
        window=PastWindow(
            row["window_start"],
            row["window_end"],
            row["impressions"],
            row["label_rate"],
            row["log_loss"],
            row["agreement"],
            new,
        ),
        failed=tuple(row["failed_checks"]),
        process_before=_record(row, "before"),
        process_after=_record(row, "after"),
        tests=None if row["tested"] is None else PastTests(row["tested"], tuple(row["tests_promoted"])),
        baseline=row["baseline_version"],
        baseline_moves=row["baseline_moves"],
        profiles=profiles,
        needs=needs,
    )
    return PastUpdate(remembered, row["state"], row["challenger_version"], row["promoted_by"], row["measured_at"])


def _profiles(row: Mapping[str, Any]) -> tuple[Profile, ...]:
    names = tuple(row["profile_names"])
    if not names:  # no hour of the window had impressions enough
        return ()
    tables = np.array(row["profiles"], dtype=np.float32).reshape(-1, WIDTH, len(names))
    counts = (row["profile_rows"], row["profile_clicked"], row["profile_users"])
    return tuple(
        Profile.from_table(names, rows, clicked, users, table)
        for rows, clicked, users, table in zip(*counts, tables, strict=True)
    )
