"""What a process does with the memory it frees."""

import json
import subprocess
import sys
from typing import Any

import pytest

FAULTS = """
import json
import resource
import torch
from triptych.machine import keep_freed_memory, return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24).add(1)  # 64 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = {"before": faults(), "kept": keep_freed_memory()}
faults()
found |= {"after": faults(), "held": resident()}
return_freed_memory()
print(json.dumps(found | {"returned": resident()}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if not found["kept"]:
        pytest.skip("the C library is not glibc")
    return found


def test_freed_memory_is_used_again(found: dict[str, Any]) -> None:
    """Buffers that are handed back come page by page, every time; those that are kept do not."""
    assert found["after"] < found["before"] / 2  # a buffer may still come new, where what was freed lies in pieces


def test_kept_memory_can_be_returned(found: dict[str, Any]) -> None:
    assert found["held"] - found["returned"] > 100  # MiB, of two buffers of 64
