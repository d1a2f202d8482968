"""The embedded Evidently UI, on its own origin only: by itself it takes reports from any page.

python -m monitoring.evidently_pages CONFIGURATION
"""

import sys

from infra import environment
from infra.listening import listen
from infra.settings import Settings


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    from evidently.ui.service.app import create_app, get_config

    config = get_config(host=settings.host, port=settings.evidently_port, conf_path=sys.argv[1])
    listen(create_app(config), settings, settings.evidently_port, settings.evidently)


if __name__ == "__main__":
    main()
