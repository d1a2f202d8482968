"""What serving knows of items, and what it made of it once for all requests."""

import json

import polars as pl

from models.serving.durable.database import Database
from models.serving.follow.entity_attributes import EntityAttributes


def attributes() -> EntityAttributes:
    return EntityAttributes("feed", "items", Database("postgresql://nobody@127.0.0.1:1/none"), lambda: 0.0)


def changed(**items: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame({"item_id": [*items], "attributes": [json.dumps(known) for known in items.values()]})


def made(of: EntityAttributes, *items: str) -> list[bytes]:
    return [getattr(known, "packed", b"none") for known in of.of(items)[0]]


def test_what_was_made_of_an_item_stays_while_the_log_says_the_same_of_it() -> None:
    known = attributes()
    known.change(changed(a={"title": "sofa"}, b={"title": "lamp"}), [b"1", b"2"])
    known.add({"a": {"title": "sofa"}, "b": {"title": "red lamp"}}, known.changes)
    assert made(known, "a", "b") == [b"1", b""]
    assert known.of(["a", "b"])[0] == [{"title": "sofa"}, {"title": "red lamp"}]
    known.change(changed(a={"title": "sofa"}), [b"3"])
    assert made(known, "a") == [b"3"], "a surface's columns may be others"


def test_what_was_read_before_a_change_does_not_stand_over_it() -> None:
    known = attributes()
    before = known.changes
    known.change(changed(a={"title": "sofa"}), [b"1"])
    known.add({"a": {"title": "old"}}, before)
    assert known.of(["a"])[0] == [{"title": "sofa"}]
    assert made(known, "a") == [b"1"]
