"""What an export measured, in a few lines."""

import torch

from triptych.export.run import Export


def summarize(export: Export) -> str:
    """One line per task, then sizes and latencies."""
    sizes = ", ".join(f"{height} x {width}" for height, width in export.proof.sizes)
    verb = {"fp32": "agrees with torch"}.get(export.precision, f"{export.precision}, compared with torch in float32")
    rows = [f"{export.path}: {verb} on {len(export.proof.images)} images at {sizes}"]
    for name, proof in export.proof.tasks.items():
        score = ""
        if proof.primary in proof.scores:
            file, network = proof.scores[proof.primary]
            score = f"; {proof.primary} {file:.4g}, torch {network:.4g} ({100 * proof.loss:.2f} % worse)"
        rows.append(f"  {name:<12} largest difference {proof.difference:.1e}{score}")
    rows.append(
        f"size {export.bytes / 1e6:.1f} MB (weights {export.weights_bytes / 1e6:.1f} MB); an image of "
        f"{export.proof.sizes[0][0]} x {export.proof.sizes[0][1]} takes {export.seconds * 1e3:.1f} ms, torch "
        f"{export.torch_seconds * 1e3:.1f} ms ({torch.get_num_threads()} threads)"
    )
    rows.append(f"what it holds: {export.description}")
    return "\n".join(rows)
