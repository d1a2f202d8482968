"""What chance gives is trained on: windows are not chosen by their labels, and no figure of a few clicks decides."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import psycopg
import pytest

from flows import ledger
from monitoring.checks.features import check_features
from monitoring.checks.history import check_label_rate
from monitoring.checks.labels import check_labels
from monitoring.checks.limits import Check, Expected, InForce, PastWindow, failed
from monitoring.checks.profiles import Profile
from monitoring.checks.window import check_window
from monitoring.evaluation.compare import compare
from monitoring.evaluation.comparison import Comparison
from monitoring.gate.hypotheses import not_worse
from monitoring.statistics.chance import CANNOT_BE, between, dispersion, surely_above, surprise_above, surprise_of_odds
from tests.worlds.challengers import SHOWN
from tests.worlds.windows import END, NAMES, START, Window, window

BEGIN, STEP = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=10)

Stream = Iterator[tuple[datetime, datetime, np.ndarray]]


def stream(rate: float, size: int, count: int, seed: int) -> Stream:
    random = np.random.default_rng(seed)
    for k in range(count):
        yield BEGIN + k * STEP, BEGIN + (k + 1) * STEP, (random.random(size) < rate).astype(float)


def followed(windows: Stream) -> tuple[list[str], np.ndarray]:
    """What a failed check leads to, window by window, and the labels trained on: a window that is held comes with the
    next."""
    words, trained, history, waiting, first = (
        list[str](),
        list[np.ndarray](),
        list[PastWindow](),
        list[np.ndarray](),
        None,
    )
    for start, end, label in windows:
        first, waiting = first or start, [*waiting, label]
        together = np.concatenate(waiting)
        check = check_label_rate(together, Expected("v", first, end, history=tuple(history)), InForce())
        words.append("promote" if check.passed else check.breach)
        if check.passed:
            trained.append(together)
            history = [*history, PastWindow(first, end, len(together), float(together.mean()))][-150:]
        if words[-1] != "hold":
            waiting, first = [], None
    return words, np.concatenate(trained)


@pytest.mark.parametrize("size", [600, 1500])
@pytest.mark.parametrize("rate", [0.05, 0.005, 0.002, 0.001, 0.998])
def test_over_a_long_stream_the_click_rate_trained_on_is_the_true_one(rate: float, size: int) -> None:
    words, trained = followed(stream(rate, size, 250, seed=round(1000 * rate) + size))
    assert "reject" not in words
    assert words.count("hold") <= 5
    error = np.sqrt(rate * (1 - rate) / len(trained))
    assert abs(trained.mean() - rate) < 4 * error
    assert len(trained) >= 0.95 * 250 * size


def test_labels_that_hang_together_are_no_reason_to_wait_either() -> None:
    """Readers who like everything, and readers who like nothing."""
    random = np.random.default_rng(5)
    history, words = list[PastWindow](), list[str]()
    for k in range(120):
        user = np.repeat(np.arange(60), 10)
        label = (random.random(600) < random.beta(0.1, 1.9, 60)[user]).astype(float)
        start, end = BEGIN + k * STEP, BEGIN + (k + 1) * STEP
        check = check_label_rate(label, Expected("v", start, end, history=tuple(history)), InForce(), user=user)
        words.append("promote" if check.passed else check.breach)
        history.append(PastWindow(start, end, 600, float(label.mean())))
    assert words.count("promote") >= 118
    assert "reject" not in words


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_log_that_lost_all_its_labels_is_rejected_and_one_that_cannot_tell_waits(label: float) -> None:
    usual = abs(label - 0.05)
    past = tuple(PastWindow(BEGIN - (k + 1) * STEP, BEGIN - k * STEP, 3000, usual + 0.001 * (k % 3)) for k in range(12))
    broken = np.full(3000, label)
    check = check_label_rate(broken, Expected("v", BEGIN, BEGIN + STEP, history=past), InForce())
    assert (check.passed, check.breach) == (False, "reject")
    waits = check_label_rate(broken[:400], Expected("v", BEGIN, BEGIN + STEP, history=past), InForce())
    assert (waits.passed, waits.breach) == (False, "hold")
    unknown = check_label_rate(broken, Expected("v", BEGIN, BEGIN + STEP), InForce())
    assert (unknown.passed, unknown.breach) == (False, "hold")


def test_by_the_ledger_a_held_window_comes_with_the_next_and_every_click_is_trained_on(
    connection: psycopg.Connection,
) -> None:
    """Rare clicks, the real ledger: the windows that it gives, and what becomes of those that are held."""
    rate, size, random = 0.002, 600, np.random.default_rng(8)
    count = 60
    label = (random.random(count * size) < rate).astype(float)
    label[10 * size : 10 * size + 40] = 1.0  # an improbable window, which waits
    connection.execute("CREATE TABLE impressions_all PARTITION OF impressions DEFAULT")
    connection.execute(
        "INSERT INTO impressions (surface, impression_id, request_id, user_id, item_id, shown_at, known_at, seq)"
        " SELECT 'feed', 'i' || k, 'r' || k, 'u' || k, 'a', %(t)s + k * interval '1 s', %(t)s, k"
        " FROM generate_series(1, %(n)s) k",
        {"t": BEGIN, "n": len(label)},
    )
    connection.execute(
        "INSERT INTO event_days SELECT 'feed', 'impressions', shown_at::date, min(seq), max(seq) FROM impressions"
        " GROUP BY shown_at::date"
    )
    cut = ledger.Cut(timedelta(0), 0.0, timedelta(hours=1), 500)
    history, words, trained = list[PastWindow](), list[str](), np.zeros(len(label), dtype=np.int64)
    for k in range(count):
        opening = ledger.Opening(BEGIN + timedelta(seconds=size * (k + 1)), champion=None)
        claimed = ledger.claim(connection, "feed", opening, cut)
        ends = ((at - BEGIN).total_seconds() for at in (claimed.window.start, claimed.window.end))
        rows = slice(*(int(at) for at in ends))
        expected = Expected("v", claimed.window.start, claimed.window.end, history=tuple(history))
        check = check_label_rate(label[rows], expected, InForce())
        word = "promoted" if check.passed else {"hold": "held", "reject": "rejected"}[check.breach]
        words.append(word)
        if word == "promoted":
            history.append(PastWindow(expected.start, expected.end, len(label[rows]), float(label[rows].mean())))
            trained[rows] += 1
        # Nothing is promoted here that later claims would start from: what was trained on is passed by as a reject is.
        ledger.finish(connection, claimed, "held" if word == "held" else "rejected")
    assert "rejected" not in words
    assert words[10] == "held"
    until = np.flatnonzero(trained)[-1] + 1
    assert (trained[:until] == 1).all()
    assert until >= 0.5 * len(label)


def test_no_click_in_a_window_fails_no_check_of_labels() -> None:
    random = np.random.default_rng(2)
    found = list[Check]()
    for seed in range(60):
        part = window(seed, requests=120)
        truth = np.clip(0.002 * np.exp(random.normal(0, 1, len(part.label)) - 0.5), 1e-5, 0.5)
        label = (random.random(len(truth)) < truth).astype(float)
        contexts = {"device": pl.Series(np.where(np.arange(len(truth)) % 3 == 0, "phone", "desktop"))}
        found += failed(check_labels(part.frame, label, truth, contexts=contexts))
    assert len(found) <= 1
    assert all(check.breach == "hold" for check in found)


def verdict_of(comparison: Comparison) -> str:
    """What the gate says of a routine challenger, by a process that is shown not to lose."""
    assert comparison.gain.moments is not None
    return not_worse(comparison.gain.moments, SHOWN, margin=0.01).word


def test_a_window_without_a_click_shows_no_challenger_to_be_worse() -> None:
    """It predicts a quarter more than the champion: without a click every request looks like a loss."""
    part, random, words = window(requests=120), np.random.default_rng(3), list[str]()
    for _ in range(200):
        champion = np.clip(0.002 * np.exp(random.normal(0, 0.3, 600)), 1e-4, 0.1)
        label = (random.random(600) < champion).astype(float)
        words.append(verdict_of(compare(label, part.request, challenger=champion * 1.25, champion=champion)))
    assert "reject" not in words
    quiet = compare(np.zeros(600), part.request, challenger=champion * 1.25, champion=champion)
    assert quiet.gain.share is not None
    assert quiet.gain.upper is not None
    assert quiet.gain.share < -0.2
    assert quiet.gain.upper > 0
    loud = compare(np.zeros(600), part.request, challenger=champion + 0.4, champion=champion)
    assert verdict_of(loud) == "reject"


def test_labels_of_a_few_users_with_many_rows_each_say_as_much_as_a_few() -> None:
    """As of ratings: thirty people, each with ninety rows and a leaning of his own."""
    words = list[bool]()
    for seed in range(60):
        random = np.random.default_rng(seed)
        user = np.repeat(np.arange(30), 90)
        chance = 1 / (1 + np.exp(-random.normal(0, 1.2, 30)))
        label = (random.random(len(user)) < chance[user]).astype(float)
        history = tuple(PastWindow(BEGIN - (k + 1) * STEP, BEGIN - k * STEP, 2700, 0.5) for k in range(5))
        expected = Expected("v", BEGIN, BEGIN + STEP, history=history)
        words.append(check_label_rate(label, expected, InForce(), user=user).passed)
    assert all(words)


def profile_of(part: Window, dense: np.ndarray, label: np.ndarray | None = None) -> Profile:
    """Of a window in which each request is another user's."""
    return Profile.of(dense, NAMES, label=label, user=part.request)


