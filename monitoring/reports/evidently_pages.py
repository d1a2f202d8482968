"""The embedded Evidently UI, on its own origin only: by itself it takes reports from any page.

python -m monitoring.reports.evidently_pages CONFIGURATION

Evidently hands the address of its database to alembic's configuration, where ``%`` introduces an interpolation: a
percent-encoded password would end its start, and stand in the log.
"""

import sys

from infra.http.listening import listen
from infra.settings import Settings
from infra.stack import environment


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    take_any_address()
    from evidently.ui.service.app import create_app, get_config

    config = get_config(host=settings.host, port=settings.evidently_port, conf_path=sys.argv[1])
    listen(create_app(config), settings, settings.evidently_port, settings.evidently)


def take_any_address() -> None:
    """Have alembic take what it is given as it stands."""
    from alembic.config import Config

    plain = Config.set_main_option

    def escaped(self: Config, name: str, value: str) -> None:
        plain(self, name, value.replace("%", "%%"))

    Config.set_main_option = escaped  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
