"""The boundary score: counts against the recorded ones, speed, memory, and two detectors on BSDS500.

python benchmarks/boundary.py counts     # every threshold, protocol and maxDist of the four golden images
python benchmarks/boundary.py speed      # ms per image and threshold of one core, against scikit-image and SciPy
python benchmarks/boundary.py set        # 654 images of 425x560 with 101 thresholds, two threads; memory
python benchmarks/boundary.py bsds       # the 200 test images of BSDS500, two plain detectors
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from detectors import DETECTORS, gradient_magnitude, read_luminance, write_maps
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree
from skimage.morphology import thin

from triptych.evaluation.offline import score
from triptych.metrics.boundary import BoundaryMetric, count_boundaries
from triptych.metrics.boundary_protocols import BoundaryCounts, boundary_protocol, prepare_target

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = SHARED / "golden" / "boundary"
BSDS = SHARED / "data" / "bsds500_sod"
COMBINATIONS = [("bsds", "0.0075"), ("bsds", "0.011"), ("seism", "0.0075"), ("seism", "0.011")]


def golden_maps(protocol: str, image: str) -> tuple[np.ndarray, np.ndarray]:
    """8-bit prediction and the annotators' boundaries."""
    prediction = np.array(Image.open(GOLDEN / f"{image}_prediction.png"))
    if protocol == "bsds":
        stacked = np.array(Image.open(GOLDEN / f"{image}_boundaries.png"))
        return prediction, stacked.reshape(-1, *prediction.shape)
    return prediction, prepare_target(np.array(Image.open(GOLDEN / f"{image}_segmentation1.png")), "outline")[None]


def check_counts() -> None:
    """Print how many thresholds differ, and how far F is from the randomised reference."""
    recorded = json.loads((GOLDEN / "boundary.json").read_text())["protocols"]
    print("protocol  maxDist  thresholds  card differs  sumP differs      union    dF ODS")
    for protocol, max_dist in COMBINATIONS:
        ours, reference = (BoundaryMetric(protocol, max_dist=float(max_dist)) for _ in range(2))
        wrong, thresholds, union = np.zeros(2, int), 0, np.zeros(2)
        for image, values in recorded[protocol][max_dist]["images"].items():
            counts = count_boundaries(
                *golden_maps(protocol, image), protocol=boundary_protocol(protocol), max_dist=float(max_dist)
            )
            randomised = np.atleast_2d(values["k"]).sum(axis=0)
            explained = np.array(values.get("cntP", randomised))
            wrong += (counts.matched_target != np.atleast_2d(values["card"]).sum(axis=0)).sum(), 0
            wrong += 0, (counts.prediction != values["sumP"]).sum()
            thresholds += len(explained)
            union += counts.matched_prediction.sum(), explained.sum()
            ours.add_counts(counts, 0)
            total = np.full(len(explained), np.sum(values["sumR"]))
            theirs = BoundaryCounts(*(np.asarray(v, float) for v in (randomised, total, explained, values["sumP"])))
            reference.add_counts(theirs, 0)
        difference = ours.best().f - reference.best().f
        shift = f"{100 * (union[0] / union[1] - 1):+.3f} %"
        print(f"{protocol:9}{max_dist:>8}{thresholds:12}{wrong[0]:14}{wrong[1]:14}{shift:>11}{difference:+10.5f}")


def plain_counts(prediction: np.ndarray, target: np.ndarray, thresholds: range, radius: float) -> list[int]:
    """The baseline: scikit-image's thinning and SciPy's Hopcroft-Karp, threshold by threshold."""
    values = boundary_protocol("seism").rank(prediction)
    goal = np.argwhere(target)
    sizes = []
    for k in thresholds:
        pixels = np.argwhere(thin(values > k))
        pairs = cKDTree(pixels).query_ball_point(goal, radius) if len(pixels) else []
        rows = np.repeat(np.arange(len(goal)), [len(found) for found in pairs])
        columns = np.concatenate([np.asarray(found, int) for found in pairs]) if len(rows) else rows
        graph = csr_matrix((np.ones(len(rows), bool), (rows, columns)), (len(goal), max(len(pixels), 1)))
        sizes.append(int((maximum_bipartite_matching(graph) >= 0).sum()))
    return sizes


