"""Whether two trees of this library compute the same bits: `python benchmarks/pins.py OLD NEW [--only rooms]`.

Each tree runs in a process of its own with one thread, on the same machine; what is compared are digests of values, by
name. Readers are pinned on the real frames of the shared folder beside the checkout, where it is there. A name that is
new or gone is said; a digest that differs is an error. There are no digests in the tests: processors round differently.
"""

import argparse
import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
SHARED = Path(os.environ.get("TRIPTYCH_SHARED", HERE.parents[2] / "shared"))
Pins = Iterator[tuple[str, Any]]


def digest(value: Any) -> str:
    """A short hash of tensors, arrays, files' bytes, samples, and containers of them."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()[:16]


def _feed(into: Any, value: Any) -> None:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        into.update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            into.update(field.name.encode())
            _feed(into, getattr(value, field.name))
    elif isinstance(value, dict):
        for key, one in value.items():
            into.update(repr(key).encode())
            _feed(into, one)
    elif isinstance(value, list | tuple):
        into.update(str(len(value)).encode())
        for one in value:
            _feed(into, one)
    else:
        into.update(value if isinstance(value, bytes) else repr(value).encode())


def load(name: str, *places: str) -> Any:
    """`name` of the first of the modules that is there: modules move between trees."""
    for place in places:
        try:
            return getattr(importlib.import_module(f"triptych.{place}"), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise ImportError(f"none of {', '.join(places)} has {name}")


def pin_rooms(folder: Path) -> Pins:
    """Records and samples of generated rooms."""
    from triptych.datasets import open_dataset

    for look, paired in (("a", False), ("b", False), ("b", True)):
        rooms = open_dataset(
            "rooms", root=folder, split="val", scenes=2, views=2, size=(48, 64), look=look, path_length=4,
            paired=paired, neighbor_frames=(-1, 1), progress=False, workers=1,
        )  # fmt: skip
        yield f"records {look}{' paired' if paired else ''}", rooms.files
        yield f"samples {look}{' paired' if paired else ''}", [rooms[index] for index in (0, 5, 15)]
        yield f"fingerprint {look}{' paired' if paired else ''}", rooms.fingerprint()


def pin_presets(folder: Path) -> Pins:
    """Every augmentation preset on the same samples."""
    import numpy as np

    from triptych.datasets import open_dataset

    presets = load("TRANSFORMS", "augmentation", "augmentation.presets", "datasets.transforms")
    build = load("build_transform", "augmentation", "augmentation.presets", "datasets.transforms")
    rooms = open_dataset(
        "rooms", root=folder, split="val", scenes=1, views=2, size=(96, 128), path_length=2, neighbor_frames=(1,),
        progress=False, workers=1,
    )  # fmt: skip
    for name in presets:
        for train in (True, False):
            transform = build(name, size=(64, 80), tasks=rooms.tasks, train=train)
            yield (
                f"{name} {'train' if train else 'test'}",
                [
                    transform(rooms[index], np.random.default_rng((7, index, seed)))
                    for index in (0, 3)
                    for seed in (0, 1)
                ],
            )


def pin_order(folder: Path) -> Pins:
    """What training sees at which step, and batches of it."""
    from triptych.datasets import open_dataset

    rooms = open_dataset("rooms", root=folder, split="val", scenes=1, views=2, size=(48, 64), progress=False, workers=1)
    order, batches = (load(name, "data.loading", "datasets.loading") for name in ("Order", "TrainingView"))
    for rank in (0, 1):
        yield f"order {rank}", [order(rooms, 3, seed=5, rank=rank, world=2).batch(number) for number in range(6)]
    build = load("build_transform", "augmentation", "augmentation.presets", "datasets.transforms")
    view = batches(rooms, transform=build("default", size=(32, 32), tasks=rooms.tasks, train=True), seed=5)
    yield "view", [view[(epoch, index)] for epoch in (0, 1) for index in (0, 1)]


def pin_prepared(folder: Path) -> Pins:
    """Shards of a prepared set, and what is read from them."""
    from triptych.datasets import open_dataset

    prepare = load("prepare", "prepared", "prepared.preparing", "prepared.write", "datasets.preparing")
    rooms = open_dataset("rooms", root=folder, split="val", scenes=2, views=2, size=(48, 64), progress=False, workers=1)
    prepare(rooms, folder / "prepared", split="val", num_threads=1)
    for path in sorted((folder / "prepared/val").iterdir()):
        yield f"file {path.name}", path.read_bytes()
    back = open_dataset("prepared", root=folder / "prepared", split="val")
    yield "samples", [back[index] for index in range(len(back))]


def pin_readers(folder: Path) -> Pins:
    """Targets of every reader on the shared frames."""
    if not SHARED.is_dir():
        return
    for name, place, options in _shared_sets(folder):
        yield from _pin_reader(name, place, options)


def _pin_reader(title: str, place: Path, options: dict[str, Any]) -> Pins:
    from triptych.datasets import DATASETS

    name = options.pop("dataset", title.split()[0])
    dataset: Any = DATASETS[name](place, **options)
    few = range(0, len(dataset), max(1, len(dataset) // 6))
    yield f"{title} keys", [dataset.key(index) for index in range(len(dataset))]
    yield f"{title} samples", [dataset[index] for index in few]
    yield f"{title} fingerprint", dataset.fingerprint()


def _shared_sets(folder: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    samples, data = SHARED / "samples", SHARED / "data"
    for split in ("train", "val"):
        yield f"cityscapes {split}", _cityscapes(folder / "cityscapes"), {"split": split, "instances": True}
    for classes in ("16", "7"):
        yield f"cityscapes {classes}", _cityscapes(folder / "cityscapes"), {"classes": classes}
    yield "omnidata", samples / "omnidata", {"split": "all"}
    yield "omnidata fov", samples / "omnidata", {"split": "all", "fov": 60.0}
    nyu = _nyuv2(folder / "nyuv2", "labelled", (433,))
    yield "nyuv2", nyu, {"split": "test"}
    yield "nyuv2 13", nyu, {"split": "test", "classes": 13, "tasks": ("semseg",)}
    cropped = _nyuv2(folder / "nyuv2-cropped", "cropped", (834, 972, 1096))
    yield "nyuv2 cropped", cropped, {"split": "test", "tasks": ("semseg",), "classes": 13}
    yield "pascal-context", _pascal(folder / "pascal"), {"split": "val"}
    yield "vkitti2", _vkitti2(folder / "vkitti2"), {"split": "val", "tasks": ()}
    yield "images", samples / "kitti", {}
    examples = HERE.parents[1] / "examples/real-data"
    for split in ("train", "test"):
        root = data / "bsds500_sod"
        yield f"folder bsds {split}", examples / "bsds500_sod.toml", {"dataset": "folder", "root": root, "split": split}
    yield "folder camvid", examples / "camvid.toml", {"dataset": "folder", "root": data / "camvid", "split": "val"}


def _link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(source)


def _cityscapes(root: Path) -> Path:
    for path in sorted((SHARED / "samples/cityscapes").glob("*/*.png")):
        kind = "leftImg8bit" if "leftImg8bit" in path.name else "gtFine"
        split, city = ("val", "frankfurt") if path.name.startswith("frankfurt") else ("train", "aachen")
        _link(path, root / kind / split / city / path.name)
    return root


def _nyuv2(root: Path, source: str, numbers: tuple[int, ...]) -> Path:
    """The layout of the archive of the InvPT line."""
    import numpy as np
    from PIL import Image

    at = SHARED / f"samples/nyuv2/{source}"
    for name in ("segmentation", "edge", "images", "normals", "depth", "gt_sets"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        labels = np.asarray(Image.open(at / f"{number:06d}_seg40.png"))
        stored = np.where(labels == 255, 0, labels + 1).astype(np.uint8)
        Image.fromarray(stored).save(root / f"segmentation/{number:04d}.png")
        Image.fromarray(stored // 20 * 255).save(root / f"edge/{number:04d}.png")
        shutil.copy(at / f"{number:06d}_rgb.png", root / f"images/{number:04d}.png")
        if (at / f"{number:06d}_normals.png").exists():
            shutil.copy(at / f"{number:06d}_normals.png", root / f"normals/{number:04d}.png")
            depth = np.asarray(Image.open(at / f"{number:06d}_depth_5000.png")) / np.float32(5000)
            np.save(root / f"depth/{number:04d}.npy", depth.astype(np.float32))
        else:
            (root / f"normals/{number:04d}.png").touch()
            (root / f"depth/{number:04d}.npy").touch()
    (root / "gt_sets/train.txt").write_text("0003")
    (root / "gt_sets/val.txt").write_text("\n".join(f"{number:04d}" for number in numbers))
    return root


def _pascal(root: Path) -> Path:
    at = SHARED / "samples/pascal/context"
    keys = sorted(path.stem for path in at.glob("*.png"))
    for key in keys:
        _link(at / f"{key}.jpg", root / f"JPEGImages/{key}.jpg")
        _link(at / f"{key}.png", root / f"SegmentationClassContext/{key}.png")
    lists = root / "ImageSets/SegmentationContext"
    lists.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("\n".join(keys))
    return root


def _vkitti2(root: Path) -> Path:
    from PIL import Image

    path = root / "Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(min((SHARED / "samples/kitti").glob("0*_rgb.png"))).convert("RGB").save(path)
    return root


def pin_guesses(folder: Path) -> Pins:
    """What `data init` reads out of folders without a description, and what `data doctor` finds in them."""
    if not SHARED.is_dir():
        return
    describe = load(
        "describe_folder", "doctor.guessing", "doctor.init", "doctor", "datasets.guessing", "folders.guessing"
    )
    examine = load("examine", "doctor", "doctor.examine", "datasets.doctor")
    for name in ("nyuv2/labelled", "omnidata/taskonomy", "omnidata/replica", "pascal/voc", "pascal/person"):
        guess = describe(SHARED / "samples" / name)
        yield f"guess {name}", [guess.doubts, {task: one[1].values for task, one in guess.tasks.items()}]
    report = examine(HERE.parents[1] / "examples/real-data/bsds500_sod.toml", root=SHARED / "data/bsds500_sod", limit=8)
    yield "doctor bsds", [str(one) for one in report.findings]
    report = examine(SHARED / "samples/omnidata", dataset="omnidata")
    yield "doctor omnidata", [str(one) for one in report.findings]


WIDTHS: dict[str, dict[str, Any]] = {
    "densemtl": {"widths": [8] * 5},
    "invpt": {"width": 16, "preliminary_width": 16},
    "hrnet": {},
    "pad-net": {"width": 8, "fused_width": 16},
    "pad-net-plus": {"widths": [8] * 5},
    "pap": {"width": 8, "inner_width": 4},
    "psd": {"width": 8, "inner_width": 4},
}
"""Options that make a decoder small; the others take a width of 8."""
FIELD = {"width": 16, "plane_channels": 8, "hidden": 16, "bins": 8, "num_samples": 8}
"""Options that make the field of a regularizer small."""
ONE_SAMPLE = FIELD | {"num_samples": 1}
REGULARIZERS: dict[str, dict[str, Any]] = {
    "triplane-single-sample": ONE_SAMPLE,
    "triplane-depth-input": ONE_SAMPLE,
    "auxiliary-heads": {},
    "decoder-2d": {},
    "distill": {"teachers": ["resnet18_half"], "teacher_weights": ["random"]},
    "mtpsl": {"widths": [8] * 5},
    "second-heads": {},
}
"""Options of regularizers; those of the others are `FIELD`."""


def _train(folder: Path, title: str, **parts: Any) -> Pins:
    """Two steps of a tiny run: names and values of all that it saves, and what it logs. A part that refuses says so."""
    from triptych.recipes.config import from_json
    from triptych.training.loop import train

    rooms = {"scenes": 2, "views": 2, "size": [48, 64], "path_length": 4, "neighbor_frames": [-1, 1], "workers": 1}
    rooms["progress"] = False
    base: dict[str, Any] = {
        "data": {"dataset": "rooms", "root": str(folder), "size": [48, 64], "batch_size": 2, "options": rooms},
        "model": {"backbone": "resnet18", "backbone_options": {"widths": [8, 16, 24, 32]}, "decoder": "fcn"},
        "schedule": {"steps": 2},
        "optimizer": {"clip_norm": 1.0},
        "training": {"evaluate_every": 0, "checkpoint_every": 2, "log_every": 1},
    }
    for name, part in parts.items():
        base[name] = base.get(name, {}) | part
    if base["model"]["decoder"] == "fcn":
        base["model"].setdefault("decoder_options", {"width": 8})
    if "adaptation" in parts:
        base["adaptation"] |= {"dataset": "rooms", "root": str(folder), "dataset_options": rooms | {"look": "b"}}
    with tempfile.TemporaryDirectory() as run:
        try:
            train(from_json(json.dumps(base)), Path(run) / "run", device="cpu", progress=False)
        except (ValueError, TypeError) as error:
            yield f"{title} refused", type(error).__name__
            return
        yield from _saved(Path(run) / "run", title)


def _saved(run: Path, title: str) -> Pins:
    import torch
    from safetensors.torch import load_file

    tensors = {path.name: load_file(path) for path in sorted(run.glob("checkpoints/*/*.safetensors"))}
    assert tensors, f"no checkpoint in {[str(path) for path in run.rglob('*')]}"
    yield f"{title} names", {file: sorted(found) for file, found in tensors.items()}
    yield f"{title} values", {file: [found[name] for name in sorted(found)] for file, found in tensors.items()}
    assert all(isinstance(one, torch.Tensor) for found in tensors.values() for one in found.values())
    numbers = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "images_per_second", "memory")
    yield f"{title} log", [[(k, row[k]) for k in sorted(row) if not k.startswith(timed)] for row in numbers]


def pin_decoders(folder: Path) -> Pins:
    """Two training steps of every decoder and architecture."""
    from triptych.decoders import DECODERS
    from triptych.models import ARCHITECTURES

    for name in [*DECODERS, *ARCHITECTURES]:
        yield from _train(folder, name, model={"decoder": name, "decoder_options": WIDTHS.get(name, {"width": 8})})
    for name in ("pad-net", "mti-net"):
        model = {"decoder": name, "decoder_options": WIDTHS.get(name, {"width": 8})}
        data = {"tasks": ["semseg", "depth"], "auxiliary_tasks": ["boundary"]}
        yield from _train(folder, f"{name} with an auxiliary task", model=model, data=data)


def pin_regularizers(folder: Path) -> Pins:
    """Two training steps of every regularizer, with all labels and with one per image."""
    from triptych import regularizers

    for name in regularizers.REGULARIZERS:
        part = {"name": name, "options": REGULARIZERS.get(name, FIELD)}
        yield from _train(folder, name, regularizer=part)
        yield from _train(folder, f"{name} with one label per image", regularizer=part, data={"label_setting": "one"})


def pin_weightings(folder: Path) -> Pins:
    """Two training steps of every weighting, on two batches each."""
    from triptych.weighting import WEIGHTINGS

    for name in WEIGHTINGS:
        training = {"accumulate": 2, "evaluate_every": 0, "checkpoint_every": 2, "log_every": 1}
        yield from _train(folder, name, weighting={"name": name}, training=training)


def pin_adapters(folder: Path) -> Pins:
    """Two training steps of every adapter on two looks of the rooms."""
    from triptych.adaptation import ADAPTERS

    for name in ADAPTERS:
        yield from _train(folder, name, adaptation={"name": name})


def pin_video(folder: Path) -> Pins:
    """Two training steps of video self-supervision in each of its settings."""
    from triptych.video import VIDEO

    settings: tuple[dict[str, Any], ...] = (
        {"poses": "network", "pose_backbone": "resnet18_half"},
        {"poses": "alignment"},
        {"poses": "known"},
        {"poses": "known", "automask": False, "scales": 1},
    )
    data = {"tasks": ["semseg", "depth"], "task_options": {"depth": {"loss": "log-l1", "aligned": True}}}
    for name in VIDEO:
        for labels in (False, True):
            for options in settings:
                title = f"{name} {' '.join(map(str, options.values()))}{' with labels' if labels else ''}"
                video = {"name": name, "labels": labels, "options": options}
                yield from _train(folder, title, video=video, data=data)


def pin_verbs(folder: Path) -> Pins:
    """What the commands write for one tiny run: maps of three ways to predict, scores by every protocol, the report."""
    import numpy as np
    from PIL import Image

    rooms = {"scenes": 2, "views": 2, "size": [48, 64], "workers": 1, "progress": False}
    recipe = {
        "data": {"dataset": "rooms", "root": str(folder), "size": [48, 64], "batch_size": 2, "options": rooms},
        "model": {"backbone": "resnet18", "backbone_options": {"widths": [8, 16, 24, 32]}, "decoder": "fcn"},
        "schedule": {"steps": 4},
        "training": {"evaluate_every": 0, "checkpoint_every": 2, "log_every": 1},
    }
    recipe["model"]["decoder_options"] = {"width": 8}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "images").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((128, 96), Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.png")
    _triptych(folder, "train", "recipe.json", "--out", "run", "--device", "cpu")
    for title, options in (("plain", ()), ("tiled", ("--tile", "64")), ("flipped", ("--flip",))):
        products = ("--products", "arrays", "maps", "--device", "cpu")
        _triptych(folder, "predict", "run", "images", "--out", title, *options, *products)
        for path in sorted((folder / title).rglob("*.[np][pn][yg]")):
            values = np.load(path) if path.suffix == ".npy" else np.array(Image.open(path))
            yield f"{title} {path.relative_to(folder / title)}", values
    every = ("--classes", "20", "--task", "semseg", "normals", "depth")
    edges = ("--task", "boundary", "--ground-truth", "thin")
    (folder / "truth/boundary").mkdir(parents=True)
    for path in (folder / "plain/arrays/boundary").glob("*.npy"):
        edge = np.load(path)[0]
        Image.fromarray(255 * (edge > np.median(edge)).astype(np.uint8)).save(
            folder / f"truth/boundary/{path.stem}.png"
        )
    lines, tools = ("survey", "atrc", "invpt", "densemtl"), ("bsds", "seism", "seism-nonms", "pixel-f1")
    for protocol, rules in (dict.fromkeys(lines, every) | dict.fromkeys(tools, edges)).items():
        out = f"{protocol}.json"
        _triptych(
            folder,
            "score",
            "flipped/arrays",
            "truth" if rules is edges else "plain/arrays",
            "--protocol",
            protocol,
            *rules,
            "--out",
            out,
        )
        yield f"score {protocol}", sorted(_numbers(json.loads((folder / out).read_text())["tasks"]))
    _triptych(folder, "evaluate", "run", "--split", "test", "--device", "cpu")
    evaluation = json.loads((folder / "run/evaluation-test.json").read_text())
    yield "evaluation", [evaluation[name] for name in ("metrics", "per_class", "losses", "labelled", "constant")]
    page = (folder / "run/report.html").read_text()
    drawn = json.loads(page.split('id="data">', 1)[1].split("</script>", 1)[0])
    yield "report's charts", [[chart[name] for name in ("group", "title", "x", "y")] for chart in drawn["charts"]]


CONVERTED: dict[str, tuple[str, ...]] = {
    "survey_mtl_hrnet18_nyud2": (),
    "densemtl_xtam_SD_nyud40": (),
    "invpt_vitB_nyud4_min": (),
    "atrc_hrnet18_nyud4_released": ("--genotype", "nyud-w18"),
}
"""A golden network of each code base, and what the command has to be told."""


def pin_conversion(folder: Path) -> Pins:
    """Tensors of published networks under our names."""
    import torch
    from safetensors.torch import load_file

    if not SHARED.is_dir():
        return
    sys.path.insert(0, str(HERE.parents[1] / "tests/helpers"))
    from golden import golden, our_name

    for name, options in CONVERTED.items():
        case = golden(name)
        torch.save(case.state_dict(), folder / "checkpoint.pth")
        tasks = map(our_name, case.config["tasks"])
        _triptych(folder, "convert", case.family, "checkpoint.pth", "--out", name, "--tasks", *tasks, *options)
        tensors = load_file(folder / name / "model.safetensors")
        yield name, {key: tensors[key] for key in sorted(tensors)}


def _triptych(folder: Path, *words: str) -> None:
    command = [sys.executable, "-c", "from triptych.__main__ import main; raise SystemExit(main())", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"triptych {' '.join(words)}: {done.stdout[-500:]} {done.stderr[-1500:]}"


def _numbers(value: Any) -> Iterator[float]:
    """All numbers of nested containers, whatever they are called."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield value


