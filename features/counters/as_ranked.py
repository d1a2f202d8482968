"""Feedback, and an impression that serving ranked, count for the keys that the impression was ranked with."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.identity.keys import Keys
from features.served.rows import ServedKeys

Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class EventKeys:
    """What N events are counted by, beside their time."""

    ids: Keys  # (N, K + B)
    history: Keys  # (N, L)


@dataclass(frozen=True)
class Made:
    """Of which events (N,) a row is made as they are folded."""

    always: Bool
    if_lacking: Bool
    """Where they have no served row."""


def as_ranked(
    events: pl.DataFrame, click: Bool, made: Made, now: EventKeys, own_ids: Keys, served_keys: ServedKeys | None
) -> tuple[EventKeys, Bool]:
    """The keys that events count for; and which were looked up and have no served row (N,).

    ``click`` (N,): which are feedback that counts. ``now``: the keys at each event's own time, which are those of a row
    made now; ``own_ids``: those that the event itself holds. Where there is no served row, nor one made now, a click
    and its impression count for these alone: so it is whether they are folded together or apart. ``served_keys``
    None: nothing has a served row.
    """
    lacking = np.zeros(len(events), dtype=bool)
    ids, history = now.ids, now.history
    shown = (events["kind"] == "impression").to_numpy()
    places = pl.DataFrame({"impression_id": events["impression_id"], "place": np.arange(len(events))})
    clicks, impressions = places.filter(pl.Series(click)), places.filter(pl.Series(shown))
    joined = clicks.join(impressions, on="impression_id", how="left", suffix="_shown")
    apart = joined["place_shown"].is_null()
    elsewhere = joined.filter(apart)["place"].to_numpy()
    wanted = np.sort(np.concatenate([np.flatnonzero(shown & ~made.always), elsewhere]).astype(np.int64))
    if len(wanted):
        made_now = (made.if_lacking[wanted])[:, None]
        if served_keys is None:
            found = np.zeros(len(wanted), dtype=bool)
            ranked_ids, ranked_history = own_ids[wanted], history[wanted]
        else:
            found, ranked_ids, ranked_history = served_keys(events[wanted].select("impression_id", "shown_at"))
        lacking[wanted] = ~found
        without_row = np.where(made_now, ids[wanted], own_ids[wanted]), np.where(made_now, history[wanted], 0)
        ids[wanted] = np.where(found[:, None], ranked_ids, without_row[0])
        history[wanted] = np.where(found[:, None], ranked_history, without_row[1])
    together = joined.filter(~apart)
    at, of = together["place"].to_numpy(), together["place_shown"].to_numpy()
    ids[at], history[at] = ids[of], history[of]
    return EventKeys(ids, history), lacking
