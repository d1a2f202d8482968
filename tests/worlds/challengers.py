"""Evidence about challengers of known worth, for tests of the gate and of what else is made of evidence."""

from dataclasses import replace
from typing import Any

from monitoring.evaluation.compare import compare
from monitoring.evaluation.comparison import Comparison, Gain
from monitoring.evaluation.evidence import Evidence, Hypothesis, WindowFacts
from monitoring.evaluation.process_record import ProcessRecord
from monitoring.statistics.error_control import PastTests
from monitoring.statistics.sequential import Moments
from tests.worlds.windows import END, START, window

SHOWN = ProcessRecord().add(Moments(20_000, 0.005, 0.016), loss=0.01)
"""Of a process that is shown not to lose."""


def evidence_of(
    comparison: Comparison, *, process: ProcessRecord = SHOWN, hypothesis: Hypothesis = "not_worse", **parts: Any
) -> Evidence:
    """Evidence about a challenger with this comparison, and with those other parts."""
    evidence = Evidence(
        window=WindowFacts(START, END, comparison.impressions, comparison.label_rate, 0),
        judged="progressive",
        hypothesis=hypothesis,
        champion="7" if comparison.against_champion else None,
        comparison=comparison,
        process=process,
        tests=PastTests() if hypothesis == "better" else None,
    )
    return replace(evidence, **parts)


def compared(champion_noise: float | None, challenger_noise: float, *, requests: int = 480) -> Comparison:
    """Two models that know the truth but for an error of their log-odds; None: there is no champion."""
    part = window(requests=requests)
    champion = None if champion_noise is None else part.blurred(champion_noise, 1000)
    return compare(part.label, part.request, challenger=part.blurred(challenger_noise, 2000), champion=champion)


def gain_of(share: float, *, requests: int = 480, spread: float = 0.12) -> Gain:
    """A gain of just that share, and that standard deviation by request."""
    reach = 1.645 * spread / requests**0.5
    return Gain(requests, share, lower=share - reach, upper=share + reach, moments=Moments(requests, share, spread**2))


def with_gain(share: float, *, requests: int = 480, spread: float = 0.12, **parts: Any) -> Evidence:
    """Evidence whose gain over the champion is just that."""
    comparison = compared(0.1, 0.1, requests=requests)
    return evidence_of(replace(comparison, gain=gain_of(share, requests=requests, spread=spread)), **parts)