@pytest.mark.parametrize("clicks", [1, 3, 10])
def test_a_feature_does_not_know_the_label_for_ranking_a_few_clicks_well(clicks: int) -> None:
    references = [
        Profile.of(past.dense, NAMES, label=past.label) for past in (window(seed) for seed in range(100, 106))
    ]
    found = list[Check]()
    for seed in range(40):
        part = window(seed, requests=120)
        label = np.zeros(len(part.label))
        label[np.random.default_rng(seed).choice(len(label), clicks, replace=False)] = 1
        found += failed(
            check_features(part.dense, NAMES, references, label, profile=profile_of(part, part.dense, label))
        )
    assert [check.name for check in found] in ([], ["features that know the label"])
    assert all(check.breach == "hold" for check in found)


def test_a_value_that_few_have_is_not_narrowed_when_none_of_them_comes() -> None:
    def rare(seed: int, share: float) -> Profile:
        part = window(seed, requests=120)
        dense = part.dense.astype(np.float32)
        dense[:, 3] = np.where(np.random.default_rng(seed).random(len(dense)) < share, 40.0, 0.0)
        return profile_of(part, dense)

    references = [rare(seed, 0.01) for seed in range(6)]
    for share in (0.0, 0.03):
        assert not failed(check_features(window(9, requests=120).dense, NAMES, references, profile=rare(9, share)))


