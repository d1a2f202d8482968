"""A news site's headlines: each article has a few, and of these the one is shown that will be clicked. A new headline
is tried as often as it may be the best; one that is known to be worse than another is stopped."""

from datetime import timedelta

from features.declare.columns import Id, Text
from features.declare.families import DAY, HOUR, Family
from features.declare.features import Features
from features.declare.labels import Label
from features.declare.recommend import Recommend, VariantsOf
from features.declare.variants import Variants
from flows.surface import Surface
from models.exploration.thompson import Thompson
from models.learning.design import Design
from models.text.wording_design import WordingDesign

# An article's pull fades within hours; what a wording is worth beside the others does not, nor what words are worth.
FADES, LASTS, WORDS = (HOUR, 6 * HOUR), (2 * DAY,), (7 * DAY,)

FEATURES = Features(
    columns=(
        Id("article", of="item"),
        Id("headline", of="item"),
        Id("section", of="item"),
        Id("device"),
        Text("headline_words", of="item", column="headline", most=12),
    ),
    labels=(Label("click", within=timedelta(minutes=10)),),
    families=(
        Family("all", (), (HOUR, DAY), trend=True, sizes=0),
        Family("section", ("section",), (6 * HOUR, DAY), prior="all", trend=True),
        Family("article", ("article",), FADES, prior="section", trend=True, ages=True),
        Family("item", ("item",), LASTS, prior="article", pseudo_counts=60),
        Family("words", ("headline_words",), WORDS, prior="all", pseudo_counts=50, naive_bayes=True),
        Family("section_device", ("section", "device"), (DAY,), prior="section"),
        Family("user", ("user",), (7 * DAY,), prior="all"),
        Family("user_section", ("user", "section"), (7 * DAY,), prior="section"),
    ),
)

SURFACE = Surface(
    name="headlines",
    features=FEATURES,
    design=Design(text=WordingDesign(item="headline", of="article")),
    variants=Variants(of="article", text="headline"),
    explore=Thompson(),
    recommend=Recommend(sources=(VariantsOf(),)),
)
