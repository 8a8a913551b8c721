"""D1 on a GPU: does geometry help, at 128 x 160? `benchmarks/gpu.sh study`

First a trunk, pretrained on image-level labels of other rooms at this size, unless `--out` has it. Then arms of
`studies/geometry_arms.py` in regime R, several processes side by side, one seed of all arms before the next, until the
time is over: a row of `geometry-gpu.jsonl` for every run that finished, so that a later call goes on. Seeds (from 400)
are apart from the study's; no sentence is decided by these rows, which are at another size and on a trunk of their own.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import trunks
from geometry_arms import TRUNK, regime_r, with_arm
from gpu_clock import REHEARSAL, Clock, parse, source_digest, start, stop, stopped_at_the_end
from lab import rows
from lab.study import digest
from lab.training import train_and_score

from triptych.recipes.config import Recipe

SIZE = (32, 40) if REHEARSAL else (128, 160)
ARMS, SEEDS = "ADEFGC", range(400, 402) if REHEARSAL else range(400, 424)
STEPS, ROOMS, IMAGES = (4, 8, 8) if REHEARSAL else (1000, 200, 60)
PRETRAINING: dict[str, Any] = {
    **trunks.SETTINGS,
    **trunks.TRUNKS[TRUNK],
    **({"rooms": 8, "steps": 4, "batch": 4} if REHEARSAL else {"rooms": 2000, "steps": 3000, "batch": 64}),
}


def arms() -> dict[str, Recipe]:
    """The arms at this size."""
    plain = regime_r(images=IMAGES, steps=STEPS)
    data = replace(plain.data, size=SIZE, options={"size": SIZE, "scenes": ROOMS, "views": 1})
    training = replace(plain.training, checkpoint_every=STEPS)
    return {arm: with_arm(replace(plain, data=data, training=training), arm) for arm in ARMS}


def pretrain(out: Path, device: str) -> None:
    """The trunk of all runs, and the rooms they share, so that side by side nothing is made twice."""
    from safetensors.torch import save_file

    from triptych import assemble

    for split in ("train", "test"):
        assemble.build_dataset(arms()["A"], split)
    trunks.ROOMS["size"] = SIZE
    tagger = trunks.train(PRETRAINING, 0, out / "trunk", device=device)
    save_file({name: value.cpu().contiguous() for name, value in tagger.trunk.body.state_dict().items()}, trunk(out))


def trunk(out: Path) -> Path:
    """The file of the trunk."""
    return out / f"trunk-{digest(PRETRAINING)}-{SIZE[0]}x{SIZE[1]}.safetensors"


def run(arm: str, seed: int, arguments: Any) -> None:
    """Train and score one arm with one seed, and append its row."""
    recipe, started = arms()[arm], time.monotonic()
    placed = replace(recipe, seed=seed, model=replace(recipe.model, weights=str(trunk(arguments.out))))
    folder = arguments.out / "geometry-gpu" / arm / f"seed-{seed}"
    scores = train_and_score(placed, folder, split="test", device=arguments.device)
    facts = {
        "seconds": round(time.monotonic() - started),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device,
        "trunk": trunks.checksum(trunk(arguments.out)),
    }
    row = rows.Row(arm, seed, digest(recipe), source_digest(), scores, facts)
    rows.append(arguments.results / "geometry-gpu.jsonl", row)


def main() -> None:
    arguments = parse(__doc__, 420)
    if arguments.part == ["trunk"]:
        pretrain(arguments.out, arguments.device)
    elif arguments.part:
        run(arguments.part[0], int(arguments.part[1]), arguments)
    else:
        with stopped_at_the_end() as children:
            run_all(arguments, children)


def run_all(arguments: Any, children: list[Any]) -> None:
    """The trunk, then as many runs as the time allows; `children` is given every process that is started."""
    clock = Clock(arguments.seconds)
    if not trunk(arguments.out).is_file():
        child = start(["trunk"], arguments, arguments.out / "trunk.txt")
        children.append(child)
        while child.poll() is None and clock.left > 2:
            time.sleep(0.2)
        stop(child)
        print(
            f"trunk: {'done' if child.returncode == 0 else 'FAILED, see trunk.txt'}, {clock.left:.0f} s left",
            flush=True,
        )
        if child.returncode != 0:
            raise SystemExit(1)
    path = arguments.results / "geometry-gpu.jsonl"
    done = {(row.arm, row.seed) for row in rows.read(path)}
    waiting = [(arm, seed) for seed in SEEDS for arm in ARMS if (arm, seed) not in done]
    running: dict[tuple[str, int], tuple[Any, float]] = {}
    lengths: list[float] = []
    while clock.left > 2 and (waiting or running):
        for job, (child, started) in list(running.items()):
            if child.poll() is not None:
                del running[job]
                lengths.append(time.monotonic() - started)
                print(f"{job} {'done' if child.returncode == 0 else 'FAILED'}, {clock.left:.0f} s left", flush=True)
        enough = not lengths or clock.left > statistics.median(lengths)
        while waiting and enough and len(running) < arguments.processes:
            arm, seed = job = waiting.pop(0)
            children.append(start([arm, str(seed)], arguments, arguments.out / f"{arm}-{seed}.txt"))
            running[job] = (children[-1], time.monotonic())
        if not running:
            break
        time.sleep(0.2)
    for child, _ in running.values():
        stop(child)  # before the rows are counted
    print(f"{len(rows.read(path))} rows in {path}", flush=True)


if __name__ == "__main__":
    main()
