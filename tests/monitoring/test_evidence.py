"""Evidence is one value: written as JSON and read back as it was, whatever was measured and whatever was not."""

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.checks.limits import Check
from monitoring.evaluation.comparison import Measures
from monitoring.evaluation.evidence import VERSION, Evidence, Forgetting, WindowFacts
from monitoring.evaluation.skew import Skew
from monitoring.records.evidence_store import canonical
from monitoring.statistics.sequential import Moments
from tests.worlds.challengers import compared, evidence_of, gain_of, with_gain
from tests.worlds.windows import END, START

MOMENTS = datetime(2000, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001  # hypothesis adds the zone


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type that evidence is made of."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        return st.deferred(lambda: instances(hint))
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(0, 2**62),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        datetime: st.datetimes(*MOMENTS, timezones=st.just(UTC)),
    }
    return plain[hint]


def instances(kind: Any) -> st.SearchStrategy[Any]:
    """Instances of a dataclass with any of the parts that have a default present or absent."""
    if kind is Moments:
        finite = st.floats(-1e6, 1e6)
        return st.builds(Moments, st.integers(0, 10**9), finite, finite.map(abs))
    hints = typing.get_type_hints(kind)
    strategies = {part.name: values(hints[part.name]) for part in fields(kind)}
    needed = {part.name for part in fields(kind) if part.default is part.default_factory is MISSING}
    return st.fixed_dictionaries(
        {name: strategies[name] for name in needed},
        optional={name: strategy for name, strategy in strategies.items() if name not in needed},
    ).map(lambda parts: kind(**parts))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(values(Evidence))
def test_what_is_written_as_json_is_read_back_as_the_same_value(evidence: Evidence) -> None:
    stored = evidence.as_json()
    assert Evidence.from_json(stored) == evidence
    assert Evidence.from_json(json.loads(canonical(stored))) == evidence, "as the database has it"
    assert stored["version"] == VERSION


def test_what_was_not_measured_is_not_in_the_json() -> None:
    nothing = Evidence(WindowFacts(START, END, 7, None, 0), "tail")
    assert set(nothing.as_json()) == {"version", "window", "judged"}
    probed = replace(nothing, skew=Skew())
    assert probed.as_json()["skew"] == {}, "measured, and nothing found"
    assert Evidence.from_json(probed.as_json()).skew == Skew()


@pytest.mark.parametrize("requests", [0, 1, 2, 40])
@pytest.mark.parametrize("champion", [0.3, None])
def test_a_real_comparison_however_thin_has_a_json_of_its_own(requests: int, champion: float | None) -> None:
    evidence = evidence_of(compared(champion, 0.1, requests=requests))
    assert Evidence.from_json(json.loads(canonical(evidence.as_json()))) == evidence


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_evidence_of_another_version_is_refused(version: Any) -> None:
    stored = with_gain(0.001).as_json() | {"version": version}
    with pytest.raises(ValueError, match=f"evidence of version {version!r}; this program reads version {VERSION}"):
        Evidence.from_json(stored)
    del stored["version"]
    with pytest.raises(ValueError, match="evidence of version None"):
        Evidence.from_json(stored)


def test_a_later_measurement_stands_over_the_earlier_and_lacks_nothing_that_it_has() -> None:
    check = Check("volume", 2_400.0, limit="100 to 5,000", passed=True, detail="2,400 impressions.")
    forgotten = Forgetting(START - timedelta(days=1), START, 900, 0.4, 0.41, gain_of(-0.02))
    earlier = with_gain(-0.004, checks=(check,), forgetting=forgotten, prequential=Measures(auc=0.7), not_finite=2)
    later = replace(
        evidence_of(compared(0.1, 0.1), process=None),  # type: ignore[arg-type]
        window=WindowFacts(END, END + timedelta(hours=1), 1_200, 0.2, 0),
        judged="fresh",
        prequential=Measures(auc=0.6),
    )
    both = later.over(earlier)
    for part in ("window", "judged", "comparison", "prequential", "champion"):
        assert getattr(both, part) == getattr(later, part)
    for part in ("checks", "forgetting", "process"):
        assert getattr(both, part) == getattr(earlier, part)
    assert both.over(earlier) == both
    assert both.skew is None, "neither has it"


def test_the_checks_that_failed_are_those_that_did_not_pass() -> None:
    check = Check("volume", 3.0, limit="100 to 5,000", passed=False, detail="3 impressions.", breach="hold")
    assert with_gain(0.0, checks=(check, replace(check, passed=True))).failed_checks == (check,)
