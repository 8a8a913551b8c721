"""Leaving the training machine: a run folder as one file that was proved equal to the network it came from.

`program.py` makes the program and its archives, `onnx_file.py` writes and opens ONNX, `proof.py` compares files with
torch on real images, `run.py` does all of it, and `profile.py` measures what a pass costs.
"""

from triptych.export.program import exported_program
from triptych.export.run import Export, export_run

__all__ = ["Export", "export_run", "exported_program"]
