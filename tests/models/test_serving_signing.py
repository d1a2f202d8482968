"""Impression ids: the same for the same request, of one surface, and made by nobody without the secret."""

from binascii import a2b_base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.serving.access.signing import (
    NAMED,
    SETTLES_S,
    SIGNED,
    TEXT,
    Signer,
    SigningSecret,
    has_signed_form,
)

NOW = 1_764_200_000.0
OLD = NOW - 2 * SETTLES_S

IDS = st.text("ab:,|\x1f0é", max_size=6)
SURFACES = st.sampled_from(["feed", "feed_2", "ads", "a"])


def secret(n: int, made_at: float = OLD) -> SigningSecret:
    return SigningSecret(bytes([n]) * 32, made_at)


def signer_of(*secrets: SigningSecret, now: float = NOW) -> Signer:
    signer = Signer()
    signer.use(secrets, now)
    return signer


SIGNER, STRANGER = signer_of(secret(1)), signer_of(secret(2))


@given(SURFACES, IDS, IDS, st.lists(IDS, unique=True, max_size=5))
def test_the_same_request_has_the_same_ids_which_say_their_surface_and_verify(
    surface: str, user: str, request: str, items: list[str]
) -> None:
    ids = SIGNER.impression_ids(surface, user, request, items)
    assert ids == SIGNER.impression_ids(surface, user, request, items)
    assert [SIGNER.surface_of(one) for one in ids] == [surface] * len(items)
    assert all(has_signed_form(one, {surface}) and len(one) == len(surface) + 1 + TEXT for one in ids)
    assert ids == [SIGNER.impression_ids(surface, user, request, [item])[0] for item in items], "alone or together"


@given(st.tuples(SURFACES, IDS, IDS, IDS), st.tuples(SURFACES, IDS, IDS, IDS))
def test_ids_are_alike_only_where_all_four_texts_are(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    first, second = (SIGNER.impression_ids(*texts[:3], [texts[3]])[0] for texts in (one, other))
    assert (first == second) == (one == other)


@given(SURFACES, IDS, IDS, IDS)
def test_another_secret_makes_other_ids_and_takes_none_of_these(
    surface: str, user: str, request: str, item: str
) -> None:
    ours, theirs = (each.impression_ids(surface, user, request, [item])[0] for each in (SIGNER, STRANGER))
    assert ours != theirs
    assert SIGNER.surface_of(theirs) is STRANGER.surface_of(ours) is None


@given(SURFACES, SURFACES, IDS, st.data())
def test_an_id_that_was_changed_anywhere_does_not_verify(
    surface: str, other: str, item: str, data: st.DataObject
) -> None:
    made = SIGNER.impression_ids(surface, "u", "r", [item])[0]
    place = data.draw(st.integers(0, len(made) - 1))
    letter = data.draw(st.sampled_from("ABab01-_:+/= é\n") | st.characters(codec="utf-8"))
    changed = made[:place] + letter + made[place + 1 :]
    assert SIGNER.surface_of(changed) == (surface if changed == made else None)
    moved = f"{other}:{made.partition(':')[2]}"
    assert SIGNER.surface_of(moved) == (surface if other == surface else None)


@given(st.text() | SURFACES.flatmap(lambda name: st.from_regex(rf"{name}:[A-Za-z0-9_-]{{27}}", fullmatch=True)))
def test_no_text_but_ours_verifies_or_trips_the_reader(text: str) -> None:
    assert SIGNER.surface_of(text) is None
    has_signed_form(text, {"feed"})


def test_no_two_texts_are_the_same_id() -> None:
    """27 characters could hold two bits more than 20 bytes: those must be as they are written."""
    made = SIGNER.impression_ids("feed", "u", "r", ["a"])[0]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [made[:-1] + letter for letter in letters if SIGNER.surface_of(made[:-1] + letter)] == [made]


def test_of_a_reader_an_id_says_nothing() -> None:
    made = SIGNER.impression_ids("feed", "ana@example.org", "r", ["a"])[0]
    assert "ana" not in made
    assert len(a2b_base64(made.partition(":")[2].replace("-", "+").replace("_", "/") + "=")) == NAMED + SIGNED


def test_after_a_rotation_the_new_secret_signs_once_all_know_it_and_the_old_verifies_on() -> None:
    young = secret(2, made_at=NOW - 1.0)
    rotated = signer_of(secret(1), young)
    before = SIGNER.impression_ids("feed", "u", "r", ["a"])
    assert rotated.impression_ids("feed", "u", "r", ["a"]) == before, "others may not know it yet"
    rotated.use([secret(1), young], NOW + SETTLES_S)
    after = rotated.impression_ids("feed", "u", "r", ["a"])
    assert after == STRANGER.impression_ids("feed", "u", "r", ["a"])
    assert [rotated.surface_of(one) for one in (*before, *after)] == ["feed", "feed"]
    assert SIGNER.surface_of(after[0]) is None


def test_where_none_has_settled_all_processes_sign_with_the_same() -> None:
    first, second = secret(1, NOW), secret(2, NOW)
    assert signer_of(first, second).impression_ids("feed", "u", "r", ["a"]) == SIGNER.impression_ids(
        "feed", "u", "r", ["a"]
    )


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("feed:" + "A" * 27, True),
        ("ads:" + "A" * 27, False),  # no surface of this process
        ("feed:" + "A" * 26, False),
        ("feed:" + "A" * 26 + "=", False),
        ("feed:" + "A" * 27 + "\n", False),
        ("feed:x:" + "A" * 27, False),
        ("A" * 27, False),
        ("feed", False),
    ],
)
def test_what_claims_to_be_served_here(text: str, claims: bool) -> None:
    assert has_signed_form(text, {"feed"}) == claims
