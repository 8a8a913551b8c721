"""Names that folders of maps have in use."""

FOLDERS = {
    "semseg": ("semseg", "segmentation", "seg", "semantic"),
    "human_parts": ("human_parts", "parts", "part"),
    "saliency": ("saliency", "sal"),
    "normals": ("normals", "normal"),
    "depth": ("depth",),
    "boundary": ("boundary", "boundaries", "edge", "edges"),
}
"""Names of a task's folder by task, ours first."""
