"""Every method on several backbones: parameters, multiply-accumulates, time and peak memory, on a CPU or a GPU.

python benchmarks/models.py                                   # all cases: hours on two cores
python benchmarks/models.py --cases 'mti-net/*' 'densemtl/*/240x320*'
python benchmarks/models.py --device cuda
python benchmarks/models.py --channels-last
python benchmarks/models.py --compile --cases 'mti-net/hrnet*' 'atrc/hrnet*/global'    # torch.compile
python benchmarks/models.py --list
python benchmarks/models.py --table                           # only write docs/models.md from the figures there are

Each case runs in fresh processes, one for the forward pass (`eval()`, no gradients, batch 1, median of 5 after 2) and
one for the training step (Adam; median of 3 after 1; batch 2 where image pooling needs it). Its peak memory is that
process's `ru_maxrss`, or what torch allocated on the GPU. After the passes it times a float32 matrix product of 2048 x
2048 in the same process (median of 5 after 2), as the published figures were taken: rates are relative to that.
Passes are taken as `triptych evaluate` and `triptych train` take them: freed memory is kept, and weights are updated in
one pass. `--interleave` times the product between the passes instead, for machines whose other load changes. Every case
is written to a CSV as soon as it is measured, in place of an older line of the same case; cases that are there are not
measured again (`--again` does). Those with published figures come first.

Against published code: its figures come from two cores of another machine (`../shared/specs/speed.md`). Their times
are turned into operations of the matrix product that the same process could have done meanwhile, ours too; the table
prints how many times fewer ours are, whatever number of multiplications either of them does.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from model_cases import Case, all_cases
from model_table import read_rows, table, write_rows, write_table
from torch.utils.flop_counter import FlopCounterMode

from triptych.decoders.baseline import ASPP
from triptych.machine import keep_freed_memory
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import OptimizerConfig
from triptych.tasks import Task
from triptych.training.objective import Objective
from triptych.training.optim import build_optimizer
from triptych.types import Sample

ROOT = Path(__file__).resolve().parents[1]
CSV, PAGE = ROOT / "results" / "models-speed.csv", ROOT / "docs" / "models.md"
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
PHASES = {"forward": (2, 5), "train": (1, 3)}
"""Passes that are not timed, and passes that are."""
EXECUTIONS = ("eager", "compiled")


@dataclass(frozen=True)
class Setting:
    """What a case is measured on."""

    device: str
    layout: str
    threads: int
    execution: str = "eager"


def count(case: Case) -> dict[str, Any]:
    """Parameters and multiply-accumulates of a forward pass: convolutions and matrix products, without computing."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = case.build().eval()
        model(torch.rand(1, 3, *case.size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "gmacs": counter.get_total_flops() / 2e9}


def measure(case: Case, phase: str, setting: Setting, *, interleave: bool = False) -> dict[str, Any]:
    """Median seconds of a pass, MiB at the peak, and the matrix product's rate, in this process."""
    torch.manual_seed(0)
    device, layout = setting.device, setting.layout
    if device == "cpu":
        keep_freed_memory()
    model = case.build().to(device, memory_format=LAYOUTS[layout])
    batch = 2 if phase == "train" and any(isinstance(module, ASPP) for module in model.modules()) else 1
    if setting.execution == "compiled":
        model.compile()
    run = _train(model, case, batch, layout) if phase == "train" else _forward(model, case, layout)
    warm_up, timed = PHASES[phase]
    for _ in range(warm_up + interleave):
        run()
    _synchronize(device)
    # The peak is read before the matrix product, which needs memory too, and after a step by an optimizer that holds
    # its averages.
    if interleave:
        peak, product = _peak(device), _matmul(device)
        pairs = [(_seconds(run, device), *(_seconds(product, device) for _ in range(4))) for _ in range(timed)]
        times, products = [pair[0] for pair in pairs], [statistics.median(pair[1:]) for pair in pairs]
    else:
        times = [_seconds(run, device) for _ in range(timed)]
        peak, product = _peak(device), _matmul(device)
        product()
        products = [_seconds(product, device) for _ in range(5)]
    rate = 2 * 2048**3 / statistics.median(products) / 1e9
    return {"batch": batch, "seconds": statistics.median(times), "mib": peak, "matmul_gflops": rate}


def _device(model: MultiTaskModel) -> torch.device:
    return next(model.parameters()).device


def _forward(model: MultiTaskModel, case: Case, layout: str) -> Callable[[], None]:
    model.eval()
    image = torch.rand(1, 3, *case.size, device=_device(model)).contiguous(memory_format=LAYOUTS[layout])

    def run() -> None:
        with torch.no_grad():
            model(image)

    return run


def _train(model: MultiTaskModel, case: Case, batch: int, layout: str) -> Callable[[], None]:
    device = _device(model)
    optimizer = build_optimizer([{"params": list(model.parameters())}], OptimizerConfig(name="adam", weight_decay=0.0))
    objective = Objective(model.train())
    sample = Sample(
        image=torch.rand(batch, 3, *case.size, device=device).contiguous(memory_format=LAYOUTS[layout]),
        targets={name: _target(task, (batch, *case.size)).to(device) for name, task in model.tasks.items()},
        key=("",) * batch,
    )

    def run() -> None:
        optimizer.zero_grad()
        losses = objective(sample).tasks
        torch.stack([model.tasks[name].weight * loss for name, loss in losses.items()]).sum().backward()
        optimizer.step()

    return run


def _target(task: Task, size: tuple[int, int, int]) -> torch.Tensor:
    """Made-up labels, all of them valid."""
    batch, height, width = size
    if task.target_channels is None:
        return torch.randint(task.channels, size)
    values = torch.rand(batch, task.target_channels, height, width) + 0.5
    if task.target_channels == 3:
        return torch.nn.functional.normalize(values, dim=1)
    return values.round().clamp(max=1) if task.name == "boundary" else values


def _seconds(run: Callable[[], object], device: str) -> float:
    _synchronize(device)
    started = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - started


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _matmul(device: str) -> Callable[[], object]:
    """A float32 matrix product of 2048 x 2048, warm."""
    a, b = torch.rand(2, 2048, 2048, device=device)
    torch.mm(a, b)
    return lambda: torch.mm(a, b)


def run_case(case: Case, setting: Setting, *, interleave: bool = False) -> dict[str, Any]:
    """A row of the CSV, from one process that counts and one for each phase."""
    row: dict[str, Any] = {"case": case.name, **asdict(setting), "torch": torch.__version__}
    row |= _child(case, "count", setting, interleave)
    for phase in PHASES:
        row |= {f"{phase}_{key}": value for key, value in _child(case, phase, setting, interleave).items()}
    row["forward_vs_matmul"] = 2 * row["gmacs"] / row["forward_seconds"] / row["forward_matmul_gflops"]
    row["commit"] = _commit()
    return {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}


def _child(case: Case, phase: str, setting: Setting, interleave: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", phase, "--cases", case.name, "--device", setting.device]
    command += ["--threads", str(setting.threads)] + ["--channels-last"] * (setting.layout == "channels last")
    command += ["--compile"] * (setting.execution == "compiled") + ["--interleave"] * interleave
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"{case.name}, {phase}: {reason}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["*"], help="names with wildcards, decoder/backbone/size")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--channels-last", action="store_true", help="layout of images and weights")
    parser.add_argument("--compile", action="store_true", help="run networks through torch.compile")
    parser.add_argument("--interleave", action="store_true", help="time the matrix product between the passes")
    parser.add_argument("--threads", type=int, default=2, help="of a CPU; the published figures are of two")
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--again", action="store_true", help="measure cases anew that have figures")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--measure", choices=("count", *PHASES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen = [case for case in all_cases().values() if any(fnmatch(case.name, given) for given in arguments.cases)]
    if not chosen:
        raise SystemExit(f"no case is called {' or '.join(arguments.cases)}; --list prints all of them.")
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return
    layout = "channels last" if arguments.channels_last else "channels first"
    setting = Setting(arguments.device, layout, arguments.threads, EXECUTIONS[arguments.compile])
    torch.set_num_threads(setting.threads)
    if arguments.measure:
        phase, interleave = arguments.measure, arguments.interleave
        found = count(chosen[0]) if phase == "count" else measure(chosen[0], phase, setting, interleave=interleave)
        print(json.dumps(found))
        return
    again, interleave = arguments.again, arguments.interleave
    failed = [] if arguments.table else _run_all(chosen, setting, arguments.out, again=again, interleave=interleave)
    if arguments.out == CSV:
        write_table(PAGE, table(read_rows(CSV)))
    if failed:
        raise SystemExit("\n".join(["failed, and tried again next time:", *failed]))


def _run_all(chosen: list[Case], setting: Setting, out: Path, *, again: bool, interleave: bool) -> list[str]:
    """Measure what has no figures yet; what failed, and why."""
    failed = []
    for case in chosen:
        rows = read_rows(out)
        wanted = (case.name, setting.device, setting.layout, setting.execution)
        same = [row for row in rows if (row["case"], row["device"], row["layout"], row["execution"]) == wanted]
        if same and not again:
            continue
        try:
            row = run_case(case, setting, interleave=interleave)
        except RuntimeError as error:
            failed.append(str(error))
            print(error, flush=True)
            continue
        write_rows(out, [other for other in rows if other not in same] + [row])
        print(
            f"{case.name}: forward {row['forward_seconds']} s ({row['forward_vs_matmul']} of matmul), "
            f"step {row['train_seconds']} s, {float(row['train_mib']):.0f} MiB",
            flush=True,
        )
    return failed


if __name__ == "__main__":
    main()
