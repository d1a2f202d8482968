"""The embedded Prefect server, on its own origin only: Prefect itself answers the pages of every origin.

python -m flows.services.prefect_server
"""

from infra.http.listening import listen
from infra.settings import Settings
from infra.stack import environment


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    from prefect.server.api.server import create_app

    listen(create_app(final=True), settings, settings.prefect_port, settings.prefect_api.removesuffix("/api"))


if __name__ == "__main__":
    main()
