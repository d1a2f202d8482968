"""Rated pairs: what a file must have, what they say of an encoder, and how seldom chance holds one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flows.steps import rate_text
from flows.surfaces.feed import SURFACE
from models.learning.design import Design
from models.text.part import TextPart
from models.text.text_design import TextDesign
from monitoring.evaluation import rated
from monitoring.evaluation.rated import RatedComparison, by_query, compare_rated, ndcg_of
from monitoring.evaluation.rated_pairs import BadRatedPairs, RatedPairs, read_rated
from monitoring.evaluation.retrieval import Difference
from monitoring.evaluation.text_evidence import TextEvidence
from monitoring.gate.decide import Verdict, decide
from monitoring.gate.policy import Policy
from tests.worlds.challengers import with_gain
from tests.worlds.texts import DESIGN, THINGS

ROWS = "query,text,rating\nlamp,a lamp,1\nlamp,a bulb,0.5\nlamp,a mug,0\nmug,a cup,1\nmug,a lamp,0\n"


def written(folder: Path, content: str, name: str = "rated.csv") -> RatedPairs:
    (folder / name).write_text(content)
    return read_rated(folder, name)


def test_pairs_are_read_beside_the_surface_or_by_their_whole_path(tmp_path: Path) -> None:
    pairs = written(tmp_path, ROWS)
    assert (pairs.queries, len(pairs.texts), len(pairs.rating)) == (("lamp", "mug"), 4, 5)
    elsewhere = read_rated(tmp_path / "another", str(tmp_path / "rated.csv"))
    assert elsewhere.checksum == pairs.checksum
    pl.read_csv(tmp_path / "rated.csv").write_parquet(tmp_path / "rated.parquet")
    table = read_rated(tmp_path, "rated.parquet")
    assert table.queries == pairs.queries
    np.testing.assert_array_equal(table.rating, pairs.rating)
    assert written(tmp_path, ROWS + "mug,a tap,0\n").checksum != pairs.checksum


def test_a_pair_rated_twice_has_the_mean_and_a_query_without_a_better_text_says_nothing(tmp_path: Path) -> None:
    pairs = written(tmp_path, ROWS + "lamp,a lamp,0\nsofa,a couch,1\nsofa,a seat,1\n")
    assert pairs.queries == ("lamp", "mug")
    assert pairs.rating[(pairs.query == 0) & (pairs.text == pairs.texts.index("a lamp"))].tolist() == [0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("query,text\na,b\n", "has no column 'rating': it has query, text, and needs query, text, rating"),
        ("query,text,rating\na,b,1\na,c,good\n", "row 2: rating is 'good': give 0 to 1, or grades from 0 on"),
        ("query,text,rating\na,b,-1\n", "row 1: rating is '-1'"),
        ("query,text,rating\na,b,nan\n", "row 1: rating is 'nan'"),
        ("query,text,rating\na,b,\n", "row 1: rating is None"),
        ("query,text,rating\na,b,1\n ,b,1\n", "row 2: query is empty: write it, or leave the row out"),
        ("query,text,rating\na,b,1\na,c,1\n", "no query has two texts with different ratings: rate more"),
        ("", "is no csv file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name_with_what_to_do(
    content: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRatedPairs) as refused:
        written(tmp_path, content)
    assert message in str(refused.value)
    assert str(tmp_path / "rated.csv") in str(refused.value)


def test_a_file_that_is_not_there_or_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRatedPairs, match="put the file beside the surface's, or give its whole path"):
        read_rated(tmp_path, "rated.csv")
    with pytest.raises(BadRatedPairs, match="is no parquet file"):
        written(tmp_path, ROWS, "rated.parquet")
    with pytest.raises(ValueError, match=r"text.rated is 'rated.txt': give a .csv or a .parquet file"):
        TextDesign("query", "title", rated="rated.txt")


def test_another_file_makes_no_other_design_and_only_a_surface_that_names_one_has_pairs(tmp_path: Path) -> None:
    design = Design(text=replace(DESIGN, rated="rated.csv"))
    assert design == Design(text=DESIGN)
    (tmp_path / "rated.csv").write_text(ROWS)
    surface = replace(SURFACE, recommend=None)
    object.__setattr__(surface, "design", design)  # feed has no texts to declare
    pairs = rate_text.pairs_of(surface, tmp_path)
    assert pairs is not None
    assert pairs.queries == ("lamp", "mug")
    assert rate_text.pairs_of(SURFACE, tmp_path) is None


def test_ndcg_is_that_of_the_first_ten_with_a_rating_as_its_gain(tmp_path: Path) -> None:
    pairs = written(tmp_path, ROWS)
    best, worst = ndcg_of(pairs.rating, pairs), ndcg_of(-pairs.rating, pairs)
    assert best.tolist() == [1.0, 1.0]
    at = 1 / np.log2(np.arange(2, 5))
    assert worst == pytest.approx([(0.5 * at[1] + at[2]) / (at[0] + 0.5 * at[1]), at[1]])
    many = "query,text,rating\n" + "".join(f"q,t{place:02},{int(place == 11)}\n" for place in range(12))
    assert ndcg_of(np.arange(12.0)[::-1].copy(), written(tmp_path, many)).tolist() == [0.0]


def test_an_encoder_is_held_against_the_champions_and_against_itself_as_it_comes(tmp_path: Path) -> None:
    rows = [f"{name},{text},{int(text == own)}" for name, own in THINGS.items() for text in THINGS.values()]
    pairs = written(tmp_path, "\n".join(["query,text,rating", *rows]))
    found = compare_rated(pairs, champion=TextPart(DESIGN), challenger=TextPart(DESIGN))
    assert found.champion == found.challenger == found.as_it_comes > 0.9
    assert found.over_champion == Difference(0.0), "of eight queries no bound is given"
    assert compare_rated(pairs, champion=None, challenger=TextPart(DESIGN)).over_champion is None


def compared(champion: float | None, as_it_comes: float, error: float = 0.001) -> RatedComparison:
    """Of a challenger at 0.9, its bounds two errors from it."""

    def over(rival: float) -> Difference:
        return Difference(0.9 - rival, 0.9 - rival - 2 * error, 0.9 - rival + 2 * error)

    return RatedComparison(
        "c0ffee",
        500,
        5_000,
        0.9,
        as_it_comes,
        champion,
        over(as_it_comes),
        None if champion is None else over(champion),
    )


def verdict_on(found: RatedComparison | None, policy: Policy | None = None) -> Verdict:
    return decide(policy or Policy(), with_gain(0.001, text=TextEvidence(found)))


def test_an_encoder_that_is_shown_to_order_rated_pairs_worse_waits_for_a_person() -> None:
    assert verdict_on(compared(0.901, 0.901)).verdict == "promote"
    held = verdict_on(compared(0.910, 0.901))
    assert (held.verdict, held.codes[0]) == ("hold", "rated")
    assert held.reasons[0] == (
        "On 500 queries that people rated its encoder has an NDCG of 0.9000, the champion's 0.9100. Set by"
        " Policy.rated = 0.005."
    )
    assert verdict_on(compared(0.910, 0.901, error=0.004)).verdict == "promote", "which chance may explain"


def test_what_champions_lose_one_after_another_is_bounded_by_the_encoder_as_it_comes() -> None:
    held = verdict_on(compared(0.903, 0.915))
    assert (held.verdict, held.codes[0]) == ("hold", "rated_as_it_comes")
    assert "the encoder as it comes 0.9150" in held.reasons[0]
    assert verdict_on(compared(None, 0.915)).verdict == "hold"
    assert verdict_on(None).verdict == "promote", "nothing is said where there are none"


def test_of_equal_encoders_chance_hardly_ever_shows_one_to_be_worse() -> None:
    """An update moves three queries in ten, as often up as down. Where just as much is lost as is allowed, one in forty
    is held; where nothing is, one in thousands."""
    random, limit = np.random.default_rng(0), Policy().rated.at_most
    held = {0.0: 0, limit: 0}
    for lost in held:
        for _ in range(1_000):
            moved = random.random(200) < 0.3
            shown = by_query(moved * random.normal(0, 0.1, 200) - lost).surely_lost
            held[lost] += shown is not None and shown > limit
    assert held[0.0] <= 5
    assert 5 <= held[limit] <= 50
    assert by_query(np.zeros(200)).surely_lost == 0
    assert by_query(np.zeros(29)).surely_lost is None


def test_the_texts_as_they_come_are_encoded_once_a_process(tmp_path: Path) -> None:
    pairs = written(tmp_path, ROWS)
    rated.as_it_comes.cache_clear()
    for _ in range(2):
        compare_rated(pairs, champion=TextPart(DESIGN), challenger=TextPart(DESIGN))
    assert rated.as_it_comes.cache_info().misses == 2, "queries and texts"
