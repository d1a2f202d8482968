"""What a process of the stack has in memory while nothing is asked of it: the large libraries only where they work."""

import subprocess
import sys

import pytest

LARGE = ("torch", "numba", "pandas", "mlflow", "prefect", "evidently", "feast", "sklearn", "plotly")


def imported(statements: str) -> set[str]:
    """Which of the large libraries a process has imported that ran these."""
    program = f"{statements}\nimport sys\nprint(*(name for name in {LARGE} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statements", "libraries"),
    [
        ("import flows.services.desk", set[str]()),
        ("import flows.services.schedule, prefect.runner", {"prefect"}),
        ("import flows.services.fold", {"numba"}),
        ("import models.serving.__main__, flows.taken_up, models.serving.service", {"torch", "numba"}),
        ("from features.feast.quick_import import load_feast\nload_feast()", {"feast", "pandas"}),
    ],
)
def test_a_process_at_rest_has_what_it_works_with_and_no_other_large_library(
    statements: str, libraries: set[str]
) -> None:
    assert imported(statements) <= libraries
