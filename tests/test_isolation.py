"""Tests see nothing of any installation, nor of the settings of whoever runs them."""

import os
import subprocess
import sys

from infra.settings import PROJECT, Settings

PORTS = [name for name in Settings.model_fields if name.endswith("_port")]


def test_the_installation_of_the_tests_is_their_own() -> None:
    settings = Settings()
    assert PROJECT not in settings.home.resolve().parents
    assert PROJECT not in settings.surfaces.resolve().parents
    defaults = {Settings.model_fields[name].default for name in PORTS}
    assert defaults.isdisjoint(getattr(settings, name) for name in PORTS)
    given = settings.model_dump(exclude_none=True)
    assert not [name for name in given if name.endswith(("_url", "_uri"))]
    assert not [name for name in os.environ if name.startswith("PG")]


def test_and_stays_so_in_the_shell_of_somebody_with_a_stack() -> None:
    shell = os.environ | {
        "MILLRACE_HOME": str(PROJECT / ".millrace"),
        "MILLRACE_DATABASE_URL": "postgresql://ann@db.example.com/shop",
        "MILLRACE_SERVING_PORT": "8360",
        "PREFECT_API_URL": "http://127.0.0.1:4260/api",
        "PGHOST": "db.example.com",
        "PGPASSWORD": "of-another",
    }
    test = f"{__file__}::{test_the_installation_of_the_tests_is_their_own.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=shell, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
