"""Trunks for the studies, pretrained on image-level labels of other rooms; dense labels would give the tasks away.

python studies/trunks.py run --source WORKTREE --out runs/lab
python studies/trunks.py table

Which of the 20 classes occur in an image: binary cross-entropy over 8,000 images of 8,000 rooms that no study shows
(4,000 of each look), 6,000 steps (Swin 2,000) of 32 at 64 x 80, mirrored in half of the cases. The labels are those of
the whole image, which is never cropped. The trunk's last map is averaged and one linear layer follows, which is thrown
away.

A job writes `<out>/trunks/<arm>/seed-0/trunk.safetensors`; its row holds the file's SHA-256, and `trunk_file` hands a
study no other file. Processors of other vector instructions add in another order and make another file, whose rows
must not meet those of the first. So the trunk of most studies lies in `results/trunks`, and a study takes it from there
where `<out>` has none; a source older than that looks in `<out>` alone, and a copy has to lie there.

To run a study again elsewhere, give `trunks.py run` and the study the same `--results DIR` of your own: the trunks have
their rows there, and the study goes by these. Its rows are then of another trunk than ours.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from lab import rows
from lab.running import ROOT, main, results_folder
from lab.study import Scores, Study
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = (64, 80)
ROOMS = {"seed": 4711, "views": 1, "size": SIZE}
"""Rooms of another seed than every study's."""
SETTINGS = {"rooms": 4000, "looks": ["a", "b"], "steps": 6000, "batch": 32, "rate": 1e-3, "decay": 0.05, "warmup": 200}
TRUNKS: dict[str, dict[str, Any]] = {
    "resnet18-half": {"backbone": "resnet18_half", "options": {}},
    "vit-tiny": {"backbone": "vit_tiny_patch16_384", "options": {"image_size": list(SIZE)}},
    "hrnet-small": {"backbone": "hrnet_w18_small_v2", "options": {}},
    "swin-small": {
        "backbone": "swin_tiny",
        "options": {"embed_dim": 48, "depths": [2, 2, 2, 2], "num_heads": [2, 4, 8, 16]},
        "steps": 2000,  # a third: a step costs five times the ResNet's, and `lora.py` alone uses it
    },
}
SAVE_EVERY = 500
KEPT = ROOT / "results" / "trunks"
"""Files that are part of the repository, by arm."""


def arms() -> dict[str, dict[str, Any]]:
    """What each trunk is."""
    return {name: {**SETTINGS, **trunk} for name, trunk in TRUNKS.items()}


class Tagger(nn.Module):
    """A trunk, the mean over its last map, and a linear layer: logits of what occurs."""

    def __init__(self, trunk: nn.Module, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(trunk.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images)[-1].mean(dim=(2, 3)))


