"""Leaving the training machine: a run folder as one file that was proved equal to the network it came from.

`program.py` makes the program, one file per target writes and opens it (`onnx_file.py`, `archive.py`,
`aotinductor.py`), `proof.py` compares it with torch on real images, `export_run` does all of it.
"""

from triptych.export.program import exported_program
from triptych.export.run import Export, export_run

__all__ = ["Export", "export_run", "exported_program"]
