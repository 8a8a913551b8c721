"""Models of the library transformers as teachers of `triptych data label`: `hf:NAME` of its hub, or `hf:FOLDER`.

Semantic segmentation, and depth of models whose output is in metres. An image is brought to the model's own size by the
model's own processor, and maps back to the image's. Weights come from safetensors alone, and no code that lies beside
them is run.
"""

import importlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.extras import import_extra
from triptych.machine import choose_device, declare_missing_operators
from triptych.prediction import pretrained
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task, depth, semseg
from triptych.types import Output

PREFIX = "hf:"
FILES = ("*.json", "*.safetensors")
"""Files that are fetched from the hub."""
IN_METRES: dict[str, Callable[[Any], bool]] = {
    "depth_anything": lambda config: config.depth_estimation_type == "metric",
    "depth_pro": lambda config: True,
    "glpn": lambda config: True,
    "zoedepth": lambda config: True,
}
"""Whether a model predicts metres, by its type; all others predict depth or its inverse up to an unknown scale."""
Read = Callable[[Any, Any, tuple[int, int]], Tensor]
"""`read(processor, found, size)`: raw maps `(B, channels, *size)` of what a model found."""


class Teacher(nn.Module):
    """A model of transformers behind our interface: `forward(image)` takes `(B, 3, H, W)` in [0, 1] of any size."""

    settings: Tensor

    def __init__(self, network: nn.Module, processor: Any, task: Task, read: Read) -> None:
        super().__init__()
        self.network, self.processor, self.read = network, processor, read
        self.tasks = {task.name: task}
        said = f"{processor.to_json_string()} {list(task.classes)}"
        self.register_buffer("settings", torch.tensor(zlib.crc32(said.encode())))  # part of the teacher's hash

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Output:
        size = (image.shape[-2], image.shape[-1])
        found = self.network(pixel_values=prepare(self.processor, image))
        return Output({name: self.read(self.processor, found, size).float() for name in self.tasks}, [], [])


def prepare(processor: Any, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 rows columns"]:
    """Images in [0, 1] as the model takes them: resized and normalized by its processor."""
    options = {"do_rescale": False, "return_tensors": "pt", "input_data_format": "channels_first"}
    return processor(images=list(image), **options)["pixel_values"].to(image)


def read_classes(processor: Any, found: Any, size: tuple[int, int]) -> Tensor:
    """Scores of classes at the image's size."""
    return F.interpolate(found.logits, size=size, mode="bilinear", align_corners=False)


def read_metres(processor: Any, found: Any, size: tuple[int, int]) -> Tensor:
    """Metres at the image's size, by the processor's own way back."""
    sizes = [size] * len(found.predicted_depth)
    padded = {"source_sizes": sizes} if getattr(processor, "do_pad", False) else {}  # ZoeDepth's, cut off again
    maps = processor.post_process_depth_estimation(found, target_sizes=sizes, **padded)
    return torch.stack([each["predicted_depth"].reshape(size) for each in maps])[:, None]


def open_model(name: str, device: str = "auto") -> Predictor:
    """The model of a name on the hub, or of a folder, as a predictor of `semseg` or `depth`.

    Raises `ValueError` for models of anything else, depth that is not metres, and weights that are not whole.
    """
    declare_missing_operators()  # transformers imports torchvision
    transformers = import_extra("transformers", "teachers", f"{PREFIX}{name} needs")
    known = importlib.import_module("transformers.models.auto.modeling_auto")
    folder = pretrained.find_folder(name, files=FILES)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = (config.architectures or ["nothing"])[0]
        segments = kind in known.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES.values()
        ranges = kind in known.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES.values()
        if not segments and not ranges:
            raise ValueError(f"it is {kind}, and teachers are models for semantic segmentation or depth estimation")
        if ranges and not IN_METRES.get(config.model_type, lambda config: False)(config):
            raise ValueError(
                f"{kind} predicts depth up to an unknown scale, and labels are metres; take a metric model, such as a "
                "metric Depth Anything, ZoeDepth, GLPN or Depth Pro"
            )
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        auto = transformers.AutoModelForSemanticSegmentation if segments else transformers.AutoModelForDepthEstimation
        network, report = auto.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(f"{PREFIX}{name} cannot be a teacher: {reason}.") from error
    if lost := sorted(report["missing_keys"]):
        raise ValueError(
            f"{PREFIX}{name} has no weights for {len(lost)} tensors, such as {lost[0]}; they would be random."
        )
    if getattr(processor, "do_center_crop", False):
        processor.do_center_crop = False  # the whole image is labelled
    task = semseg([config.id2label[i] for i in range(config.num_labels)]) if segments else metric_depth(processor)
    teacher = Teacher(network.eval(), processor, task, read_classes if segments else read_metres)
    return Predictor(teacher, device=choose_device(device))


def metric_depth(processor: Any) -> Task:
    """The task depth; where every image is brought to one size, a larger one does not look nearer."""
    shapes = {prepare(processor, torch.zeros(1, 3, 192 * by, 256 * by)).shape for by in (1, 2)}
    return replace(depth(), scales_with_zoom=len(shapes) > 1)
