"""What a process does on a device."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from triptych.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**24).add(1)  # 64 MiB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

handed_back = faults()
kept = keep_freed_memory()
faults()
print(int(kept), handed_back, faults())
"""


def test_freed_memory_is_used_again() -> None:
    """Buffers that are handed back come page by page, every time; those that are kept do not."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, before, after = map(int, done.stdout.split())
    if not kept:
        pytest.skip("the C library is not glibc")
    assert after < before / 2  # a buffer may still come new, where what was freed lies in pieces
