"""Joint augmentation of images, labels, depth, normals and intrinsics."""
