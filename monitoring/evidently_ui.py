"""The Evidently UI, started so that it takes any address of a database.

    python -m monitoring.evidently_ui ui --conf-path evidently.json

Evidently hands its address to alembic's configuration, where ``%`` introduces an interpolation: a percent-encoded
password ended its start, and stood in the log.
"""


def main() -> None:
    """Evidently's own command line."""
    from alembic.config import Config

    plain = Config.set_main_option

    def escaped(self: Config, name: str, value: str) -> None:
        plain(self, name, value.replace("%", "%%"))

    Config.set_main_option = escaped  # type: ignore[method-assign]
    from evidently.cli import app, ui  # noqa: F401  # the import adds the command

    app()


if __name__ == "__main__":
    main()
