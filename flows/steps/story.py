"""The story of an update on Prefect's run page: what was learned from, the verdict and why, where to look further."""

from typing import TYPE_CHECKING, Any

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from flows.world import World
from monitoring.reports import workspace
from monitoring.sentences import as_text, left_out, percent

if TYPE_CHECKING:
    from flows.update import Outcome

MEASURES = {
    "auc": "AUC",
    "log_loss": "log loss",
    "normalised_entropy": "normalised entropy",
    "calibration_error": "calibration error",
    "mrr": "MRR",
    "hit_at_1": "hit rate at 1",
}

BESIDE = {"forgetting": "champion, on the day before", "again": "champion, on the window once it is learned"}


def tell(world: World, outcome: "Outcome") -> None:
    """Write the artifacts of the run under way."""
    surface, published = world.surface.name, outcome.published
    logger = get_run_logger()
    logger.info("%s: %s", surface, outcome.verdict.verdict)
    for reason in outcome.verdict.reasons:
        logger.info(reason)
    create_markdown_artifact(
        markdown(world, outcome), key=f"update-{surface}", description=f"{surface}: {outcome.verdict.verdict}"
    )
    create_link_artifact(published.run_page, key=f"report-{surface}", link_text="Evidence and report (MLflow run)")
    if published.version is not None:
        page = world.registry.version_page(world.settings.mlflow_pages, surface, published.version)
        create_link_artifact(page, key=f"version-{surface}", link_text=f"Version {published.version} (MLflow)")


def markdown(world: World, outcome: "Outcome") -> str:
    """The story in markdown."""
    claimed, figures, published = outcome.claimed, outcome.figures, outcome.published
    window, surface = claimed.window, world.surface.name
    lines = [
        f"# {surface}: {outcome.verdict.verdict}",
        "",
        *(f"- {as_text(reason)}" for reason in outcome.verdict.reasons),
        "",
        "## Learned from",
        "",
        f"Impressions shown after {window.start:%Y-%m-%d %H:%M:%S} up to {window.split:%Y-%m-%d %H:%M:%S} UTC"
        + (
            " were learned from, each predicted just before: that is what is judged."
            if window.split == window.end
            else f" were learned from; those up to {window.end:%Y-%m-%d %H:%M:%S} judged the challenger."
        ),
        f"{figures['impressions']:,} impressions in all, {_rate(figures)} with a {world.surface.label}.",
        "",
    ]
    if "stands_in" in figures:
        gone, instead = figures["stands_in"]["for"], figures["stands_in"]["version"]
        on = (
            "a first model is begun anew" if instead is None else f"version {instead} stands in, and is learned on from"
        )
        lines += [f"The files of version {gone} are lost: {on}.", ""]
    if "quality" in figures:
        lines += ["## Challenger against champion", "", *_table(figures["quality"]), ""]
    lines += _beside(figures)
    if "prequential" in figures:
        served = figures["prequential"]
        lines += [
            "The champion on the whole window, before anything learned from it: "
            + ", ".join(f"{MEASURES[key]} {_number(served.get(key))}" for key in ("auc", "log_loss", "mrr"))
            + ".",
            "",
        ]
    pages = world.settings
    lines += ["## Look further", ""]
    lines += [f"- [Evidence and report]({published.run_page}), MLflow run"]
    if published.version is not None:
        page = world.registry.version_page(pages.mlflow_pages, surface, published.version)
        lines += [f"- [Version {published.version}]({page}), MLflow"]
    lines += [f"- [Dashboard over time]({workspace.project_url(pages.evidently, surface)}), Evidently"]
    lines += ["", "## Seconds", "", "| step | seconds |", "| --- | ---: |"]
    lines += [f"| {step} | {seconds:.2f} |" for step, seconds in outcome.seconds.items()]
    return "\n".join(lines)


def _beside(figures: dict[str, Any]) -> list[str]:
    """What else the challenger was held against."""
    rows = [
        (f"champion of before: {row['name']} (version {row['version']})", row) for row in figures.get("anchors", [])
    ]
    rows += [(name, figures[key]) for key, name in BESIDE.items() if key in figures]
    if not rows:
        return []
    lines = ["| also against | requests | gain in log loss | 95 %, one-sided |", "| --- | ---: | ---: | ---: |"]
    for name, row in rows:
        gain, low, high = (_share(row.get(key)) for key in ("gain_share", "lower_share", "upper_share"))
        lines.append(f"| {name} | {row['requests']:,} | {gain} | {low} to {high} |")
    return [*lines, ""]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2%}"


def _table(quality: dict[str, Any]) -> list[str]:
    rival = "champion" if quality["baseline"] == "champion" else "base rate"
    lines = [f"| | {rival} | challenger |", "| --- | ---: | ---: |"]
    for key, name in MEASURES.items():
        before, now = quality["champion"].get(key), quality["challenger"].get(key)
        lines.append(f"| {name} | {_number(before)} | {_number(now)} |")
    reasons = left_out(quality, MEASURES)
    return [*lines, *(["", *(f"{as_text(reason)}." for reason in reasons)] if reasons else [])]


def _rate(figures: dict[str, Any]) -> str:
    rate = figures["label_rate"]
    return "none" if rate is None or rate != rate else percent(rate)  # NaN: no label is known


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
