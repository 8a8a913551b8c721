"""What a checkpoint does not tell is named: refused where several readings fit, or found by published outputs."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import AS_IS, golden, our_name

from triptych.conversion import convert_checkpoint
from triptych.conversion.base import Assumption, Checkpoint
from triptych.conversion.invpt import _image_size
from triptych.conversion.run_folder import Reference, convert_file, read_reference, settle
from triptych.conversion.trunks import training_order
from triptych.labels.axes import CAMERA
from triptych.prediction.pretrained import load_model
from triptych.types import Output


def stored(case, folder):
    torch.save(case.state_dict(), folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def codes(case):
    genotype = case.config["genotype"]
    return " ".join("".join(str(genotype[t][s]) for s in case.config["tasks"]) for t in case.config["tasks"])


@pytest.mark.parametrize("name", ["atrc_hrnet18_nyud4_released", "atrc_hrnet18_nyud4_contexts"])
def test_a_genotype_is_asked_for_since_every_one_has_the_same_tensors(name, tmp_path):
    case = golden(name)
    path = stored(case, tmp_path)
    tasks = tuple(map(our_name, case.config["tasks"]))
    if name.endswith("released"):
        with pytest.raises(ValueError, match=r"do not tell --genotype \(nyud-w18 \| any other with the same pairs\)"):
            convert_file("atrc", path, tmp_path / "run", tasks=tasks, normals_axes=CAMERA, **AS_IS)
        assert not (tmp_path / "run").exists()
    options = {"genotype": codes(case), "normals_axes": CAMERA}
    convert_file("atrc", path, tmp_path / "run", tasks=tasks, **options, **AS_IS)
    with torch.no_grad():
        case.check_predictions(load_model(tmp_path / "run")[0](case.image()))


def test_contexts_are_joined_in_the_order_of_training_however_tasks_are_declared():
    case = golden("atrc_hrnet18_nyud4_released")
    declared = dict(reversed(case.tasks().items()))
    model, report = convert_checkpoint("atrc", case.state_dict(), tasks=declared, genotype="nyud-w18", **AS_IS)
    assert [assumption.option for assumption in report.assumed] == ["order"]
    with torch.no_grad():
        case.check_predictions(model(case.image()))
        other, _ = convert_checkpoint(
            "atrc", case.state_dict(), tasks=declared, genotype="nyud-w18", order=tuple(declared), **AS_IS
        )
        with pytest.raises(AssertionError):  # it matters
            case.check_predictions(other(case.image()))


def test_an_order_in_the_file_that_is_not_the_parsers_fits_two_readings():
    pairs = [("semseg", "semseg"), ("boundary", "edge"), ("depth", "depth")]
    parser = ("semseg", "depth", "edge")
    names = ["edge", "semseg", "depth"]
    order, assumed = training_order(pairs, names, (), parser)
    assert order == ["boundary", "semseg", "depth"]
    assert assumed[0].readings == (("boundary", "semseg", "depth"), ("semseg", "depth", "boundary"))
    for silent in (["depth", "edge", "semseg"], ["semseg", "depth", "edge"]):
        order, assumed = training_order(pairs, silent, (), parser)
        assert order == ["semseg", "depth", "boundary"]
        assert not any(each.ambiguous for each in assumed)
    assert training_order(pairs, names, ("depth", "semseg", "boundary"), parser) == (
        ["depth", "semseg", "boundary"],
        (),
    )
    with pytest.raises(ValueError, match="order is depth; it must name each of semseg, boundary, depth once"):
        training_order(pairs, names, ("depth",), parser)


def small_invpt(positions):
    """The tensors from which an image size is read."""
    return Checkpoint({"backbone.pos_embed": torch.zeros(1, positions + 1, 4)}, {}, {})


@pytest.mark.parametrize(
    ("positions", "sizes"),
    [
        (28 * 36, [(448, 576), (576, 448), (384, 672), (672, 384)]),
        (32 * 32, [(512, 512)]),
        (97, [(16, 97 * 16), (97 * 16, 16)]),
    ],
)
def test_image_sizes_that_fit_are_listed(positions, sizes):
    size, (assumed,) = _image_size(small_invpt(positions), 16, None)
    assert size == sizes[0]
    assert sorted(assumed.readings) == sorted(sizes)
    assert _image_size(small_invpt(positions), 16, sizes[-1]) == (sizes[-1], ())


def convert(case, family, **options):
    return convert_checkpoint(family, case.state_dict(), tasks=case.tasks(), **(AS_IS | options))


def message_reference(case, model, path):
    """Outputs of a network whose messages were joined in other orders than declared."""
    with torch.no_grad():
        outputs = model(small(case)).predictions
    arrays = {name: value[0].numpy() for name, value in outputs.items()}
    np.savez(path, image=small(case)[0].numpy(), **arrays)


def small(case):
    """A corner of the case's image, for many networks to look at."""
    return case.image()[..., :48, :64]


