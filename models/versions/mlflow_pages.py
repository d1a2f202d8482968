"""The embedded MLflow server, on its own origin only: by itself it obeys every page on this machine.

    python -m models.versions.mlflow_pages

One process: ``mlflow server`` has a parent beside it, which when killed leaves its child with the port.
"""

import os

from infra.http.listening import listen, names_of
from infra.settings import Settings
from infra.stack import environment


def main() -> None:
    settings = Settings()
    environment.apply(settings)
    own = names_of(settings, settings.mlflow_port, settings.mlflow_pages).origins()
    os.environ |= {
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",  # the guard in front has checked
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(own),
    }
    from mlflow.server import constants, handlers

    os.environ |= {  # as `mlflow server --no-serve-artifacts` hands them to its child
        constants.BACKEND_STORE_URI_ENV_VAR: settings.mlflow_tracking,
        constants.REGISTRY_STORE_URI_ENV_VAR: settings.mlflow_tracking,
        constants.ARTIFACT_ROOT_ENV_VAR: settings.mlflow_artifact_root,
    }
    handlers.initialize_backend_stores(
        settings.mlflow_tracking, settings.mlflow_tracking, settings.mlflow_artifact_root
    )
    from mlflow.server.fastapi_app import app

    listen(app, settings, settings.mlflow_port, settings.mlflow_pages)


if __name__ == "__main__":
    main()
