"""Vectors folded in for newcomers: the closed form, against the loop that its definition is."""

from dataclasses import replace

import numpy as np
import pytest

from models.examples import EMPTY
from models.retrieval.newcomers import Factors, FoldIn
from models.retrieval.recent_clicks import Lately

DESIGN = FoldIn(width=4, alpha=3.0, regularisation=0.5, sweeps=3)


def sessions(rows: int, *, seed: int = 0) -> np.ndarray:
    """Sessions of up to 5 items out of two groups of 8, 101.. and 201.., each within one group."""
    draw = np.random.default_rng(seed)
    found = draw.integers(1, 9, (rows, 5)) + draw.choice([100, 200], (rows, 1))
    found[draw.random((rows, 5)) < 0.3] = EMPTY
    return found


def by_the_book(factors: Factors, session: np.ndarray) -> np.ndarray:
    """x = (Y'CY + lambda I)^-1 Y'Cp with every matrix written out (Hu, Koren & Volinsky 2008, eq. 4)."""
    p = np.isin(factors.ids, session).astype(float)
    confidence = np.diag(1 + factors.design.alpha * p)
    y = factors.vectors
    system = y.T @ confidence @ y + factors.design.regularisation * np.eye(y.shape[1])
    return np.linalg.inv(system) @ y.T @ confidence @ p


def test_a_fold_in_is_the_solution_of_its_equation() -> None:
    factors = Factors.fit(sessions(60), DESIGN, seed=0)
    new = sessions(9, seed=5)
    new[3, 1] = new[3, 0] = 103  # clicked twice
    new[4, 2] = 999  # of an item that nobody knows
    expected = np.stack([by_the_book(factors, row) for row in new])
    np.testing.assert_allclose(factors.fold_in(new), expected, rtol=1e-9, atol=1e-12)


def test_a_fit_ends_in_items_that_solve_for_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Factors.fit(sessions(60), DESIGN, seed=0)
    monkeypatch.setattr("models.retrieval.newcomers.BLOCK", 100)  # a handful of clicks at a time
    np.testing.assert_allclose(Factors.fit(sessions(60), DESIGN, seed=0).vectors, whole.vectors, rtol=1e-9)
    loss = [squared_error(Factors.fit(sessions(60), FoldIn(width=4, sweeps=n), seed=0), sessions(60)) for n in (1, 8)]
    assert loss[1] < loss[0]
    assert (
        squared_error(Factors.fit(sessions(60), FoldIn(width=4, sweeps=1), seed=1, start=whole), sessions(60))
        < (loss[0])
    )


def squared_error(factors: Factors, told: np.ndarray) -> float:
    """The weighted error that alternating brings down, of the preferences of these sessions."""
    p = (told[:, :, None] == factors.ids).any(1)
    error = (1 + factors.design.alpha * p) * (p - factors.fold_in(told) @ factors.vectors.T) ** 2
    return float(error.sum())


def test_who_clicked_in_a_group_is_offered_that_group_and_others_what_is_popular() -> None:
    factors = Factors.fit(sessions(300), replace(DESIGN, popularity=0.02), seed=0)
    ids = np.array([*range(101, 109), *range(201, 209), 301])
    times = np.linspace(0, 10, len(ids))
    lately = Lately.new(half_lives=(3600.0,), alive_s=86400.0, attributes=0)
    lately = lately.see(np.concatenate([ids, [301] * 50]), np.append(times, [10.0] * 50), np.zeros((67, 0), np.int64))
    new = np.array([[103, 105, EMPTY], [207, EMPTY, EMPTY], [EMPTY] * 3, [999, EMPTY, EMPTY]])
    index = factors.index(lately, 10.0)
    found = index.retrieve(factors.users(new, index), 4, leave_out=new).ids
    assert (found[0] // 100 == 1).sum() >= 3
    assert not np.isin(found[0], new[0]).any()
    assert (found[1] // 100 == 2).sum() >= 3
    assert (factors.fold_in(new[2:]) == 0).all()
    popular = lately.ids[np.argsort(-lately.shares(10.0)[:, 0], kind="stable")[:4]]
    assert (found[2:] == popular).all()
    assert found[2, 0] == 301


def test_nothing_known_is_no_error() -> None:
    factors = Factors.fit(np.zeros((0, 3), np.int64), DESIGN, seed=0)
    assert factors.fold_in(sessions(2)).tolist() == np.zeros((2, 4)).tolist()
    lately = Lately.new(half_lives=(60.0,), alive_s=60.0, attributes=0)
    index = factors.index(lately, 0.0)
    assert (index.retrieve(factors.users(sessions(2), index), 3).ids == EMPTY).all()


def test_a_design_without_sense_is_refused_by_its_field() -> None:
    with pytest.raises(ValueError, match=r"fold_in\.width is 0"):
        FoldIn(width=0)
    with pytest.raises(ValueError, match=r"fold_in\.alpha is 0"):
        FoldIn(alpha=0)