def test_a_value_that_one_in_a_hundred_has_has_not_moved_when_a_few_more_have_it() -> None:
    """As on a log of ads: of two in a thousand, the quantile of the last hundredth jumps from nothing to all."""

    def rare(seed: int, share: float) -> tuple[np.ndarray, Profile]:
        part = window(seed, requests=2400)
        dense = part.dense.astype(np.float32)
        dense[:, 3] = np.where(np.random.default_rng(seed).random(len(dense)) < share, 1.0, 0.0)
        return dense, profile_of(part, dense)

    references = [rare(seed, 0.008)[1] for seed in range(6)]
    for share, found in ((0.0115, []), (0.08, ["features shifted"])):
        dense, profile = rare(9, share)
        assert [check.name for check in failed(check_features(dense, NAMES, references, profile=profile))] == found


def test_retries_at_the_allowed_share_and_one_late_event_of_few_are_chance() -> None:
    clean = window(requests=1200)
    row = pl.int_range(pl.len())
    twice = pl.when(row < 28).then(pl.col("item_id").gather(row // 2 * 2)).otherwise("item_id").alias("item_id")
    frame = clean.frame.with_columns(pl.format("a{}", row).alias("item_id")).with_columns(twice)
    expected = Expected("v1", START, END)
    lateness = np.append(np.full(30, 5.0), 9000.0)
    names = [c.name for c in failed(check_window(frame, None, NAMES, expected, lateness_s=lateness))]
    assert "retries" not in names
    assert "lateness" not in names
    late = check_window(frame, None, NAMES, expected, lateness_s=np.append(np.full(30, 5.0), np.full(9, 9000.0)))
    assert "lateness" in [c.name for c in failed(late)]


def test_surprise_bounds_the_chance_and_no_draw_is_no_surprise() -> None:
    random = np.random.default_rng(0)
    found = random.binomial(600, 0.01, 20_000) / 600
    surprises = np.array([surprise_above(share, 600, 0.01) for share in found])
    for level in (0.1, 0.01, 0.001):
        assert (surprises > -np.log(level)).mean() <= level
    assert surprise_above(0.5, 0, 0.01) == 0
    assert max(surprise_of_odds(0.0, 600, 0.002, 6000, 1.8)) < 3
    assert surprise_of_odds(0.0, 60_000, 0.02, 6000, 1.8)[0] > CANNOT_BE
    assert surely_above(0.02, 50, 0.001) < 0.001 < surely_above(0.02, 5_000_000, 0.001) < 0.02


def test_dispersion_knows_groups_from_rows() -> None:
    random = np.random.default_rng(1)
    group = np.repeat(np.arange(500), 10)
    alone = (random.random(5000) < 0.3).astype(float)
    alike = (random.random(500) < 0.3).astype(float)[group]
    variance = np.full(5000, 0.21)
    assert dispersion(alone - 0.3, variance, group) < 1.3
    assert dispersion(alike - 0.3, variance, group) > 2.5
    assert dispersion(np.zeros(5000), np.zeros(5000), group) == 1.0
    assert between([1, 0, 2, 1], [600, 600, 600, 600]) == 1.0
    assert between([50, 10, 90, 30], [600, 600, 600, 600]) > 10
