"""The story of an update on Prefect's run page: what was trained on, the verdict and why, where to look further."""

from collections.abc import Mapping

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from flows.artifact_keys import artifact_key
from flows.steps.publish import Judged, Published
from flows.world import World
from monitoring.evaluation.evidence import Evidence
from monitoring.measures import BY_KEY, number
from monitoring.reports import workspace
from monitoring.reports.markdown import comparison_table
from monitoring.sentences import as_text, percent

BRIEFLY = ("auc", "log_loss", "mrr")
"""Measures of the champion's that a sentence gives."""


def write(world: World, judged: Judged, published: Published, seconds: Mapping[str, float]) -> None:
    """Write the artifacts of the run under way."""
    surface, verdict = world.surface.name, judged.verdict
    logger = get_run_logger()
    logger.info("%s: %s", surface, verdict.verdict)
    for reason in verdict.reasons:
        logger.info(reason)
    create_markdown_artifact(
        markdown(world, judged, published, seconds),
        key=artifact_key("update", surface),
        description=f"{surface}: {verdict.verdict}",
    )
    report = artifact_key("report", surface)
    create_link_artifact(published.run_page, key=report, link_text="Evidence and report (MLflow run)")
    if published.version is not None:
        page = world.registry.version_page(world.settings.mlflow_pages, surface, published.version)
        create_link_artifact(
            page, key=artifact_key("version", surface), link_text=f"Version {published.version} (MLflow)"
        )


def markdown(world: World, judged: Judged, published: Published, seconds: Mapping[str, float]) -> str:
    """The story in markdown."""
    evidence, window, surface = judged.evidence, judged.claimed.window, world.surface.name
    kind = world.surface.features.label.kind
    lines = [
        f"# {surface}: {judged.verdict.verdict}",
        "",
        *(f"- {as_text(reason)}" for reason in judged.verdict.reasons),
        "",
        "## Trained on",
        "",
        f"Impressions shown after {window.start:%Y-%m-%d %H:%M:%S} up to {window.split:%Y-%m-%d %H:%M:%S} UTC"
        + (
            " were trained on, each predicted just before: that is what is judged."
            if window.split == window.end
            else f" were trained on; those up to {window.end:%Y-%m-%d %H:%M:%S} judged the challenger."
        ),
        f"{evidence.window.impressions:,} impressions in all, {_rate(evidence)} with a {kind}.",
        "",
    ]
    if published.state == "canary":
        lines += [f"It is a canary first, beside champion {judged.claimed.parent_version}.", ""]
    if evidence.stand_in is not None:
        lines += [evidence.stand_in.sentence, ""]
    if evidence.comparison is not None:
        lines += ["## Challenger against champion", "", *comparison_table(evidence.comparison), ""]
    lines += _beside(evidence)
    if evidence.prequential is not None:
        figures = (f"{BY_KEY[key].name} {number(evidence.prequential.of(BY_KEY[key]))}" for key in BRIEFLY)
        lines += [f"The champion on the whole window, before anything trained on it: {', '.join(figures)}.", ""]
    lines += ["## Look further", "", f"- [Evidence and report]({published.run_page}), MLflow run"]
    if published.version is not None:
        page = world.registry.version_page(world.settings.mlflow_pages, surface, published.version)
        lines += [f"- [Version {published.version}]({page}), MLflow"]
    lines += [f"- [Dashboard over time]({workspace.project_url(world.settings.evidently, surface)}), Evidently"]
    lines += ["", "## Seconds", "", "| step | seconds |", "| --- | ---: |"]
    lines += [f"| {step} | {spent:.2f} |" for step, spent in seconds.items()]
    return "\n".join(lines)


def _beside(evidence: Evidence) -> list[str]:
    """What else the challenger was held against."""
    rows = [(f"{found.name}: version {found.version}", found.gain) for found in evidence.references]
    if evidence.forgetting is not None:
        rows.append(("champion, on the day before", evidence.forgetting.gain))
    if evidence.in_sample is not None:
        rows.append(("champion, on the window once it is trained on", evidence.in_sample.gain))
    if not rows:
        return []
    lines = ["| also against | requests | gain in log loss | 95 %, one-sided |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {name} | {gain.requests:,} | {_share(gain.share)} | {_share(gain.lower)} to {_share(gain.upper)} |"
        for name, gain in rows
    ]
    return [*lines, ""]


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value, signed=True)


def _rate(evidence: Evidence) -> str:
    rate = evidence.window.label_rate
    return "none" if rate is None else percent(rate)
