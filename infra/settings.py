"""Every setting, read once from the environment (``MILLRACE_*``) and passed in from there on.

An address left unset means the embedded service on loopback; set, it means a server that exists.
"""

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.addresses import check_address, embedded, hide_password, sqlalchemy_url, with_database, without_login
from infra.host_names import HostPort, is_loopback

USER_ROLE, OWNER_ROLE = "millrace", "millrace_owner"
"""Roles of the embedded PostgreSQL: the one that processes use, and the one that makes the tables and owns the
records."""

PROJECT = Path(__file__).resolve().parent.parent

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """Settings of one Millrace installation; ``MILLRACE_<NAME>`` overrides each."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", extra="ignore", frozen=True)

    home: Path = PROJECT / ".millrace"
    """State of the embedded stack: databases, artifacts, logs."""

    surfaces: Path = Path("surfaces")
    """The folder of the team's surface files; by default that of the folder where the command runs."""

    host: str = "127.0.0.1"
    """Address every embedded server listens on."""

    allowed_hosts: str = ""
    """Names beside its own under which an embedded server is reached, as behind a balancer: ``host`` or ``host:port``,
    separated by commas. Requests for other hosts, and from pages of other origins, are refused."""

    open_serving: bool = False
    """Serving answers whoever reaches it while no API key exists, though ``host`` is not loopback."""

    trusted_proxies: str = ""
    """Addresses and networks, separated by commas, of proxies whose ``X-Forwarded-For`` is believed."""

    postgres_port: int = Field(default=5460, ge=1, le=65535)
    prefect_port: int = Field(default=4260, ge=1, le=65535)
    mlflow_port: int = Field(default=5050, ge=1, le=65535)
    evidently_port: int = Field(default=8060, ge=1, le=65535)
    serving_port: int = Field(default=8360, ge=1, le=65535)
    desk_port: int = Field(default=8361, ge=1, le=65535)

    retention_days: int | None = Field(default=None, ge=31)
    """Days of events kept, back from the newest; older partitions are dropped once learned. None: all are kept. At
    least as many as an event may be late, and one."""

    serving_workers: int = Field(default=1, ge=1, le=64)
    """Serving processes behind the one port, each with a core and a copy of the models and features."""

    durable: Literal["journal", "database"] = "journal"
    """What serving's answers wait for: ``journal``, that what they log is on the serving machine's disk, from where it
    goes to PostgreSQL a moment later; ``database``, that PostgreSQL has it."""

    database_url: str | None = None
    """``postgresql://user@host:port/name`` of an existing server; none starts when it is set."""

    database_owner_url: str | None = None
    """The same database, as the role that makes and migrates its tables, where that is another than the one that uses
    them; that one can then neither change nor drop a record."""

    prefect_api_url: str | None = None
    mlflow_tracking_uri: str | None = None
    mlflow_url: str | None = None
    """Address of MLflow's pages, for links; the tracking address where that is HTTP."""

    mlflow_artifacts: str | None = None
    """Where MLflow keeps artifacts (``file:///``, ``s3://``)."""

    evidently_url: str | None = None
    serving_url: str | None = None
    desk_url: str | None = None
    """Where people reach the review desk, for links and for its cookies; behind ``https://`` these are secure."""

    notice_block: str | None = Field(default=None, pattern=r"^[^/\s]+/[^/\s]+$")
    """A Prefect notification block that notices go through, as ``slack-webhook/team``; events tell of them anyway."""

    otel_endpoint: str | None = None
    """Address of an OpenTelemetry collector that takes OTLP over HTTP, as ``http://host:4318``: serving sends it a
    trace of each request."""

    @field_validator("home", "surfaces", mode="before")
    @classmethod
    def _folder(cls, value: Path | str) -> Path:
        if str(value).strip() == "" or "\0" in str(value):
            raise ValueError("names no folder; name one, or leave the variable unset")
        return Path(value).expanduser()

    @field_validator("host")
    @classmethod
    def _host(cls, text: str) -> str:
        if not text or any(letter.isspace() for letter in text):
            raise ValueError("is no address to listen on; write 127.0.0.1, or 0.0.0.0 for every one")
        return text

    @field_validator(
        *(
            "database_url",
            "database_owner_url",
            "prefect_api_url",
            "mlflow_tracking_uri",
            "mlflow_url",
            "mlflow_artifacts",
        ),
        *("evidently_url", "serving_url", "desk_url", "notice_block", "otel_endpoint"),
        mode="before",
    )
    @classmethod
    def _unset(cls, text: str | None) -> str | None:
        return text or None  # as a compose file hands on what is not set

    @field_validator("prefect_api_url", "mlflow_url", "evidently_url", "serving_url", "desk_url", "otel_endpoint")
    @classmethod
    def _web(cls, text: str | None) -> str | None:
        parts = urlsplit(text or "http://none")  # raises ValueError where brackets or the port are wrong
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("is no address of a server; write http://host:port or https://host")
        return text

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _tracking(cls, text: str | None) -> str | None:
        if text is not None and "://" not in text:
            raise ValueError("is no tracking address; write https://host, or a database's postgresql+psycopg://…")
        return text

    @model_validator(mode="after")
    def _ports(self) -> "Settings":
        seen: dict[int, str] = {}
        for name in (name for name in type(self).model_fields if name.endswith("_port")):
            variable, port = f"MILLRACE_{name.upper()}", getattr(self, name)
            if port in seen:
                raise ValueError(f"{seen[port]}={port} and {variable}={port}: each server needs a port of its own")
            seen[port] = variable
        return self

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, text: str) -> str:
        for name in _listed(text):
            HostPort.parse(name)
        return text

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for name in _listed(text):
            ipaddress.ip_network(name, strict=False)
        return text

    @property
    def on_loopback(self) -> bool:
        """Whether programs of this machine alone reach what listens on ``host``."""
        return is_loopback(self.host)

    @property
    def other_hosts(self) -> tuple[str, ...]:
        """``allowed_hosts``, one by one."""
        return _listed(self.allowed_hosts)

    @property
    def proxies(self) -> tuple[Network, ...]:
        """``trusted_proxies``, one by one."""
        return tuple(ipaddress.ip_network(name, strict=False) for name in _listed(self.trusted_proxies))

    @property
    def database(self) -> str:
        """psycopg URL of Millrace's own database."""
        if self.database_url:
            return self.database_url
        return self._embedded(USER_ROLE)

    @property
    def database_owner(self) -> str:
        """The same as the role that makes and migrates its tables."""
        if self.database_url:
            return self.database_owner_url or self.database_url
        return self._embedded(OWNER_ROLE)

    def _embedded(self, role: str) -> str:
        return embedded(self.home.resolve(), self.host, self.postgres_port, role, "millrace")

    @field_validator("database_url", "database_owner_url")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        return check_address(value) if value else None

    @property
    def database_shown(self) -> str:
        """``database`` with the password hidden, for pages, logs and messages."""
        return hide_password(self.database)

    @property
    def prefect_api(self) -> str:
        return self.prefect_api_url or f"http://{self.host}:{self.prefect_port}/api"

    @property
    def prefect_pages(self) -> str:
        return without_login(self.prefect_api.removesuffix("/api"))

    @property
    def mlflow_tracking(self) -> str:
        """MLflow's tracking address: a database beside Millrace's own, used directly, unless a server is named."""
        return self.mlflow_tracking_uri or sqlalchemy_url(with_database(self.database, "mlflow"))

    @property
    def mlflow_artifact_root(self) -> str:
        return self.mlflow_artifacts or (self.home.resolve() / "artifacts").as_uri()

    @property
    def mlflow_pages(self) -> str:
        if self.mlflow_url:
            return without_login(self.mlflow_url)
        if self.mlflow_tracking_uri and self.mlflow_tracking_uri.startswith("http"):
            return without_login(self.mlflow_tracking_uri)
        return f"http://{self.host}:{self.mlflow_port}"

    @property
    def evidently(self) -> str:
        return self.evidently_url or f"http://{self.host}:{self.evidently_port}"

    @property
    def serving(self) -> str:
        return self.serving_url or f"http://{self.host}:{self.serving_port}"

    @property
    def desk(self) -> str:
        return (self.desk_url or f"http://{self.host}:{self.desk_port}").rstrip("/")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
