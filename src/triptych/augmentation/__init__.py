"""Joint augmentation of images, targets (labels, depth, normals) and intrinsics."""
