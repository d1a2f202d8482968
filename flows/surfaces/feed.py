"""The feed: articles a reader may click."""

from features.declare.columns import Id
from features.declare.families import DAY, HOUR, MINUTE, Family, Recent, last
from features.declare.features import Features
from features.declare.recommend import Cap, CoClicked, Favourites, NewArrivals, Recommend, Trending, TwoTowers
from flows.surface import Surface

TREND = (5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)
CONTEXT = (15 * MINUTE, 12 * HOUR)
PAUSES = (15 * MINUTE, HOUR, 12 * HOUR)
PAIR = (HOUR, DAY)
NEXT = (HOUR, 12 * HOUR)
TASTE = (10 * MINUTE, HOUR, DAY, 7 * DAY)

FEATURES = Features(
    columns=(Id("section", of="item"), Id("device"), Id("os"), Id("region"), Id("referrer")),
    # A reader's next click is often logged exactly 30 s after the last, which then leads to it: a pause of its own.
    pauses=(29.5, 30.5, MINUTE, 5 * MINUTE, 30 * MINUTE),
    families=(
        Family("all", (), TREND, trend=True, sizes=0),
        Family("section", ("section",), TREND, prior="all", trend=True),
        Family("item", ("item",), TREND, prior="section", trend=True, sizes=5, share_of="all", ages=True),
        Family("item_now", ("item",), (MINUTE, 2.5 * MINUTE), prior="item", sizes=2),
        Family("item_region", ("item", "region"), CONTEXT, prior="item"),
        Family("item_device", ("item", "device"), CONTEXT, prior="item"),
        Family("item_os", ("item", "os"), CONTEXT, prior="item"),
        Family("item_referrer", ("item", "referrer"), CONTEXT, prior="item"),
        Family("item_machine", ("item", "device", "os", "referrer"), CONTEXT, prior="item"),
        Family("item_origin", ("item", "region", "referrer"), CONTEXT, prior="item"),
        Family("item_stage", ("item", "stage"), CONTEXT, prior="item"),
        Family("item_activity", ("item", "activity"), CONTEXT, prior="item"),
        Family("item_pause", ("item", "pause"), PAUSES, prior="item"),
        Family("item_pause_referrer", ("item", "pause", "referrer"), PAUSES, prior="item"),
        Family("item_after", ("item", last("section")), NEXT, prior="item", pseudo_counts=5, sizes=2),
        Family("item_after_referrer", ("item", last("section"), "referrer"), NEXT, prior="item", pseudo_counts=5),
        Family("item_last", ("item",), PAIR, prior="item", pseudo_counts=5, recent=Recent("item", 1)),
        Family("item_last3", ("item",), PAIR, prior="item", pseudo_counts=5, recent=Recent("item", 3)),
        Family(
            "item_last10", ("item",), PAIR, prior="item", pseudo_counts=5, recent=Recent("item", 10), naive_bayes=True
        ),
        Family("user_section", ("user", "section"), TASTE, prior="section", sizes=4),
        # What each of the reader's last sections says of this one, together.
        Family(
            "section_taste",
            ("section",),
            (DAY,),
            prior="section",
            pseudo_counts=5,
            recent=Recent("section", 10),
            naive_bayes=True,
            sizes=0,
        ),
        Family("section_region", ("section", "region"), CONTEXT, prior="section"),
        Family("section_pause", ("section", "pause", "referrer"), PAUSES, prior="section"),
        Family("section_last", ("section", last("section")), (DAY,), prior="section", pseudo_counts=5),
        Family("section_before", ("section", last("section", 2)), (DAY, 7 * DAY), prior="section", pseudo_counts=5),
        Family(
            "section_item", ("section",), (6 * HOUR, DAY), prior="section", pseudo_counts=5, recent=Recent("item", 1)
        ),
    ),
)

SURFACE = Surface(
    name="feed",
    features=FEATURES,
    recommend=Recommend(
        sources=(
            TwoTowers(),
            Trending(half_life=HOUR),
            CoClicked(half_life=12 * HOUR),
            NewArrivals(within=12 * HOUR, quota=1),
            Favourites(),
        ),
        caps=(Cap("section", 4, of_first=10),),
    ),
)
