"""Compare fingerprints of datasets with those that older versions recorded."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

LATER_FACTS = ("image_files", "camera", "class_map")
"""Facts that were added to fingerprints after runs and prepared sets had recorded some."""


def as_noted(fingerprint: Any, noted: Any) -> Any:
    """Remove the later facts of a fingerprint that a `noted` one does not have: they are no difference.

    >>> as_noted({"images": 3, "camera": None}, {"images": 2}), as_noted({"camera": None}, {"camera": {"fov": 60}})
    ({'images': 3}, {'camera': None})
    """
    if not (isinstance(fingerprint, Mapping) and isinstance(noted, Mapping)):
        return fingerprint
    known = {name: value for name, value in fingerprint.items() if name in noted or name not in LATER_FACTS}
    return {name: as_noted(value, noted.get(name)) for name, value in known.items()}


def dotted_as_noted(facts: Mapping[str, Any], noted: Iterable[str]) -> dict[str, Any]:
    """As `as_noted`, for facts by dotted name; `noted` are the names of the recorded ones.

    >>> dotted_as_noted({"train.images": 3, "train.camera.fov": 60}, ["train.images", "train.name"])
    {'train.images': 3}
    """

    def is_noted(name: str) -> bool:
        later = re.match(rf"(.*\b({'|'.join(LATER_FACTS)}))(\.|$)", name)
        return later is None or any(each == later[1] or each.startswith(f"{later[1]}.") for each in noted)

    return {name: value for name, value in facts.items() if is_noted(name)}
