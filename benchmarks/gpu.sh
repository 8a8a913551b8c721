#!/usr/bin/env bash
# For a machine with a GPU that is lent for minutes. Both end by the clock and write a row as soon as it is known.
#
#   benchmarks/gpu.sh check                  # 3 minutes: kernels against the reference, tests, cost of the branch, large steps
#   benchmarks/gpu.sh study                  # 7 minutes: does geometry help, at 128 x 160, 12 processes side by side
#   benchmarks/gpu.sh study --results "$OUT" # rows elsewhere than results/
#
# Options: --seconds N, --device cuda|cpu, --results DIR, --out DIR (run folders). Nothing is installed and nothing is
# read from outside the repository; packages that the machine lacks may lie unpacked in .wheels/ (ignored by git): the
# tests of `check` need beartype, nothing here needs torchjd or tyro.
# TRIPTYCH_GPU_REHEARSAL=1 tries both on a CPU with tiny settings: such rows are no results.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src:$PWD/.wheels:$PWD/studies${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS=1 TRIPTYCH_CACHE="${TRIPTYCH_CACHE:-$PWD/runs/cache}"
part="${1:-}"
case "$part" in
check | study) shift ;;
*)
    echo "usage: benchmarks/gpu.sh check|study [--seconds N] [--device cuda|cpu] [--results DIR] [--out DIR]" >&2
    exit 2
    ;;
esac
exec "${PYTHON:-python3}" "benchmarks/gpu_$part.py" "$@"
