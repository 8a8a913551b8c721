"""Losses of two processes are those of one with the whole batch: values, and gradients after their mean."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from triptych.losses import classes, depth, pairs, pixel
from triptych.losses.whole_batch import any_process, gather, sum_over_processes, whole_batch
from triptych.processes import leave_processes
from triptych.types import IGNORE

SIZE = (6, 7)
CENTROIDS = torch.tensor([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
Loss = Callable[[Tensor, Tensor], Tensor]


def cases() -> Iterator[tuple[str, Loss, Tensor, Tensor]]:
    """Every loss with a raw batch of four and targets of which the first image has none, the second few, and so on."""
    generator = torch.Generator().manual_seed(3)

    def raw(channels: int) -> Tensor:
        return torch.randn(4, channels, *SIZE, generator=generator, dtype=torch.float64)

    chance = torch.rand(4, *SIZE, generator=generator)
    known = chance < torch.tensor([0.0, 0.2, 0.9, 0.6])[:, None, None]
    labels = torch.randint(0, 3, (4, *SIZE), generator=generator)
    labels, binary = (torch.where(known, each, IGNORE) for each in (labels, (labels > 1).long()))
    metres = torch.where(known[:, None], 0.5 + 4 * chance[:, None].double(), torch.nan)
    facing = torch.where(known[:, None], pixel.unit_vectors(raw(3)), torch.nan)
    for name, loss in classes.SEGMENTATION.items():
        yield name, loss, raw(3), labels
        yield f"{name}, weighted", partial(loss, class_weights=(0.2, 1.0, 3.0)), raw(3), labels
    tables = ((pixel.SALIENCY_1, 1, binary), (pixel.SALIENCY_2, 2, binary), (pixel.NORMALS, 3, facing))
    for table, channels, target in (*tables, (pixel.VALUES, 3, facing)):
        for name, loss in table.items():
            yield f"{name}, {channels}", loss, raw(channels), target
    edges = torch.where(known[:, None], binary[:, None].double(), torch.nan)
    for channels, boundary in ((1, pixel.BOUNDARY_1), (2, pixel.BOUNDARY_2)):
        for name, of_edges in boundary.items():
            yield f"{name} boundary, {channels}", partial(of_edges, positive_weight=0.9), raw(channels), edges
    for name, (loss, _) in depth.DEPTH.items():
        yield f"{name} depth", loss, raw(1), metres
    yield "bins", depth.bin_depth, raw(5), metres
    yield "clusters", partial(pixel.cluster_normals, centroids=CENTROIDS), raw(3), facing
    yield "pairs of labels", pairs.compare_labels, raw(3), labels
    yield "pairs of normals", partial(pairs.compare_normals, decode=pixel.unit_vectors), raw(3), facing


def value_and_gradient(loss: Loss, raw: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    raw = raw.clone().requires_grad_()
    value = loss(raw, target)
    value.backward()
    return value.detach(), raw.grad if raw.grad is not None else torch.zeros_like(raw)


def compare(rank: int, world: int) -> dict[str, list[float]]:
    """How far each loss of this process's two images is from that of all four."""
    found = {}
    own = slice(2 * rank, 2 * rank + 2)
    for name, loss, raw, target in cases():
        value, gradient = value_and_gradient(loss, raw, target)
        with whole_batch():
            ours, own_gradient = value_and_gradient(loss, raw[own], target[own])
        alone, _ = value_and_gradient(loss, raw[own], target[own])
        gap = (own_gradient / world - gradient[own]).abs().max() / gradient.abs().max()
        found[name] = [float((ours - value).abs() / value.abs()), float(gap), float((alone - value).abs() / value)]
    return found


def primitives(rank: int) -> dict[str, object]:
    with whole_batch():
        row = torch.arange(2 + rank, dtype=torch.float32).requires_grad_()
        gathered = gather(row)
        (gathered * torch.arange(5)).sum().backward()
        return {
            "gathered": gathered.tolist(),
            "slopes": row.grad.tolist() if row.grad is not None else None,
            "any": [any_process(rank == 1), any_process(False)],
            "sum": [
                each.tolist() for each in sum_over_processes(torch.tensor([rank + 1, 2**40 + rank]), torch.tensor(0.5))
            ],
        }


def main(folder: str, rank: int) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {"losses": compare(rank, 2), **primitives(rank)}
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    leave_processes()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    words = [[sys.executable, __file__, str(folder), str(rank)] for rank in range(2)]
    for process in [subprocess.Popen(each) for each in words]:
        assert process.wait(timeout=120) == 0
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradient_of_the_whole_batch(found: list[dict]) -> None:
    for each in found:
        assert max(value for value, _, _ in each["losses"].values()) < 1e-6
        assert max(gap for _, gap, _ in each["losses"].values()) < 1e-6
        assert max(alone for _, _, alone in each["losses"].values()) > 0.1  # which is not so without an exchange


@pytest.mark.slow
def test_sums_are_exact_and_rows_of_several_lengths_are_gathered(found: list[dict]) -> None:
    for each in found:
        assert each["gathered"] == [0, 1, 0, 1, 2]
        assert each["any"] == [True, False]
        assert each["sum"] == [[3, 2**41 + 1], 1.0]
    assert [each["slopes"] for each in found] == [[0, 2], [4, 6, 8]]


def test_a_single_process_sums_alone() -> None:
    with whole_batch():
        assert sum_over_processes(torch.tensor(2.0))[0] == 2
        assert not any_process(False)
        assert torch.equal(gather(torch.ones(3)), torch.ones(3))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