@pytest.mark.slow
def test_message_orders_are_found_by_published_outputs(tmp_path):
    case = golden("densemtl_xtam_SDNE_nyud40")
    path = stored(case, tmp_path)
    with pytest.raises(ValueError, match=r"do not tell --orders semseg \(depth, normals, boundary \| "):
        convert_file("densemtl", path, tmp_path / "run", normals_axes=CAMERA)
    true = {"semseg": ("normals", "depth", "boundary"), "depth": ("boundary", "normals", "semseg")}
    rest = {t: tuple(s for s in case.tasks() if s != t) for t in case.tasks() if t not in true}
    tasks = case.tasks()
    model, report = convert_checkpoint("densemtl", case.state_dict(), tasks=tasks, orders=true | rest)
    assert report.assumed == ()
    message_reference(case, model, tmp_path / "reference.npz")
    known = {"orders": rest, "normals_axes": CAMERA}  # two of the four are sought, six orders each
    reference = tmp_path / "reference.npz"
    report = convert_file("densemtl", path, tmp_path / "run", tasks=tuple(tasks), reference=reference, **known)
    found = load_model(tmp_path / "run")[0]
    with torch.no_grad():
        image = case.image()
        for name, value in model(image).predictions.items():
            assert torch.allclose(found(image).predictions[name], value, atol=1e-5)
    assert "agrees with reference.npz" in (tmp_path / "run/conversion.txt").read_text()


class Scaled(torch.nn.Module):
    """A network whose outputs are the image times a factor of each task."""

    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def forward(self, image):
        return Output({name: image.sum(dim=1, keepdim=True) * f for name, f in self.factors.items()}, [], [])


def scaled(options):
    own = options.get("own", {})
    return Scaled({name: own.get(name, 1) * options.get("shared", 1) for name in ("depth", "boundary")}), None


SHARED = Assumption("shared", 1, (1, 2, 3), "a guess")
OWN = Assumption("own", 1, (1, 5, 7), "a guess", key="depth", tasks=("depth",))


def reference(depth, boundary):
    image = torch.rand(1, 3, 4, 4)
    total = image.sum(dim=1, keepdim=True)
    return Reference(Path("reference.npz"), image, {"depth": depth * total, "boundary": boundary * total})


def test_readings_are_settled_together_and_by_task():
    assert settle(scaled, {}, (SHARED, OWN), reference(14, 2)) == {"shared": 2, "own": {"depth": 7}}
    assert settle(scaled, {"mean": 0}, (), reference(1, 1)) == {"mean": 0}
    with pytest.raises(ValueError, match=r"no shared that was tried gives the outputs .* 1: 9.0e-01; 2: 8.0e-01"):
        settle(scaled, {}, (SHARED,), reference(10, 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image": np.zeros((3, 4, 4))}, "holds image; give `image`"),
        ({"depth": np.zeros((1, 4, 4))}, "holds depth; give `image`"),
        ({"image": np.full((3, 4, 4), -2.1), "depth": np.zeros((1, 4, 4))}, r"from -2.1 to -2.1; give it in \[0, 1\]"),
        ({"image": np.full((3, 4, 4), 255), "depth": np.zeros((1, 4, 4))}, r"from 255 to 255; give it in \[0, 1\]"),
        ({"image": np.zeros((4, 4)), "depth": np.zeros((1, 4, 4))}, "give `image`"),
    ],
)
def test_raises_for_a_reference_that_lacks_something(content, message, tmp_path):
    np.savez(tmp_path / "r.npz", **content)
    with pytest.raises(ValueError, match=message):
        read_reference(tmp_path / "r.npz", {"depth": "depth"})


