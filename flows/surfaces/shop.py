"""A shop: lists of one to fifty products, mostly without a click, from which carts and purchases come."""

from datetime import timedelta

from features.declare.columns import Id, Number
from features.declare.families import DAY, HOUR, MINUTE, Family
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.recommend import Cap, CoClicked, Favourites, NewArrivals, Recommend, Trending, TwoTowers
from features.declare.standard import standard
from flows.surface import Surface

COLUMNS = (Id("device"), Id("channel"), Id("category", of="item"), Id("brand", of="item"), Number("price", of="item"))

SURFACE = Surface(
    name="shop",
    features=Features(
        columns=COLUMNS,
        labels=(
            Label("click", within=timedelta(minutes=30)),
            Label("cart", within=timedelta(hours=1), weight=2),
            Label("purchase", within=timedelta(hours=2), weight=10),
        ),
        families=standard(
            COLUMNS,
            short=30 * MINUTE,
            long=DAY,
            user=3 * MINUTE,
            rate=0.02,
            also=(
                Family("carted", ("item",), (HOUR, DAY, 7 * DAY), prior="item", kind="cart"),
                Family("bought", ("item",), (DAY, 7 * DAY), prior="carted", kind="purchase"),
                Family("user_bought", ("user", "category"), (7 * DAY, 30 * DAY), prior="category", kind="purchase"),
            ),
        ),
        base_rate=0.02,
    ),
    recommend=Recommend(
        sources=(
            TwoTowers(),
            Trending(half_life=DAY),
            CoClicked(half_life=7 * DAY, most=100),
            NewArrivals(within=7 * DAY),
            Favourites(most=50),
        ),
        caps=(Cap("brand", 5, of_first=20),),
        diversity=0.1,
    ),
)
