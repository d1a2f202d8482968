"""Many questions asked at once: which answers are more than chance, so that few of those are not.

    found = discoveries(p_values, risk=0.1)

Of what is called, the share `risk` at most is a mistake, in expectation (Benjamini & Hochberg 1995, "Controlling the
false discovery rate"). It is proven for independent p-values and those that go up together (Benjamini & Yekutieli
2001), and not for any; `tests/monitoring/test_mantel_haenszel.py` asks it of words that share their variants. Bounds
of what is called are at the level that called it, so the share of bounds that miss is held too (Benjamini & Yekutieli
2005, "False discovery rate-adjusted multiple confidence intervals for selected parameters", JASA): an effect is called
just when its bounds leave out none at all. Bounds on everything together (Bonferroni) would be promised more, none
wrong, and of thousands of words would call hardly any. Tests that come one after the other are `error_control.py`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Discoveries:
    called: npt.NDArray[np.bool_]
    """b[T]"""

    level: float
    """At which bounds are to be drawn: `risk` times the share that is called, or of one where none is."""


def discoveries(p_values: npt.NDArray[np.float64], *, risk: float) -> Discoveries:
    """Of p-values f[T]. Raises ValueError for a `risk` that is not between 0 and 1."""
    if not 0 < risk < 1:
        raise ValueError(f"risk={risk}: wants a share between 0 and 1")
    if not len(p_values):
        return Discoveries(np.zeros(0, bool), risk)
    steps = risk * np.arange(1, len(p_values) + 1) / len(p_values)
    below = np.flatnonzero(np.sort(p_values) <= steps)
    level = float(steps[below[-1]] if len(below) else steps[0])
    return Discoveries(np.asarray(p_values <= level), level)
