"""A ranker's raw columns: whatever a surface declares, the arrays made of them are those that serving makes."""

import json

import numpy as np
import pytest

from features.counters.engine import Engine
from features.counters.event_values import Candidates
from features.declare.columns import Id, Number
from features.declare.features import Features
from features.declare.views import TeamView
from features.identity.canonical import canonical
from models.declared_columns import raw_columns
from models.examples import Examples
from models.frames import to_score
from models.layouts import layout_of
from models.versions.raw_columns import RawColumns
from tests.worlds.any_surface import any_features, any_log, cut
from tests.worlds.events import Ledger
from tests.worlds.raw_rows import raw_rows

STOCK = TeamView("stock", table="stock", keys={"article": "item_id"}, values=("pieces", "on_sale"))


def by_column(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    return {name: [row.get(name) for row in rows] for name in {name for row in rows for name in row}}


def expect_same(found: Examples, expected: Examples) -> None:
    np.testing.assert_array_equal(found.dense, expected.dense)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.history, expected.history)


@pytest.mark.parametrize("seed", range(6))
def test_raw_values_become_the_arrays_that_serving_makes(seed: int) -> None:
    random = np.random.default_rng(seed)
    features = any_features(random)
    log, layout = any_log(features, random), layout_of(features.schema, (STOCK,), features.labels)
    columns = raw_columns(features, (STOCK,), layout)
    assert RawColumns.of(json.loads(json.dumps(columns.description()))) == columns
    engine, ledger = Engine(features), Ledger(features)
    for batch in cut(log.events(), features.tick, 600):
        ledger.write(engine.fold(batch, served_keys=ledger.served_keys))
    values = features.schema.unpack([ledger.rows[row["impression_id"]] for row in log.impressions])
    views = random.choice([np.nan, 0.0, 1.0, 17.25, 3e38], (len(values), 2)).astype(np.float32)
    said = [*log.items.values(), *log.users.values(), *(row["context"] for row in log.impressions)]
    texts = {text for one in said for value in one.values() if (text := canonical(value)) is not None}
    rows = raw_rows(columns, values, views, [*log.items, *log.users, *texts])
    found = columns.examples(by_column(rows), len(rows))
    expect_same(found, to_score(values, views, features.schema, 0.0))


def test_what_is_not_given_is_what_it_is_of_a_user_and_an_item_nobody_has_seen() -> None:
    features = Features(columns=(Id("section", of="item"), Number("price", of="item")))
    layout = layout_of(features.schema, (), features.labels)
    columns = raw_columns(features, (), layout)
    found = columns.examples({"user_id": ["u1"], "item_id": ["a"]}, 1)
    unseen = Engine(features).read(Candidates("u1", ["a"]), 1_760_000_000.0)
    expected = to_score(unseen, np.zeros((1, 0), np.float32), features.schema, 0.0)
    hour = [layout.dense.index(name) for name in ("hour_sin", "hour_cos")]
    assert np.isnan(found.dense[0, hour]).all()
    expected.dense[0, hour] = np.nan
    expect_same(found, expected)


def test_columns_of_one_name_are_told_apart_and_a_text_for_a_number_is_refused_by_name() -> None:
    features = Features(columns=(Id("user_id"), Number("item_id")))
    columns = raw_columns(features, (), layout_of(features.schema, (), features.labels))
    names = [*(one.name for one in columns.ids), *columns.lists, *columns.numbers]
    assert len(set(names)) == len(names)
    assert {"user_id", "user_id_", "item_id", "item_id_", "last_items"} <= set(names)
    with pytest.raises(ValueError, match=r"column item_id_: .*give numbers, and null"):
        columns.examples({"user_id": ["u"], "item_id": ["i"], "item_id_": ["dear"]}, 1)