def measure_speed(repeats: int = 5) -> None:
    """Processor time of one thread, after compilation; the smallest of some repeats."""
    sampled = range(5, 101, 19)
    print("image    protocol  maxDist  annotators  ms per image and threshold  baseline   ratio")
    for protocol, max_dist in COMBINATIONS:
        for image in ("2018", "36046", "71076", "103006"):
            prediction, targets = golden_maps(protocol, image)
            chosen, seconds = boundary_protocol(protocol), []
            for _ in range(repeats + 1):
                started = time.thread_time()
                counts = count_boundaries(prediction, targets, protocol=chosen, max_dist=float(max_dist))
                seconds.append(time.thread_time() - started)
            ours = 1000 * min(seconds[1:]) / len(chosen.thresholds)
            line = f"{image:9}{protocol:9}{max_dist:>8}{len(targets):12}{ours:28.3f}"
            if protocol == "seism":
                radius = float(max_dist) * float(np.hypot(*prediction.shape))
                started = time.thread_time()
                plain = plain_counts(prediction, targets[0], sampled, radius)
                baseline = 1000 * (time.thread_time() - started) / len(sampled)
                assert plain == counts.matched_target[list(sampled)].tolist()
                line += f"{baseline:10.1f}{baseline / ours:8.0f}"
            print(line)


def fit(values: np.ndarray, turn: int, height: int = 425, width: int = 560) -> np.ndarray:
    """Mirror-tile a map to a size; `turn` flips it so that images taken several times differ."""
    values = values if values.shape[0] <= values.shape[1] else values.T
    values = values[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
    return np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1])), mode="symmetric")


def measure_set(images: int = 654) -> None:
    """BSDS500 test images as a stand-in for NYUv2's 654: mirror-tiled to 425x560, some several times, flipped."""
    paths = sorted((BSDS / "images" / "test").glob("*.jpg"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in ("predictions", "targets", "few"):
            (folder / side).mkdir()
        for i in range(images):
            path = paths[i % len(paths)]
            luminance = read_luminance(path)
            level = (255 * gradient_magnitude(luminance)).astype(np.uint8)
            regions = np.array(Image.open(BSDS / "segmentations" / "test" / f"{path.stem}.png"))[: level.shape[0]]
            Image.fromarray(fit(level, i // len(paths))).save(folder / "predictions" / f"{i:04d}.png")
            Image.fromarray(fit(regions, i // len(paths))).save(folder / "targets" / f"{i:04d}.png")
        for i in range(40):
            (folder / "few" / f"{i:04d}.png").symlink_to(folder / "predictions" / f"{i:04d}.png")
        for predictions in ("few", "predictions"):
            wall, processor = time.perf_counter(), time.process_time()
            result = score(
                folder / predictions, folder / "targets", protocol="seism", dataset="nyuv2", partial=True, threads=2,
                quiet=True,
            )  # fmt: skip
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            task = result.tasks["boundary"]
            print(
                f"{len(task.keys):4} images of 425x560, 101 thresholds, maxDist 0.011, two threads: {wall:.1f} s wall, "
                f"{processor:.1f} s of processor time, PNG decoding included; peak memory {peak:.0f} MiB"
            )


def score_detectors(out: Path) -> None:
    """Score both detectors on the 200 test images under `bsds`."""
    images = sorted((BSDS / "images" / "test").glob("*.jpg"))
    for name in DETECTORS:
        write_maps(name, images, out / name)
        score(
            out / name, BSDS / "segmentations" / "test", protocol="bsds", dataset="bsds500", ground_truth="outline",
            ci=1000, out=out / f"{name}.json", html=out / f"{name}.html", overwrite=True,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["counts", "speed", "set", "bsds"])
    parser.add_argument("--out", type=Path, default=Path("runs/bsds"), help="folder for the maps and scores of `bsds`")
    arguments = parser.parse_args()
    {
        "counts": check_counts,
        "speed": measure_speed,
        "set": measure_set,
        "bsds": lambda: score_detectors(arguments.out),
    }[arguments.what]()


if __name__ == "__main__":
    main()