def occurring(labels: Tensor, classes: int) -> Tensor:
    """Which classes have at least one pixel of `labels` `(H, W)`, as 0 and 1.

    >>> occurring(torch.tensor([[0, 2], [2, 255]]), 4).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    return torch.bincount(labels[labels < classes], minlength=classes).clamp(max=1).float()


def read_images(split: str, scenes: int, looks: list[str]) -> tuple[Tensor, Tensor]:
    """Images as bytes `(N, 3, H, W)`, and which classes occur `(N, 20)`."""
    from triptych.datasets.rooms import Rooms, rooms_tasks

    classes = rooms_tasks()["semseg"].channels
    images, labels = [], []
    for look in looks:
        dataset = Rooms(split=split, scenes=scenes, look=look, tasks=("semseg",), workers=1, progress=False, **ROOMS)
        for index in range(len(dataset)):
            sample = dataset[index]
            images.append((sample.image * 255).round().to(torch.uint8))
            labels.append(occurring(sample.targets["semseg"], classes))
    return torch.stack(images), torch.stack(labels)


def train(settings: dict[str, Any], seed: int, folder: Path, device: str = "cpu") -> Tagger:
    """Pretrain one trunk, from where `folder` stopped; every draw depends on the seed and the step alone."""
    from triptych.backbones import create_backbone

    torch.manual_seed(seed)
    tagger = Tagger(create_backbone(settings["backbone"], **settings["options"]), 20).to(device)
    images, labels = (part.to(device) for part in read_images("train", settings["rooms"], settings["looks"]))
    optimizer = torch.optim.AdamW(tagger.parameters(), lr=settings["rate"], weight_decay=settings["decay"])
    steps, batch = settings["steps"], settings["batch"]

    def rate_at(step: int) -> float:
        cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)).item())
        return min(1.0, (step + 1) / settings["warmup"]) * cosine

    first, saved = 0, folder / "state.pt"
    if saved.is_file():
        state = torch.load(saved, weights_only=True)
        tagger.load_state_dict(state["tagger"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    folder.mkdir(parents=True, exist_ok=True)
    tagger.train()
    for step in range(first, steps):
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        chosen = torch.randint(len(images), (batch,), generator=generator).to(device)
        mirrored = (torch.rand(batch, generator=generator) < 0.5).to(device)
        torch.manual_seed(1_000_003 * seed + step)  # dropout of a trunk that has any
        inputs = images[chosen].float() / 255
        inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)
        for group in optimizer.param_groups:
            group["lr"] = settings["rate"] * rate_at(step)
        loss = F.binary_cross_entropy_with_logits(tagger(inputs), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tagger.parameters(), 5.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            print(json.dumps({"step": step + 1, "loss": round(loss.item(), 4)}), flush=True)
            state = {"tagger": tagger.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, saved.with_suffix(".part"))
            saved.with_suffix(".part").replace(saved)
    return tagger


@torch.no_grad()
def measure(tagger: Tagger, settings: dict[str, Any]) -> Scores:
    """Cross-entropy and mean area under the ROC curve on held-out rooms, beside the best constant's cross-entropy."""
    images, labels = read_images("val", 250, settings["looks"])
    tagger.eval()
    logits = torch.cat([tagger(part.float() / 255) for part in images.split(50)])
    frequency = labels.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    constant = F.binary_cross_entropy(frequency.expand_as(labels), labels)
    areas = [
        area_under_curve(logits[:, i], labels[:, i]) for i in range(labels.shape[1]) if 0 < labels[:, i].mean() < 1
    ]
    return {
        "cross_entropy": F.binary_cross_entropy_with_logits(logits, labels).item(),
        "constant_cross_entropy": constant.item(),
        "area_under_curve": sum(areas) / len(areas),
        "classes_that_vary": float(len(areas)),
    }


def area_under_curve(scores: Tensor, truth: Tensor) -> float:
    """Share of pairs of a positive and a negative that are in the right order, ties a half.

    >>> area_under_curve(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    0.75
    """
    positive, negative = scores[truth > 0.5], scores[truth < 0.5]
    difference = positive[:, None] - negative[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def score(settings: dict[str, Any], seed: int, folder: Path) -> Scores:
    """Pretrain, write `trunk.safetensors`, and say how well the trunk tells what occurs."""
    from safetensors.torch import save_file

    tagger = train(settings, seed, folder)
    found = measure(tagger, settings)
    path = folder / "trunk.safetensors"
    save_file({name: value.contiguous() for name, value in tagger.trunk.body.state_dict().items()}, path)
    return {**found, "sha256": checksum(path)}


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trunk_file(folder: Path, arm: str, results: Path | None = None) -> Path:
    """The file of a trunk below a study's `--out`, or else the one that is kept; `ValueError` for one of another hash
    than its row's, or none. Rows are those in `results`, by default where the study writes its own.
    """
    results = results or results_folder()
    path = folder / STUDY.name / arm / "seed-0" / "trunk.safetensors"
    if not path.is_file() and (kept := KEPT / f"{arm}.safetensors").is_file():
        path = kept
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; `python studies/trunks.py run --out {folder} --results DIR` makes one, and `--results "
            "DIR` then goes to this study too."
        )
    known = rows.by_seed(rows.read(results / f"{STUDY.name}.jsonl"), arm).get(0, {}).get("sha256", "nothing")
    if (found := checksum(path)) != known:
        raise ValueError(
            f"{path} has hash {found[:12]}, {results / STUDY.name}.jsonl says {str(known)[:12]}: rows on another trunk "
            "are of another study; pass the --results DIR that trunks.py made it with."
        )
    return path


def table(found: list[rows.Row]) -> str:
    """One line per trunk."""
    lines = [
        "| trunk | cross-entropy (best constant) | area under ROC | SHA-256 begins |",
        "| --- | --- | --- | --- |",
    ]
    for row in found:
        numbers = row.scores
        lines.append(
            f"| {row.arm} | {numbers['cross_entropy']:.3f} ({numbers['constant_cross_entropy']:.3f}) "
            f"| {numbers['area_under_curve']:.3f} | `{numbers['sha256'][:12]}` |"
        )
    return "\n".join(lines)


STUDY = Study("trunks", "6769c55", arms, {name: (0,) for name in TRUNKS}, score)

if __name__ == "__main__":
    main(STUDY, table)
