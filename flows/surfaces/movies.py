"""Movies: each rating is an impression; four stars and more is a like. Tastes last for months."""

from datetime import timedelta

from features.declare.columns import Tags, Text
from features.declare.families import DAY, MINUTE
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.log import FromRow, Log
from features.declare.recommend import CoClicked, Favourites, NewArrivals, Recommend, Trending, TwoTowers
from features.declare.standard import standard
from flows.surface import Surface

COLUMNS = (Tags("genres", of="item", separator="|"), Text("title", of="item"))

SURFACE = Surface(
    name="movies",
    features=Features(
        columns=COLUMNS,
        labels=(Label("rating", at_least=4),),
        families=standard(COLUMNS, short=45 * DAY, long=4 * 365 * DAY, user=2 * MINUTE, rate=0.5),
        base_rate=0.5,
        tick=60.0,
    ),
    log=Log(user_id="userId", item_id="movieId", shown_at="timestamp", feedback=(FromRow("rating", column="rating"),)),
    recommend=Recommend(
        sources=(
            TwoTowers(),
            Trending(half_life=90 * DAY),
            CoClicked(half_life=4 * 365 * DAY, most=100),
            NewArrivals(within=30 * DAY),
            Favourites(most=50),
        ),
        diversity=0.1,
    ),
    every=timedelta(days=1),
    rehearse=timedelta(days=60),
)
