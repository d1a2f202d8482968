"""A shop's search: what is asked for, in words that recur or never do, and things with titles. A query may come to mean
something else within the hour; one that was never asked before is known by what its words mean."""

from datetime import timedelta

from features.declare.columns import Id, Number, Text
from features.declare.families import DAY, HOUR, MINUTE, Family
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.recommend import Lexical, Recommend, Similar
from flows.surface import Surface
from models.learning.design import Design, Learning
from models.text.text_design import TextDesign

# A query's own counters forget within hours what it meant, its words within days, things and tastes later.
ASKED, WORDS, LASTING, TASTE = (15 * MINUTE, HOUR), (DAY,), (2 * DAY,), (7 * DAY,)

FEATURES = Features(
    columns=(
        Id("kind", of="item"),
        Id("brand", of="item"),
        Id("title", of="item"),
        Id("query"),
        Id("device"),
        Number("price", of="item"),
        Text("query_words", column="query", most=12),
        Text("title_words", of="item", column="title", most=12),
    ),
    labels=(Label("click", within=timedelta(minutes=10)),),
    families=(
        Family("all", (), LASTING, trend=True, sizes=0),
        Family("kind", ("kind",), LASTING, prior="all", trend=True),
        Family("brand", ("brand",), LASTING, prior="all"),
        Family("item", ("item",), LASTING, prior="kind", trend=True),
        Family("query", ("query",), ASKED, prior="all"),
        # What a query means now: by kind, by brand, by each word of a title, by item.
        Family("kind_query", ("kind", "query"), ASKED, prior="kind", pseudo_counts=6),
        Family("brand_query", ("brand", "query"), ASKED, prior="brand", pseudo_counts=6),
        Family("title_query", ("query", "title_words"), (HOUR,), prior="query", pseudo_counts=6, naive_bayes=True),
        Family("item_query", ("item", "query"), ASKED, prior="kind_query", pseudo_counts=6),
        # What its words mean, where nobody has asked for it yet, or not for long.
        Family("kind_words", ("kind", "query_words"), WORDS, prior="kind", pseudo_counts=1, naive_bayes=True),
        Family("brand_words", ("brand", "query_words"), WORDS, prior="brand", pseudo_counts=1, naive_bayes=True),
        Family("item_words", ("item", "query_words"), WORDS, prior="item", pseudo_counts=1, naive_bayes=True),
        Family("user_kind", ("user", "kind"), TASTE, prior="kind"),
        Family("user_brand", ("user", "brand"), TASTE, prior="brand"),
        Family("kind_device", ("kind", "device"), LASTING, prior="kind"),
    ),
)

SURFACE = Surface(
    name="search",
    features=FEATURES,
    # What an id's row has learned of a query outlives what the query means: the counters are to say it.
    design=Design(learning=Learning(table_rate=0.003), text=TextDesign("query", "title")),
    recommend=Recommend(sources=(Similar(), Lexical())),
)
