"""Rays, triplanes, volume rendering and view synthesis, as pure functions of tensors."""
