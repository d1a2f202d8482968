"""A team's own view, from its table to the ranker: joined point in time, trained on, and read alike to serve."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from features.declare.views import TeamView
from infra.postgres.connections import connect
from models.serving.durable.database import Database
from models.serving.rank.views import LiveViews
from tests.worlds.loop import START, Loop, after, run_update

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

STOCK = TeamView(
    name="stock",
    table="warehouse.stock",
    keys={"article": "item_id"},
    values=("pieces", "on_sale"),
    created="loaded_at",
)


def fill(loop: Loop) -> None:
    """Each item's stock at every third hour, some of it loaded an hour late."""
    with connect(loop.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA warehouse")
        connection.execute(
            "CREATE TABLE warehouse.stock (article text, event_timestamp timestamptz, loaded_at timestamptz,"
            " pieces integer, on_sale boolean)"
        )
        connection.execute(
            "INSERT INTO warehouse.stock SELECT item_id, %(start)s + h * interval '1 hour',"
            " %(start)s + (h + h %% 2) * interval '1 hour', (abs(hashtext(item_id)) / 7 + h) %% 17, h %% 2 = 1"
            " FROM (SELECT DISTINCT item_id FROM impressions) i, generate_series(0, 21, 3) h",
            {"start": START},
        )
        connection.execute("CREATE INDEX ON warehouse.stock (article, event_timestamp)")


def known(loop: Loop, item: str, at: datetime) -> tuple[float, float]:
    """What the table had of an item at a time, looked up by hand."""
    found = loop.query(
        "SELECT pieces, on_sale FROM warehouse.stock WHERE article = %s AND event_timestamp <= %s AND loaded_at <= %s"
        " ORDER BY event_timestamp DESC LIMIT 1",
        item,
        at,
        at,
    )
    return (float(found[0][0]), float(found[0][1])) if found else (np.nan, np.nan)


def test_a_teams_view_is_trained_on_and_served_as_it_was_known(loop: Loop) -> None:
    fill(loop)
    with loop.world(views=(STOCK,)) as world:
        first = run_update(world, after(18))
        assert first.verdict.verdict == "promote", first.verdict.reasons
        second = run_update(world, after(20))
        champion = world.loaded[str(second.claimed.parent_version)].model
        assert champion.layout.dense[-2:] == ("stock__pieces", "stock__on_sale")
        frame = world.frame(after(8), after(10), known_by=after(20))
        own = frame.examples.dense[:, -2:]
        rows = np.random.default_rng(0).choice(len(frame), 40, replace=False)
        shown = frame.table.select("item_id", "shown_at").rows()
        expected = [known(loop, *shown[row]) for row in rows]
        np.testing.assert_array_equal(own[rows], np.array(expected, np.float32))
        assert len(set(expected)) > 5

        item, at = shown[rows[0]]
        served = LiveViews((STOCK,), Database(loop.url))
        read = served.read("anybody", [item, "unheard of"], [{}, {}], {"region": 3}, at.timestamp())
        assert read.complete
        np.testing.assert_array_equal(read.values, np.array([known(loop, item, at), (np.nan, np.nan)], np.float32))
        served.close()

    # The view gone from the declaration, its champion cannot be read: the error names the column.
    with loop.world() as world, pytest.raises(Exception, match="has no 'stock__pieces'"):
        run_update(world, after(22))


LARGE = replace(STOCK, values=("pieces", "cents"), created=None)


@pytest.mark.slow
def test_any_finite_value_of_a_view_is_trained_on_and_served(loop: Loop) -> None:
    """Pieces in stock, seconds since 1970, what only a float32 holds, and what it does not."""
    with connect(loop.url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA warehouse")
        connection.execute(
            "CREATE TABLE warehouse.stock (article text, event_timestamp timestamptz, pieces bigint,"
            " cents double precision)"
        )
        connection.execute(
            "INSERT INTO warehouse.stock SELECT item_id, %(start)s,"
            " 61000 + abs(hashtext(item_id)::bigint) %% 1768000000,"
            " CASE abs(hashtext(item_id)) %% 3 WHEN 0 THEN 3.3e38 WHEN 1 THEN -1e30 ELSE 1e300 END"
            " FROM (SELECT DISTINCT item_id FROM impressions) i",
            {"start": START},
        )
        connection.execute("CREATE INDEX ON warehouse.stock (article, event_timestamp)")
    with loop.world(views=(LARGE,)) as world:
        outcomes = [run_update(world, after(18)), run_update(world, after(20))]
        for outcome in outcomes:
            assert outcome.judged.evidence.failed_checks == ()
        assert outcomes[0].verdict.verdict == "promote", outcomes[0].verdict.reasons
        prequential = outcomes[1].judged.evidence.prequential
        assert prequential is not None
        assert prequential.log_loss is not None
        assert np.isfinite(prequential.log_loss)
        frame = world.frame(after(18), after(20), known_by=after(20))
        own = frame.examples.dense[:, -2:]
        assert np.isfinite(own).all()
        assert own[:, 0].min() >= 61_000
        assert own[:, 1].max() == np.finfo(np.float32).max
        served = LiveViews((LARGE,), Database(loop.url))
        items, at = frame.table["item_id"][:40].to_list(), frame.examples.time[-1]
        read = served.read("anybody", items, [{}] * len(items), {}, float(at))
        assert read.complete
        np.testing.assert_array_equal(read.values, own[:40])
        served.close()


def test_a_view_that_cannot_be_read_leaves_its_values_unknown_and_says_so() -> None:
    away = LiveViews((STOCK,), Database("postgresql://127.0.0.1:1/none"))
    read = away.read("anybody", ["a", "b"], [{}, {}], {}, datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert not read.complete
    assert np.isnan(read.values).all()
    assert read.values.shape == (2, 2)


def test_a_changed_view_is_another_layout(loop: Loop) -> None:
    fresher = replace(STOCK, ttl=timedelta(hours=6))
    layouts = [replace(loop.surface, views=views).layout for views in ((), (STOCK,), (fresher,))]
    assert len({layout.schema_version for layout in layouts}) == 3
    assert layouts[0].within(layouts[1]) is not None
    with pytest.raises(ValueError, match="another meaning to 'stock__pieces'"):
        layouts[1].within(layouts[2])
