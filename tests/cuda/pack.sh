#!/usr/bin/env bash
# Builds what tests/cuda/on_gpu.sh needs, here where no GPU is, into one folder to take along:
#   tests/cuda/pack.sh [FOLDER]     (default .gpu; needs nvcc, see docs/gpu.md)
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-.gpu}
target=${CARGO_TARGET_DIR:-target}
cargo build --release --features cuda --bin steersman --example cuda_check
rm -rf "$out" && mkdir -p "$out"
strip -o "$out/steersman" "$target/release/steersman"
strip -o "$out/cuda_check" "$target/release/examples/cuda_check"
cp -r tests/cuda/shapes tests/cuda/on_gpu.sh tests/cuda/transformers_speed.py "$out/"
mkdir "$out/fixtures"
for name in llama llama_rope_llama3 mistral qwen2 qwen3 gemma gemma2 gemma3 phi3; do
    cp -r "tests/fixtures/$name" "$out/fixtures/"
done
cp -r models "$out/"
du -sh "$out"
