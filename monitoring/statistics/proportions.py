"""Two groups of yes or no: is the share of one above the other's by more than is allowed, at every look?

    log_evidence(errors, requests, errors_of_control, requests_of_control, allowed=0.01)

The evidence is the likelihood of what was found, mixed over all pairs of shares by Jeffreys' prior, over the highest
likelihood that a pair within what is allowed gives. Under each such pair the mixture's likelihood ratio is a
martingale that begins at 1, and this is no larger than any of them: it reaches 1 / level at some look with chance
`level` at most, in whatever order the groups' answers come. It is universal inference (Wasserman, Ramdas &
Balakrishnan 2020, PNAS) with a mixture in place of running estimates (Ramdas, Ruf, Larsson & Koolen 2022, "Testing
exchangeability"). The e-variables of Turner, Ly & Grünwald 2024 ("Generic E-variables for exact sequential k-sample
tests") are products over blocks of answers as they came; this needs four counts alone, which is what is kept.
"""

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]

HALVINGS = 60


def log_evidence(
    yes: npt.ArrayLike, of: npt.ArrayLike, yes_control: npt.ArrayLike, of_control: npt.ArrayLike, *, allowed: float
) -> Floats:
    """Natural logarithm of the evidence that the share `yes` / `of` [...] is above the control's by more than
    `allowed`; 0 or less where it is not above it. Raises ValueError for an `allowed` that is not from 0 to 1."""
    if not 0 <= allowed < 1:
        raise ValueError(f"allowed={allowed}: wants a share of 0 or more, below 1")
    ours, theirs = np.asarray(yes, np.float64), np.asarray(yes_control, np.float64)
    ours_no, theirs_no = np.asarray(of, np.float64) - ours, np.asarray(of_control, np.float64) - theirs
    mixed = _jeffreys(ours, ours_no) + _jeffreys(theirs, theirs_no)
    share, share_control = (a / np.maximum(a + b, 1) for a, b in ((ours, ours_no), (theirs, theirs_no)))
    outside = share > share_control + allowed
    if np.any(outside):
        at = _edge(ours, ours_no, theirs, theirs_no, allowed)
        share, share_control = np.where(outside, at + allowed, share), np.where(outside, at, share_control)
    best = _likelihood(ours, ours_no, share) + _likelihood(theirs, theirs_no, share_control)
    return np.asarray(mixed - best, np.float64)


def _jeffreys(yes: Floats, no: Floats) -> Floats:
    return np.asarray(special.betaln(yes + 0.5, no + 0.5) - special.betaln(0.5, 0.5))


def _likelihood(yes: Floats, no: Floats, share: Floats) -> Floats:
    return np.asarray(special.xlogy(yes, share) + special.xlog1py(no, -share))


def _edge(ours: Floats, ours_no: Floats, theirs: Floats, theirs_no: Floats, allowed: float) -> Floats:
    """The control's likeliest share where ours is `allowed` above it. The likelihood is concave: halving finds it."""
    low, high = np.zeros(np.broadcast(ours, theirs).shape), np.full(np.broadcast(ours, theirs).shape, 1 - allowed)
    for _ in range(HALVINGS):
        at = (low + high) / 2
        up = ours / (at + allowed) - ours_no / (1 - at - allowed) + theirs / at - theirs_no / (1 - at)
        low, high = np.where(up > 0, at, low), np.where(up > 0, high, at)
    return np.asarray((low + high) / 2)
