"""Models of transformers as teachers: tiny random ones that the tests write, against the library's own pipelines."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from triptych.datasets.folder import Folder
from triptych.folders.descriptor import read_descriptor
from triptych.prediction import transformers_models
from triptych.prediction.labelling import label_folder

SIZE = (48, 80)
NAMES = ("floor", "wall", "sofa")
with_transformers = pytest.mark.skipif(
    find_spec("transformers") is None, reason="transformers is not installed: pip install -e '.[teachers]'"
)
"""It is no part of the extra `test`: metrics would import it in every process, where it is there."""
BLOCKS = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}


def write_segments(folder: Path, names: tuple[str, ...] = NAMES) -> Path:
    """A SegFormer that sees images as 32x32."""
    import transformers as hf

    torch.manual_seed(0)
    labels = dict(enumerate(names))
    config = hf.SegformerConfig(
        **BLOCKS, decoder_hidden_size=8, id2label=labels, label2id={name: i for i, name in labels.items()}
    )
    hf.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    hf.SegformerImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_glpn(folder: Path) -> Path:
    """A GLPN, whose depth is in metres up to 10; sides become multiples of 32."""
    import transformers as hf

    torch.manual_seed(0)
    config = hf.GLPNConfig(**BLOCKS, decoder_hidden_size=8, head_in_index=-1)
    hf.GLPNForDepthEstimation(config).save_pretrained(folder)
    hf.GLPNImageProcessor().save_pretrained(folder)
    return folder


def write_depth_anything(folder: Path, kind: str) -> Path:
    import transformers as hf

    torch.manual_seed(0)
    trunk = hf.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = hf.DepthAnythingConfig(
        backbone_config=trunk,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20,
    )
    model = hf.DepthAnythingForDepthEstimation(config)
    for parameter in model.parameters():  # as they begin, maps are flat
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    hf.DPTImageProcessor(size={"height": 28, "width": 42}, ensure_multiple_of=14).save_pretrained(folder)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    values = torch.rand(1, 3, 6, 10, generator=torch.Generator().manual_seed(1))
    values = torch.nn.functional.interpolate(values, size=SIZE, mode="bilinear")[0]
    path = tmp_path / "photo.png"
    Image.fromarray((255 * values).byte().permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.mark.slow
@with_transformers
def test_classes_are_those_of_the_pipeline(tmp_path: Path, photo: Path) -> None:
    import transformers as hf

    folder = write_segments(tmp_path / "model")
    found = transformers_models.open_model(str(folder), "cpu")(photo)["semseg"]
    assert len(np.unique(found)) > 1
    for each in hf.pipeline("image-segmentation", str(folder), device="cpu")(str(photo)):
        same = (np.asarray(each["mask"]) > 0) == (found == NAMES.index(each["label"]))
        assert same.mean() > 0.98  # the pipeline resizes photographs as bytes


@pytest.mark.slow
@with_transformers
@pytest.mark.parametrize("kind", ["glpn", "metric Depth Anything"])
def test_metres_are_those_of_the_pipeline(kind: str, tmp_path: Path, photo: Path) -> None:
    import transformers as hf

    path = tmp_path / "model"
    folder = write_glpn(path) if kind == "glpn" else write_depth_anything(path, "metric")
    predictor = transformers_models.open_model(str(folder), "cpu")
    expected = hf.pipeline("depth-estimation", str(folder), device="cpu")(str(photo))["predicted_depth"]
    found = torch.from_numpy(predictor(photo)["depth"])
    assert found.std() > 1e-4
    torch.testing.assert_close(found.reshape(SIZE), expected.reshape(SIZE), rtol=0.02, atol=0.02)
    assert predictor.tasks["depth"].scales_with_zoom == (kind == "glpn")  # the other brings all images to one size


@pytest.mark.slow
@with_transformers
def test_a_model_labels_a_folder_and_another_does_not_go_on(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "data" / "images" / "train").mkdir(parents=True)
    for name in ("a", "b"):
        Image.open(photo).save(tmp_path / "data" / "images" / "train" / f"{name}.png")
    (tmp_path / "data" / "dataset.toml").write_text(
        '[images]\nfiles = "images/{split}/{key}.png"\n'
        '[tasks.semseg]\nfiles = "semseg/{split}/{key}.png"\nclasses = ["floor", "wall", "couch"]\n'
        '[tasks.depth]\nfiles = "depth/{split}/{key}.png"\nunit = "mm"\n'
    )
    data, name = tmp_path / "data", f"hf:{write_segments(tmp_path / 'model')}"
    with pytest.raises(ValueError, match=r"1 of 3 classes .*: sofa; map each"):
        label_folder(data, name, ("semseg",), device="cpu")
    options = {"class_map": {"sofa": "couch"}, "min_confidence": 0.0, "device": "cpu"}
    assert label_folder(data, name, ("semseg",), **options).written == {"semseg": 2}
    expected = transformers_models.open_model(name.removeprefix("hf:"), "cpu")(photo)["semseg"]
    assert np.array_equal(Folder(data)[0].targets["semseg"].numpy(), expected)
    made = read_descriptor(data / "dataset.toml").pseudo["semseg"]
    assert (made.teacher, made.class_map, len(made.sha256)) == (name, {"sofa": "couch"}, 64)
    model = tmp_path / "model" / "preprocessor_config.json"
    model.write_text(model.read_text().replace('"height": 32', '"height": 64'))  # the same weights see other images
    with pytest.raises(ValueError, match="sha256 differ now"):
        label_folder(data, name, ("semseg",), **options)
    glpn = f"hf:{write_glpn(tmp_path / 'glpn')}"
    assert label_folder(data, glpn, ("depth",), min_confidence=0.0, device="cpu").written == {"depth": 2}


@pytest.mark.slow
@with_transformers
def test_models_that_cannot_teach_say_why(tmp_path: Path) -> None:
    import transformers as hf
    from safetensors.torch import load_file, save_file

    relative = write_depth_anything(tmp_path / "relative", "relative")
    with pytest.raises(ValueError, match="up to an unknown scale"):
        transformers_models.open_model(str(relative))
    classifier = tmp_path / "classifier"
    hf.SegformerForImageClassification(hf.SegformerConfig(**BLOCKS)).save_pretrained(classifier)
    with pytest.raises(ValueError, match="it is SegformerForImageClassification, and teachers are"):
        transformers_models.open_model(str(classifier))
    with pytest.raises(ValueError, match=rf"write --teacher hf:{classifier}"):
        label_folder(write_folder(tmp_path / "data"), str(classifier), ("semseg",))
    lacking = write_segments(tmp_path / "lacking")
    tensors = load_file(lacking / "model.safetensors")
    tensors.pop("decode_head.classifier.weight")
    save_file(tensors, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no weights for 1 tensors, such as decode_head.classifier.weight"):
        transformers_models.open_model(str(lacking))
    (lacking / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be a teacher: ") as caught:
        transformers_models.open_model(str(lacking))
    assert "\n" not in str(caught.value)


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dataset.toml").write_text('[images]\nfiles = "images/{key}.png"\n')
    return folder


def test_without_the_extra_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"hf:owner/name needs the extra 'teachers'.*\.\[teachers\]"):
        label_folder(write_folder(tmp_path / "data"), "hf:owner/name", ("semseg",))
