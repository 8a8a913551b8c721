"""The machine a job runs on: devices, number formats, memory, signals, and a torchvision that does not load."""

import ctypes
import errno
import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from triptych.processes import leave_processes
from triptych.threads import shared


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """Choose a device: `auto` is CUDA where available, else the CPU; any other name is checked.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if there else "cpu"
    device = torch.device(name)
    if device.type == "mps":
        raise ValueError("device is 'mps', which has no float64, and numbers are added up in it; use 'cpu'.")
    if device.type == "cuda" and not there:
        raise ValueError(f"device is '{device}', but torch {torch.__version__} sees none; use 'auto' or 'cpu'.")
    return device


def choose_precision(name: str, device: str | torch.device = "auto") -> str:
    """Choose a precision: `auto` is `bf16` where the CPU or GPU multiplies bfloat16 natively, else `no`; others stay.

    Emulated bfloat16 is slower than float32.

    >>> choose_precision("auto", "cpu") in ("bf16", "no"), choose_precision("fp16", "cpu")
    (True, 'fp16')
    """
    if name != "auto":
        return name
    kind = choose_device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if kind == "cpu" and _multiplies_bfloat16() else "no"


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it: AVX-512 BF16 or AMX; other architectures are not queried."""
    cpu = torch.cpu
    asked = (getattr(cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in asked if ask is not None)


@contextmanager
def accelerated(device: str = "auto", **options: Any) -> Iterator[Accelerator]:
    """An accelerator for one job; `options` are those of `accelerate.Accelerator`.

    On a CPU the process keeps the memory it frees. When the last job of the process ends, the process group is left and
    the settings are reset, as the next job may need others, except those that existed before: they belong to the
    caller. Raises `ValueError` for another GPU than the first visible one, and for other settings than those in use.
    """
    chosen = choose_device(device)
    if chosen.index:
        raise ValueError(
            f"device is '{chosen}', and a process takes the first GPU that it sees; set CUDA_VISIBLE_DEVICES="
            f"{chosen.index} and use '{chosen.type}'."
        )
    with _accelerates_settings():
        _check_settings(chosen, options.get("mixed_precision"))
        accelerator = Accelerator(cpu=chosen.type == "cpu", **options)
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        try:
            yield accelerator
        finally:
            for tracker in accelerator.trackers:  # not `end_training`, which would leave a caller's process group too
                tracker.finish()


@shared
@contextmanager
def _accelerates_settings() -> Iterator[None]:
    """Take back what accelerate keeps for the whole process, the process group included, unless it was the caller's."""
    grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
    had_settings, had_state = bool(AcceleratorState._shared_state), bool(PartialState._shared_state)
    try:
        yield
    finally:
        if not grouped:
            leave_processes()
        if not had_settings:
            AcceleratorState._reset_state(reset_partial_state=not had_state)


def _check_settings(device: torch.device, precision: str | None) -> None:
    """Raise `ValueError` where this process computes on a GPU or in another precision already: accelerate has one
    setting for all of it.
    """
    if not AcceleratorState._shared_state:
        return
    used = AcceleratorState()
    off_gpu = device.type == "cpu" and used.device.type != "cpu"
    if off_gpu or precision not in (None, used.mixed_precision):
        raise ValueError(
            f"device is '{device.type}' and precision '{precision or 'no'}', and this process has an Accelerator, or "
            f"another job, with '{used.device.type}' and '{used.mixed_precision}'; use these, or a process of its own."
        )


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Give the caller's random numbers back at the end, those of the CPU and of GPUs in use: after a fixed seed, a
    search would draw the same numbers again and again.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        yield


@contextmanager
def unreachable_hub_is_offline(name: str = "", seconds: float = 5.0) -> Iterator[str]:
    """Ask the Hugging Face hub once whether it answers, for the weights of the network `name` where one is given; where
    it does not, set its client offline, so that only earlier downloads are used. Yields the reason as text for an
    error, or an empty text.

    Otherwise a machine without a network, or with one that lets only the hub's pages through, tries every file for a
    minute.
    """
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if constants.HF_HUB_OFFLINE:
        yield ""
        return
    away, page = "", constants.ENDPOINT
    with suppress(HFValidationError):  # else it is a path, which is not sent to the hub
        validate_repo_id(name)
        page = f"{constants.ENDPOINT}/{name}/resolve/main/model.safetensors"
    try:
        get_session().head(page, timeout=seconds)
    except Exception:  # names, certificates, proxies: a network fails in any way
        constants.HF_HUB_OFFLINE = True
        away = f"{page} cannot be reached"
    try:
        yield away
    finally:
        constants.HF_HUB_OFFLINE = False


def hub_reason(error: Exception, away: str) -> str:
    """Reason of a failed download: `away` where the client was set offline for it, else the first line of the error."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if away and isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return away
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


class OutOfMemoryError(MemoryError):
    """Memory ran out: one line that says what to lower."""


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn errors of memory that runs out, of the CPU or a GPU, into an `OutOfMemoryError` that says what to do.

    >>> with memory_advice("lower data.batch_size"):
    ...     raise MemoryError("Unable to allocate 8.00 TiB")
    Traceback (most recent call last):
    ...
    triptych.machine.OutOfMemoryError: memory ran out (Unable to allocate 8.00 TiB); lower data.batch_size.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not ran_out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or ["no room for more"])[0].rstrip(".")
        raise OutOfMemoryError(f"memory ran out ({reason}); {advice}.") from error


_NO_MEMORY = ("DefaultCPUAllocator", "MPS backend out of memory", "CUDA error: out of memory", "Cannot allocate memory")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out.

    >>> ran_out_of_memory(MemoryError()), ran_out_of_memory(ValueError())
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch has an error class for CUDA alone: on other devices it is a RuntimeError, recognized by its text.
    return type(error) is RuntimeError and any(text in str(error) for text in _NO_MEMORY)


def available_memory() -> float:
    """Bytes of memory that are free or can be freed at once; infinite where the system does not say.

    >>> available_memory() > 0
    True
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = dict(line.split(":", 1) for line in lines)
        return 1024 * float(found["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return float("inf")


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of `mallopt`, as in malloc.h. glibc gives every large buffer back to the system, which fills the next one
with zeros, page by page: up to a fifth of a training step on a CPU, half of a forward pass of wide maps, a third of
loading a sample. Other C libraries are left alone.
"""


def keep_freed_memory() -> bool:
    """Let this process keep and reuse the memory it frees, from now on; False where the C library is not glibc.

    Peak memory does not grow where buffers of the same sizes recur; see `return_freed_memory`.
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


def return_freed_memory() -> None:
    """Return kept memory to the system, before buffers of other sizes are allocated: they rarely fit into the gaps of
    the old ones, whose memory would then be held in addition.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def restart_peak_memory() -> int | None:
    """Reset this process's peak of memory; return the memory in use, in bytes, or `None` except on Linux.

    >>> restart_peak_memory() is None or restart_peak_memory() > 0
    True
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def peak_memory() -> int | None:
    """The most memory that this process held since `restart_peak_memory`, in bytes; `None` except on Linux."""
    return _memory("VmHWM")


def _memory(entry: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), None)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


TORCHVISION_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)

_library = None  # the schemas live as long as this object


def declare_missing_operators() -> bool:
    """Declare torchvision's import-time operators if its compiled library cannot load.

    PyPI's torchvision is built for CUDA. Beside a CPU build of torch its library fails to load, `torchvision::nms` and
    `torchvision::roi_align` are then never declared, and `import torchvision` raises "operator torchvision::nms does
    not exist", which takes timm and torchmetrics along. Schemas are enough: nothing here calls them.

    Returns whether anything was declared: `False` where torchvision is absent or works.
    """
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return False
    for file in sorted(Path(spec.origin).parent.glob("_C*.so")) + sorted(Path(spec.origin).parent.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(file))
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    _library = torch.library.Library("torchvision", "DEF")
    for schema in TORCHVISION_SCHEMAS:
        _library.define(schema)
    return True


@shared
@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit torch to one thread, for many samples at once: more threads within a sample would compete for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Interrupted(SystemExit):
    """Raised after the run was saved; a program that lets it pass exits with 128 plus the signal's number.

    `checkpoint` is the folder to resume from.
    """

    def __init__(self, number: int, checkpoint: Path) -> None:
        super().__init__(128 + number)
        self.number = number
        self.checkpoint = checkpoint


SAME_SIGNAL = 2.0
"""Seconds after a signal in which another counts as the same one: batch systems and shutdowns signal every process,
and launchers forward theirs.
"""


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, the signal before a kill, and a closed terminal (POSIX only)."""


class Interruption:
    """Context in which `SIGNALS` set `number` instead of ending the process; not SIGHUP under `nohup`.

    A second signal, later than `SAME_SIGNAL`, goes to the previous handlers, which normally end the process. Under
    torchrun it is ignored: torchrun itself kills processes that do not end in time. Outside the main thread, where
    Python allows no handlers, none are installed.
    """

    def __init__(self) -> None:
        self.number = 0
        self._came = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number > 0

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._came = number, time.monotonic()
        elif time.monotonic() - self._came > SAME_SIGNAL and "TORCHELASTIC_RUN_ID" not in os.environ:
            self.__exit__()
            signal.raise_signal(number)