def test_the_documented_lines_save_what_the_network_with_its_normalization_gives(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs/convert.md").read_text()
    lines = text.partition("```python skip\n")[2].partition("```")[0]
    image, mean, std = torch.rand(1, 3, 4, 4), torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.2)
    bare = Scaled({"depth": 2, "boundary": 3})
    monkeypatch.chdir(tmp_path)
    exec(lines, {"model": lambda x: bare(x).predictions, "image": image, "mean": mean, "std": std, "numpy": np})

    class Whole(torch.nn.Module):
        def forward(self, x):
            return bare((x - mean) / std)

    errors = read_reference(tmp_path / "reference.npz", {"depth": "depth", "boundary": "edge"}).errors(Whole())
    assert errors == {"depth": 0, "boundary": 0}


@pytest.mark.parametrize("damage", ["text", "cut", "byte", "array"])
def test_raises_for_a_damaged_reference(damage, tmp_path):
    path = tmp_path / "r.npz"
    np.savez(path, image=np.zeros((3, 4, 4)), depth=np.zeros((1, 4, 4)))
    whole, array = path.read_bytes(), io.BytesIO()
    np.save(array, np.zeros(3))
    other = whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]
    path.write_bytes({"text": b"no archive", "cut": whole[:300], "byte": other, "array": array.getvalue()}[damage])
    with pytest.raises(ValueError, match=r"r\.npz cannot be read as \.npz"):
        read_reference(path, {"depth": "depth"})


@pytest.mark.parametrize("name", ["image", "depth"])
def test_numbers_that_are_none_agree_with_nothing(name, tmp_path):
    content = {"image": np.zeros((3, 4, 4)), "depth": np.zeros((1, 4, 4))}
    content[name][0, 0, 0] = np.nan
    np.savez(tmp_path / "r.npz", **content)
    with pytest.raises(ValueError, match=f"holds NaN or infinity in {name}"):
        read_reference(tmp_path / "r.npz", {"depth": "depth"})
    broken = Scaled({"depth": float("nan"), "boundary": 1})
    assert reference(1, 1).errors(broken) == {"depth": float("inf"), "boundary": pytest.approx(0, abs=1e-6)}


def test_a_conversion_that_does_not_give_the_reference_is_refused(tmp_path):
    case = golden("atrc_fcn_hrnet18_nyud4")
    path = stored(case, tmp_path)
    np.savez(tmp_path / "r.npz", image=case.image()[0].numpy(), depth=np.ones((1, *case.image().shape[2:])))
    with pytest.raises(ValueError, match=r"does not give the outputs of .*'depth' differs by"):
        convert_file("atrc", path, tmp_path / "run", reference=tmp_path / "r.npz", normals_axes=CAMERA, **AS_IS)
    assert not (tmp_path / "run").exists()
    model, _ = convert(case, "atrc")
    message_reference(case, model, tmp_path / "r.npz")
    axes = ("left", "up", "backward")  # the network is compared as published, and turned then
    convert_file("atrc", path, tmp_path / "run", reference=tmp_path / "r.npz", normals_axes=axes, **AS_IS)
    with torch.no_grad():
        found, expected = (each(small(case)).predictions for each in (load_model(tmp_path / "run")[0], model))
    assert torch.allclose(found["normals"], -expected["normals"], atol=1e-5)
