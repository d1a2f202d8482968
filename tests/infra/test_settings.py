"""Settings, their documentation, and what the libraries are told."""

import re
from pathlib import Path

import pytest

from infra.addresses import parameters
from infra.settings import PROJECT, Settings
from infra.stack.environment import TELEMETRY_OFF, apply, library_environment, settings_environment
from infra.stack.services import every_service

PAGE = PROJECT / "docs" / "operating.md"


def documented() -> set[str]:
    return set(re.findall(r"^\| `(MILLRACE_\w+)`", PAGE.read_text(), re.MULTILINE))


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    assert documented() == {f"MILLRACE_{name.upper()}" for name in Settings.model_fields}


def test_documented_ports_are_the_defaults() -> None:
    table = PAGE.read_text()
    for name, field in Settings.model_fields.items():
        if name.endswith("_port"):
            assert f"| `MILLRACE_{name.upper()}` | {field.default} |" in table


def test_another_process_reads_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, surfaces=tmp_path, postgres_port=1234, database_url="postgresql://a:b@db/feed")
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_server_that_exists_takes_the_place_of_the_embedded_one(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        database_url="postgresql://ann:secret@db:5432/feed?sslmode=require",
        mlflow_tracking_uri="https://mlflow.example",
        prefect_api_url="https://prefect.example/api",
    )
    assert settings.database == "postgresql://ann:secret@db:5432/feed?sslmode=require"
    assert settings.database_shown == "postgresql://ann:***@db:5432/feed?sslmode=require"
    assert settings.mlflow_pages == "https://mlflow.example"
    environment = library_environment(settings)
    assert environment["PREFECT_API_URL"] == "https://prefect.example/api"
    assert environment["MLFLOW_TRACKING_URI"] == "https://mlflow.example"


def test_links_for_people_hold_no_login(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        mlflow_tracking_uri="https://bob:hush@mlflow.example:8443/m",
        prefect_api_url="https://eve:hush@prefect.example/api",
    )
    assert settings.mlflow_tracking == "https://bob:hush@mlflow.example:8443/m"
    assert settings.mlflow_pages == "https://mlflow.example:8443/m"
    assert settings.prefect_pages == "https://prefect.example"
    assert not [service for service in every_service(settings) if "hush" in (service.address or "")]


def test_embedded_mlflow_has_a_database_of_its_own_on_the_same_server(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, postgres_port=1234)
    beside = parameters(settings.mlflow_tracking)
    assert settings.mlflow_tracking.startswith("postgresql+psycopg://millrace@127.0.0.1:1234/mlflow?")
    assert beside["passfile"] == str(tmp_path / "postgres.pgpass")
    assert "password" not in beside
    assert settings.mlflow_artifact_root == f"file://{tmp_path}/artifacts"


def test_telemetry_is_off_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in library_environment(Settings(home=tmp_path)):
        monkeypatch.setenv(name, "what it was before")
    apply(Settings(home=tmp_path))

    import os

    assert {name: os.environ[name] for name in TELEMETRY_OFF} == TELEMETRY_OFF


UNSAFE = {5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6697, 10080}
"""Ports above 1023 that browsers refuse to open (Fetch standard, "bad port")."""


def test_a_browser_opens_every_default_port() -> None:
    ports = {name: value.default for name, value in Settings.model_fields.items() if name.endswith("_port")}
    assert ports
    assert not UNSAFE & set(ports.values()), ports


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        *((host, True) for host in ("127.0.0.1", "127.0.0.9", "localhost", "LocalHost", "::1")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.7", "rank.example", "localhost.example")),
    ],
)
def test_loopback_is_what_this_machine_alone_reaches(host: str, alone: bool) -> None:
    assert Settings(host=host).on_loopback == alone
