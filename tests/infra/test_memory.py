"""A process that keeps what it frees asks the system for fewer pages."""

import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, sys
import numpy as np
from infra.memory import keep_freed

if sys.argv[1] == "keeping":
    keep_freed()

def work():
    return [np.ones(20 * 2**20, np.uint8) for _ in range(3)]

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc: nothing is changed there")
def test_arrays_made_again_and_again_cost_no_new_pages() -> None:
    def faults(how: str) -> int:
        run = subprocess.run([sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, check=True)
        return int(run.stdout)

    keeping, giving_back = faults("keeping"), faults("giving back")
    assert giving_back > 1_000, "without it this test shows nothing"
    assert keeping < giving_back / 10
