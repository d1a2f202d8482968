"""The dashboard, the alert rules and the page that lists the metrics name what serving has, and all of it."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from models.serving.stages import Stage
from models.serving.telemetry import Metrics

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "infra" / "grafana" / "millrace.json"
ALERTS = ROOT / "infra" / "grafana" / "alerts.yml"
PAGE = ROOT / "docs" / "operating.md"

SELECTED = re.compile(r"(millrace_\w+)(?:\{([^}]*)\})?")


def metrics() -> dict[str, set[str]]:
    """Every metric by the name that an expression selects, with its labels."""
    found = dict[str, set[str]]()
    for metric in vars(Metrics()).values():
        if not hasattr(metric, "_labelnames"):
            continue
        labels = {*metric._labelnames}
        name, kind = metric._name, metric._type
        if kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[f"{name}_total" if kind == "counter" else name] = labels
    return found


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return read


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    rules = [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    return shown + rules


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_selects_metrics_that_are_there_by_labels_that_they_have(expression: str) -> None:
    there = metrics()
    selected = SELECTED.findall(expression)
    assert selected
    labels = set[str]()
    for name, matchers in selected:
        assert name in there
        labels |= there[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= there[name]
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= labels
    counters = {name for name, _ in selected if name.endswith(("_total", "_bucket", "_sum", "_count"))}
    assert not counters or "rate(" in expression or "increase(" in expression, "counters of several processes"


def test_the_dashboard_can_be_imported() -> None:
    """Every panel has a place of its own and takes its data from the variable ``datasource``."""
    read = dashboard()
    variables = {variable["name"]: variable["type"] for variable in read["templating"]["list"]}
    assert variables == {"datasource": "datasource", "surface": "query"}
    numbers = [panel["id"] for panel in read["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = set[tuple[int, int]]()
    for panel in read["panels"]:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        assert x + w <= 24
        cells = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"])


def test_what_is_watched_is_on_the_dashboard() -> None:
    shown = {re.sub("_(bucket|sum|count)$", "", name) for text in expressions() for name, _ in SELECTED.findall(text)}
    there = {re.sub("_(bucket|sum|count)$", "", name) for name in metrics()}
    assert there - shown == set()


def test_the_page_lists_every_metric_and_no_other() -> None:
    table = PAGE.read_text().partition("| metric | labels |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"^\| `(millrace_\w+)` \|", table, re.MULTILINE))
    there = {re.sub("_(bucket|sum|count)$", "", name) for name in metrics()}
    assert listed == there


def test_the_page_explains_every_stage() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert {*get_args(Stage)} <= listed
