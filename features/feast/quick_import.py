"""Import Feast in 4 s instead of 12, and without torch.

Most of its import is ``typeguard`` rewriting function bodies: Feast decorates its classes with
``typeguard.typechecked``, and while it is being imported here the decorator does nothing. And Feast imports torch to be
able to answer in tensors, which nobody wants of it: 130 MB of a process that trains nothing, as the fold.
Import Feast first through :func:`load_feast`, and never at the top of a module that serving or the command line needs.
"""

import importlib
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

MODULES = (
    "feast",
    "feast.infra.offline_stores.contrib.postgres_offline_store.postgres",
    "feast.infra.online_stores.postgres_online_store.postgres",
    "feast.infra.passthrough_provider",
    "feast.infra.registry.sql",
    "feast.infra.compute_engines.local.compute",
)
"""Feast itself and the parts it would import later, decorated, when first used over PostgreSQL."""

PROMETHEUS = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
"""Feast sets them when imported, which would put the metrics of this process and its children into shared files."""

TORCH = "feast.torch_wrapper"
"""The module in which Feast imports torch."""

_importing = threading.Lock()


def load_feast() -> ModuleType:
    """The ``feast`` package, imported once in the process; safe from several threads. Switches its telemetry off."""
    with _importing:
        if MODULES[-1] not in sys.modules:
            os.environ.setdefault("FEAST_USAGE", "False")
            import typeguard

            importlib.import_module("prometheus_client")  # it looks at the environment when it is first imported
            before = {name: os.environ.get(name) for name in PROMETHEUS}
            sys.modules.setdefault(TORCH, _torch_when_wanted())
            checked = typeguard.typechecked
            typeguard.typechecked = _unchecked
            try:
                for module in MODULES:
                    importlib.import_module(module)
            finally:
                typeguard.typechecked = checked
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
    return sys.modules["feast"]


def _torch_when_wanted() -> ModuleType:
    """Stands in for Feast's module, which imports torch with itself."""
    wrapper = ModuleType(TORCH)
    vars(wrapper)["get_torch"] = lambda: importlib.import_module("torch")
    return wrapper


def _unchecked(target: Any = None, **_: Any) -> Any:
    """Stands in for ``@typechecked`` and ``@typechecked(...)``."""
    identity: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return identity if target is None else target
