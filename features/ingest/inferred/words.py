"""What names of columns and of events hint at. A hint is never enough: the values must agree."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


USER = _words(
    "user visitor customer client member account person reader viewer buyer shopper subscriber cookie uid guid"
    " guest player reviewer usr cust consumer learner student listener household profile ip browserid"
    " fullvisitor patient borrower traveller traveler cardholder"
)
SESSION = _words("session sess visit sid")
ITEM = _words(
    "item product movie film article story sku asin app ad advert advertisement creative banner offer song"
    " track video book isbn recipe game news doc document page url listing restaurant business hotel poi venue"
    " place content post course job property beer anime artist episode show clip photo image pin tweet podcast"
    " stock goods iid pid variant candidate dish merchant store exercise prop"
    " accommodation apartment room"
)
OF_ITEMS = _words("url image photo page content place stock clip pin store merchant document variant business")
"""What may name an item, and may be something of one that has another name."""

EVENTS = _words("event events action type behavior behaviour kind activity interaction operation verb")
"""Names of columns that say what was done."""

REQUEST = _words("request req query search srch auction slate display pageview qid impressions_list list")
IMPRESSION = _words("impression impr imp event row log record bid exposure interaction index uuid")
POSITION = _words("position pos rank slot place")
PROPENSITY = _words("propensity pscore probability prob")
TIME = _words(
    "time timestamp ts date datetime day at when utc epoch unixtime clock occurred eventtime unix ms dt moment"
)
LATER = _words("end ended returned attributed converted updated modified expires expired delivered shipped")
OF_THING = _words("birth birthday born release released published publish created registered signup joined")
RATING = _words("rating rate score stars star grade vote relevance review overall ratings satisfaction")
AMOUNT = _words(
    "dwell watch watched hours minutes duration watchtime playtime seconds secs listened percent completion revenue"
    " spent play played payout gross bookings"
)
TARGET = _words("label target outcome y positive response engaged engagement interacted relevant feedback")
ASKED = _words("query search q keyword keywords prompt title headline question")
"""Texts that are known before anything is shown, however rarely one comes twice."""

AFTERWARDS = _words("helpful votes upvotes downvotes refunded")
"""What others said of what was done."""

BOUGHT = _words("invoice quantity order orders purchase transaction basket")
"""What is in a log of purchases."""

CIRCUMSTANCES = _words(
    "mobile tablet desktop phone weekend holiday new bot logged login member premium app promo special test"
    " rand random paid sale discount stock available sponsored ad organic first"
)
"""Truths that are known at the showing."""

BEFORE = _words("prev previous past before history ever last prior avg mean average count cnt num total n")
QUANTITY = _words(
    "price age amount count cnt num n qty quantity size weight length height width duration year distance lat"
    " lon latitude longitude ctr rate cost revenue value score number hour minutes seconds days percent ratio"
    " popularity income salary discount budget runtime"
)
CODE = _words("id ids code zip postcode key type class category section group cluster bucket no nr hash")

KINDS: dict[str, str] = {
    word: kind
    for kind, words in {
        "click": "click clicks clicked clk clickout tap tapped open opened",
        "purchase": "purchase purchased buy bought order ordered transaction sale sold paid payment"
        " conversion converted convert transact buying",
        "cart": "cart addtocart atc basket addtobasket add_to_cart carted",
        "install": "install installed attributed download downloaded",
        "like": "like liked likes fav favorite favourite favorited upvote upvoted heart hearted thumbsup",
        "share": "share shared retweet repost",
        "save": "save saved bookmark bookmarked wishlist collect collected",
        "booking": "booking booked reservation reserved book",
        "play": "play played listen listened stream streamed",
        "watch": "watched finished completed complete",
        "follow": "follow followed subscribe subscribed",
        "comment": "comment commented reply replied",
        "checkout": "checkout",
        "signup": "signup registered register lead",
    }.items()
    for word in words.split()
}
"""The kind of feedback that a word hints at."""

SHOWN = _words(
    "view views viewed pv pageview impression impressions imp show shown showed display displayed exposure"
    " exposed seen detail productview itemview view_item viewitem serve served recommended product_view"
    " detailview"
)
"""Words for an item that was only shown or looked at."""

NEGATIVE = _words(
    "remove removed removefromcart delete dislike disliked skip skipped hide hidden unlike return returned"
    " refund cancel cancelled canceled downvote dismiss dismissed report unfollow hate hated"
)
"""Words for feedback that is not wanted."""

WEIGHTS: dict[str, float] = {
    "cart": 2,
    "save": 2,
    "share": 2,
    "booking": 10,
    "purchase": 10,
    "install": 10,
    "signup": 10,
}
"""Of a kind in the score, beside others; 1 for those not here."""

SUFFIXES = ("ids", "id", "key", "code", "hash", "uid", "name", "nr", "no")


def words_of(name: str) -> tuple[str, ...]:
    """The lower-case words of a name: ``userId``, ``user_id``, ``User ID`` are user and id."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word for word in re.split(r"[^a-z]+", spaced.lower()) if word)


def thing_of(name: str) -> tuple[str, bool]:
    """What a name is a name of, and whether it says id: ``visitorid`` and ``visitor_id`` are of a visitor, and
    ``product_category_id`` is of a category."""
    words = words_of(name)
    if not words:
        return "", False
    *others, last = words
    if others and last in SUFFIXES:
        return others[-1], last not in ("name",)
    for suffix in SUFFIXES:
        stem = last.removesuffix(suffix)
        if stem != last and stem in USER | ITEM | SESSION | REQUEST | IMPRESSION:
            return stem, suffix != "name"
    return last, last == "id"


def kind_of(name: str) -> str | None:
    """The kind of feedback that a name hints at."""
    words = words_of(name)
    glued = "".join(words)
    found = next((KINDS[word] for word in (*reversed(words), glued) if word in KINDS), None)
    if any(word in KINDS and KINDS[word] == "cart" for word in (*words, glued)):
        return "cart"  # add_to_cart: whatever else it says
    return found
