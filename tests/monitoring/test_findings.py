"""Every finding of the gate and of the live watch has a sentence, and every sentence is some finding's."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.evaluation.history import CHECK
from monitoring.gate import findings
from monitoring.gate.findings import SENTENCES, Finding

ROOT = Path(findings.__file__).parents[2]

CODE_AT = {"Finding": 0, "answer": 0, "Reading": 0}
"""Functions that are given a code, and at which place."""


def makers() -> Iterator[ast.Module]:
    """The modules that make findings."""
    for folder in ("monitoring", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            if "from monitoring.gate.findings import" in text and "Finding(" in text:
                yield ast.parse(text)


def literals(node: ast.expr) -> Iterator[str]:
    """The codes that an expression may come to, up to their subjects; none where it is a variable."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value.partition("/")[0]
    elif isinstance(node, ast.JoinedStr):
        yield from literals(node.values[0])
    elif isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id == "CHECK":
        yield CHECK.partition("/")[0]
    elif isinstance(node, ast.IfExp):
        yield from (code for branch in (node.body, node.orelse) for code in literals(branch))


def produced() -> set[str]:
    """The codes that are given to a finding; by a variable, those of the table that the variable goes through."""
    codes: set[str] = set()
    for module in makers():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CODE_AT:
                codes.update(literals(node.args[CODE_AT[node.func.id]]))
            if isinstance(node, ast.Tuple):  # ``for code, drift in (("drift", evidence.drift), ...)``
                rows = [row for row in node.elts if isinstance(row, ast.Tuple)]
                codes.update(code for row in rows for code in literals(row.elts[0]))
    return codes


def test_every_code_that_the_product_gives_has_a_sentence_and_every_sentence_is_given() -> None:
    assert produced() == set(SENTENCES)


def test_a_code_without_a_sentence_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="too_green"):
        Finding("too_green", "hold")


def test_a_code_with_a_subject_has_the_sentence_of_its_first_part() -> None:
    finding = Finding("unmeasured/skew", "hold", {"figure": "skew of features"})
    assert finding.sentence == "The skew of features could not be measured."
