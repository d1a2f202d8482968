"""The feed: articles a reader may click."""

from features.families import DAY, HOUR, MINUTE, Family, Features
from flows.surface import Surface

TREND = (5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)
CONTEXT = (15 * MINUTE, HOUR, 12 * HOUR)
PAIR = (HOUR, 6 * HOUR, DAY)
TASTE = (DAY, 7 * DAY)

FEATURES = Features(
    contexts=("device", "os", "region", "referrer"),
    attributes=("section",),
    families=(
        Family("all", (), (DAY,), trend=True, sizes=0),
        Family("section", ("section",), TREND, toward="all", trend=True),
        Family("item", ("item",), TREND, toward="section", trend=True, sizes=5, ages=True),
        Family("item_region", ("item", "region"), CONTEXT, toward="item"),
        Family("item_device", ("item", "device"), CONTEXT, toward="item"),
        Family("item_os", ("item", "os"), CONTEXT, toward="item"),
        Family("item_referrer", ("item", "referrer"), CONTEXT, toward="item"),
        Family("item_machine", ("item", "device", "os", "referrer"), CONTEXT, toward="item"),
        Family("item_origin", ("item", "region", "referrer"), CONTEXT, toward="item"),
        Family("item_stage", ("item", "stage"), CONTEXT, toward="item"),
        Family("item_activity", ("item", "activity"), CONTEXT, toward="item"),
        Family("item_last", ("item",), PAIR, toward="item", strength=5, last_items=1),
        Family("item_last3", ("item",), PAIR, toward="item", strength=5, last_items=3),
        Family("item_last10", ("item",), PAIR, toward="item", strength=5, last_items=10),
        Family("user", ("user",), TASTE, toward="all"),
        Family("user_section", ("user", "section"), TASTE, toward="section"),
        Family("section_region", ("section", "region"), CONTEXT, toward="section"),
        Family("section_machine", ("section", "device", "os", "referrer"), CONTEXT, toward="section"),
        Family("section_stage", ("section", "stage"), CONTEXT, toward="section"),
        Family("section_last", ("section", "last_section"), TASTE, toward="section", strength=5),
    ),
)

FEED = Surface(name="feed", features=FEATURES)
