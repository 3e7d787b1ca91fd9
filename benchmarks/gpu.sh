#!/usr/bin/env bash
# Everything that is to be measured on a GPU, in one command; what it prints goes to the folder OUT (gpu_results).
# TOY=1 runs all of it on small models and images, on a CPU too.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-gpu_results}
PYTHON=${PYTHON:-python}
TOY=${TOY:+--toy}
mkdir -p "$OUT"

"$PYTHON" -c 'import torch; print(torch.__version__, torch.cuda.is_available())' | tee "$OUT/machine.txt"
if command -v nvidia-smi > /dev/null; then nvidia-smi | tee -a "$OUT/machine.txt"; fi
# Tests that need a GPU are skipped without one.
if [ -z "$TOY" ]; then "$PYTHON" -m pytest -q -m "not slow" -k "cuda or gpu" tests 2>&1 | tee "$OUT/tests.txt"; fi
"$PYTHON" benchmarks/bench_gpu.py ${TOY:---compile} --out "$OUT/figures.json" | tee "$OUT/table.md"
