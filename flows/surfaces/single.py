"""One candidate a request, as of an ad network that says for each click which app it was for: installs come late, and
of one in five hundred. Models are compared by user, since a request has nothing to be compared within."""

from datetime import timedelta

from features.declare.columns import Id
from features.declare.families import DAY, HOUR, MINUTE
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.log import FromRow, Log
from features.declare.standard import standard
from flows.surface import Surface

COLUMNS = (Id("device"), Id("os"), Id("channel"))

SURFACE = Surface(
    name="single",
    features=Features(
        columns=COLUMNS,
        labels=(Label("install", within=timedelta(hours=2)),),
        families=standard(COLUMNS, short=HOUR, long=DAY, user=15 * MINUTE, rate=0.002),
        base_rate=0.002,
    ),
    log=Log(
        user_id="ip",
        item_id="app",
        shown_at="click_time",
        time_zone="UTC",
        one_candidate=True,
        feedback=(FromRow("install", at="attributed_time"),),
    ),
    recommend=None,  # the click is given its one app
    every=timedelta(hours=1),
)
