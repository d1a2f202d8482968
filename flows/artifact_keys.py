"""What Prefect's artifacts are called: of lower-case letters, digits and dashes."""


def artifact_key(what: str, surface: str) -> str:
    """``update-news-feed`` of the surface ``news_feed``; no two surfaces share one."""
    return f"{what}-{surface.replace('_', '-')}"
