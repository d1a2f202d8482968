"""Keys and secrets as they were last known, on the local disk: what a restart has while the database is away.

Two JSON files, 0600. That of the keys has hashes alone; that of the secrets has what ids are signed with.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

from models.serving.access.keys import ApiKey
from models.serving.access.signing import SECRET_BYTES, SigningSecret
from models.serving.telemetry import LOG


@dataclass(frozen=True)
class KnownSecrets:
    """Signing secrets, the oldest first."""

    stored: Sequence[SigningSecret] = ()
    """In the table, when it was last read."""
    own: Sequence[SigningSecret] = ()
    """Made here while the table could not be reached, and not in it yet."""

    @property
    def all(self) -> list[SigningSecret]:
        return [*self.stored, *self.own]


class Copies:
    """Of one process, in its folder. Used by one thread. Reading raises nothing: a file that cannot be read is none."""

    def __init__(self, folder: Path) -> None:
        self._keys = folder / "api_keys.json"
        self._secrets = folder / "signing_secrets.json"

    def keys(self) -> list[ApiKey] | None:
        """None where they were never known."""
        try:
            return [_key(one) for one in json.loads(self._keys.read_text())["keys"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOG.warning("%s cannot be read, the keys are not known until the database answers: %s", self._keys, error)
            return None

    def secrets(self) -> KnownSecrets:
        try:
            found = json.loads(self._secrets.read_text())
            return KnownSecrets(*([_secret(one) for one in found[part]] for part in ("stored", "own")))
        except FileNotFoundError:
            return KnownSecrets()
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOG.warning("%s cannot be read, other secrets sign until the database answers: %s", self._secrets, error)
            return KnownSecrets()

    def write_keys(self, keys: Sequence[ApiKey]) -> None:
        """Raises OSError where the disk does not take them."""
        _write(self._keys, {"keys": [_key_as_json(key) for key in keys]})

    def write_secrets(self, known: KnownSecrets) -> None:
        """Raises OSError where the disk does not take them."""
        parts = {"stored": known.stored, "own": known.own}
        _write(self._secrets, {part: [_secret_as_json(one) for one in some] for part, some in parts.items()})


def _key_as_json(key: ApiKey) -> dict[str, object]:
    times = {name: at and at.isoformat() for name, at in vars(key).items() if name.endswith("_at")}
    return {**vars(key), "scopes": list(key.scopes), "secret_sha256": key.secret_sha256.hex(), **times}


def _key(one: dict[str, str | None]) -> ApiKey:
    times = {name: at and datetime.fromisoformat(at) for name, at in one.items() if name.endswith("_at")}
    return ApiKey(**{**one, "secret_sha256": bytes.fromhex(str(one["secret_sha256"])), **times})  # type: ignore[arg-type]


def _secret_as_json(one: SigningSecret) -> dict[str, object]:
    return {"secret": b64encode(one.secret).decode(), "made_at": one.made_at}


def _secret(one: dict[str, str]) -> SigningSecret:
    secret = b64decode(one["secret"], validate=True)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {len(secret)} bytes, not {SECRET_BYTES}")
    return SigningSecret(secret, float(one["made_at"]))


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A name of its own, or two processes with one folder would write into each other's; made with mode 0600.
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.stem}-", delete=False) as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