GROUPS: dict[str, Callable[[Path], Pins]] = {
    "rooms": pin_rooms,
    "presets": pin_presets,
    "order": pin_order,
    "prepared": pin_prepared,
    "readers": pin_readers,
    "guesses": pin_guesses,
    "decoders": pin_decoders,
    "regularizers": pin_regularizers,
    "weightings": pin_weightings,
    "adapters": pin_adapters,
    "video": pin_video,
    "verbs": pin_verbs,
    "conversion": pin_conversion,
}
"""What is pinned, by name."""


def measure(names: list[str]) -> dict[str, str]:
    """Digests of this process's tree."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, str] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found |= {f"{name}: {title}": digest(value) for title, value in GROUPS[name](Path(folder))}
    return found


def run(tree: Path, names: list[str]) -> dict[str, str]:
    """Digests of the library in `tree`, which this file need not be part of."""
    source = next(place for place in (tree / "src", tree) if (place / "triptych").is_dir())
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "TRIPTYCH_SHARED": str(SHARED)}
    command = [sys.executable, str(HERE), "--measure", "--only", *names]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, cwd="/")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Compare; the exit status is 1 where a digest differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, metavar="OLD NEW")
    parser.add_argument("--only", nargs="+", choices=sorted(GROUPS), default=list(GROUPS))
    parser.add_argument("--measure", action="store_true", help="print the digests of the library that is imported")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.only)))
        return 0
    if len(arguments.trees) != 2:
        parser.error("give two trees: OLD NEW")
    old, new = (run(tree.resolve(), arguments.only) for tree in arguments.trees)
    gone, added = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    differ = [name for name in old if name in new and old[name] != new[name]]
    for what, some in (("gone", gone), ("new", added), ("DIFFERS", differ)):
        print("".join(f"{what}: {name}\n" for name in some), end="")
    print(f"{len(set(old) & set(new)) - len(differ)} of {len(set(old) & set(new))} pins are equal")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
