"""What the answer says of feedback: what counts, what was there, what nobody declares; nothing accepted is lost."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from features.log.tally import MOST_NAMED
from infra.postgres.connections import connect
from models.serving.config import ServedSurface
from tests.conftest import fresh_database
from tests.models.test_serving_events import outcomes, said, send, shown, user_now
from tests.worlds.serving import FEATURES, Client, rank, serve, waiting_for_the_log, with_items
from tests.worlds.waiting import eventually


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        with_items(url)
        yield url


@pytest.fixture(scope="module")
def client(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serve(waiting_for_the_log(database, tmp_path_factory.mktemp("serving"))) as client:
        yield client


def kept(database: str, kind: str) -> int:
    with connect(database) as connection:
        return int(connection.execute("SELECT count(*) FROM feedback WHERE kind = %s", [kind]).fetchall()[0][0])


def test_feedback_is_counted_or_a_repeat_or_of_a_kind_that_nobody_declares(client: Client, database: str) -> None:
    names = [one["impression_id"] for one in rank(client)["items"]]
    events = [
        *({"impression_id": name, "kind": "click"} for name in (*names[:3], names[0])),
        *({"impression_id": name, "kind": "clikc"} for name in names[:2]),
        {"impression_id": names[3], "kind": "wow"},
    ]
    answer = client.post("/v1/feedback", json={"events": events}).json()
    assert (answer["accepted"], answer["repeated"], answer["refused"]) == (7, 1, [])
    assert answer["kinds"] == {
        "click": {"already there": 1, "counted": 3},
        "clikc": {"undeclared": 2},
        "wow": {"undeclared": 1},
    }
    (note,) = answer["notes"]
    assert note == (
        "feedback of kinds that no label of feed has is kept, and counted nowhere: clikc (2), wow (1); write"
        ' Label("clikc", weight=0) to have one counted, or send click'
    )
    again = client.post("/v1/feedback", json={"events": events}).json()
    assert again["kinds"] == {"click": {"already there": 4}, "clikc": {"already there": 2}, "wow": {"already there": 1}}
    assert again["notes"] == []
    assert (kept(database, "clikc"), kept(database, "wow")) == (2, 1)


def test_an_answer_to_events_names_columns_that_the_surface_does_not_declare(client: Client, database: str) -> None:
    context = {"device": "phone", "section": "news", "colour": "red", "price": 9.5}
    answer = send(client, shown("own", context=context), said("own"), said("own", kind="clikc"), {"type": "view"})
    assert outcomes(answer) == ["taken", "taken", "taken", "refused"]
    assert answer["kinds"] == {"click": {"counted": 1}, "clikc": {"undeclared": 1}}
    assert answer["undeclared"] == ["colour", "price"]
    assert answer["notes"][1] == "in the log, unused: colour, price"
    with connect(database) as connection:
        found = connection.execute("SELECT context FROM impressions WHERE impression_id = 'own'").fetchall()
    assert found == [({"device": "phone", "section": "news", "colour": "red", "price": "9.5"},)]
    late = send(client, said("late", at="2020-01-01T00:00:00Z"), said("late"))
    assert late["kinds"] == {"click": {"counted": 1, "refused": 1}}


def test_an_answer_to_a_request_names_values_that_no_column_takes(client: Client) -> None:
    items = [{"id": "a", "section": "news", "prize": 3}, "b"]
    answer = client.post(
        "/v1/feed/rank", json={"user_id": "u", "items": items, "context": {"device": "phone", "devise": 1}}
    ).json()
    assert answer["undeclared"] == ["devise", "prize"]
    plain = client.post("/v1/feed/rank", json={"user_id": "u", "items": ["a"], "context": {"device": "phone"}}).json()
    assert plain["undeclared"] == []


def test_an_answer_is_short_whatever_is_sent(client: Client, database: str) -> None:
    events = [said("many", kind=f"kind_{n}") for n in range(200)]
    events += [shown(f"wide {n}", context={f"column_{n}_{m}": 1 for m in range(50)}) for n in range(10)]
    answer = send(client, *events)
    assert answer["accepted"] == 210
    assert len(answer["kinds"]) == len(answer["undeclared"]) == MOST_NAMED
    assert "and 190 more" in answer["notes"][0]
    assert "and 490 more" in answer["notes"][1]
    assert sum(map(len, answer["notes"])) < 1000
    assert kept(database, "kind_199") == 1


def test_a_kind_is_declared_or_not_by_the_surface_that_the_feedback_is_of(database: str, tmp_path: Path) -> None:
    others = replace(FEATURES, labels=(replace(FEATURES.label, kind="buy"),))
    both = {"feed": ServedSurface(FEATURES), "shop": ServedSurface(others)}
    with serve(waiting_for_the_log(database, tmp_path, declared=lambda: both)) as client:
        events = [{"impression_id": "b1", "kind": "buy", "surface": surface} for surface in both]
        answer = client.post("/v1/feedback", json={"events": events}).json()
    assert answer["kinds"] == {"buy": {"counted": 1, "undeclared": 1}}
    assert "no label of feed" in answer["notes"][0]


def test_a_batch_of_clicks_on_what_another_process_showed_counts_at_once(
    client: Client, database: str, tmp_path: Path
) -> None:
    users = [f"apart {n}" for n in range(20)]
    names = {user: rank(client, user_id=user, items=["a"])["items"][0]["impression_id"] for user in users}
    with serve(waiting_for_the_log(database, tmp_path)) as other:
        eventually(lambda: user_now(other, users[-1])[0] == 1, "the other has followed the log")
        # One of them was clicked already, one is clicked twice.
        client.post("/v1/feedback", json={"impression_id": names[users[0]], "kind": "click"})
        clicks = [said(names[user]) for user in (*users, users[1])]
        answer = send(other, *clicks)
        assert answer["kinds"] == {"click": {"already there": 2, "counted": 19}}
        eventually(lambda: user_now(other, users[0])[1] == 1, "the other has followed the log")
        assert [user_now(other, user) for user in users] == [(1, 1)] * 20
