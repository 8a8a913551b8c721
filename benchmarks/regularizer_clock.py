"""Time and peak memory of a piece of work, on a CPU or a GPU."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch


def seconds(work: Callable[[], None], arguments: argparse.Namespace) -> float:
    """Wall time, until the device is done; or processor time."""
    clock = time.process_time if arguments.processor_time else time.perf_counter
    start = clock()
    work()
    if arguments.device != "cpu":
        torch.cuda.synchronize(arguments.device)
    return clock() - start


def memory_now(device: torch.device) -> float:
    """MiB that are taken: of the process, or allocated on the GPU."""
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else _status("VmRSS")


def forget_peak(device: torch.device) -> None:
    """Count peaks from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # man proc: resets the peak resident size


def peak_since(device: torch.device) -> float:
    """MiB at the peak since `forget_peak`."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else _status("VmHWM")


def peak_memory(work: Callable[[], None], device: torch.device) -> float:
    """MiB at the peak of some work, everything counted that is there already."""
    forget_peak(device)
    work()
    return peak_since(device)


def _status(field: str) -> float:
    """MiB of a line of this process's status; unlike `getrusage` it knows nothing of the parent's peak."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 2**10
