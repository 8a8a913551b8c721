"""Leaving the training machine: a run folder as one file that was proved equal to the network it came from.

`program.py` makes the program, `onnx_file.py` and `archives.py` write and open files, `proof.py` compares them with
torch on real images, `export_run` does all of it.
"""

from triptych.export.program import exported_program
from triptych.export.run import Export, export_run

__all__ = ["Export", "export_run", "exported_program"]
