"""One network in a process of its own, a pass at a time: what `deploy.py` times and weighs.

    python benchmarks/deploy_pass.py torch RUN 240 320          # a run folder, by torch
    python benchmarks/deploy_pass.py onnxruntime FILE 240 320   # an exported file, by onnxruntime, without torch

Prints a line when the network is there, then for every line that it reads one pass's seconds, and at the end of its
input its peak of memory in bytes; of Linux alone.
"""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

THREADS = 2


def by_torch(run: Path, image: np.ndarray) -> Callable[[], object]:
    """The network of a run folder with the decoding of its tasks."""
    import torch

    from triptych.export.program import DeployedModel
    from triptych.machine import keep_freed_memory
    from triptych.models.multitask import MultiTaskModel
    from triptych.prediction.pretrained import load_model

    torch.set_num_threads(THREADS)
    keep_freed_memory()
    model, _ = load_model(run)
    assert isinstance(model, MultiTaskModel), "load_model builds nothing else"
    network, tensor = DeployedModel(model), torch.from_numpy(image)

    def run_once() -> None:
        with torch.inference_mode():
            network(tensor)

    return run_once


def by_onnxruntime(path: Path, image: np.ndarray) -> Callable[[], object]:
    """An ONNX file, whatever wrote it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {session.get_inputs()[0].name: image})


ENGINES: dict[str, Callable[[Path, np.ndarray], Callable[[], object]]] = {
    "torch": by_torch,
    "onnxruntime": by_onnxruntime,
}


def main() -> None:
    engine, path, height, width = sys.argv[1:]
    image = np.random.default_rng(0).random((1, 3, int(height), int(width)), np.float32)
    run = ENGINES[engine](Path(path), image)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run()
        print(time.perf_counter() - started, flush=True)
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("this system does not tell the peak of a process's memory")
    print(int(found[1]) * 1024, flush=True)


if __name__ == "__main__":
    main()
