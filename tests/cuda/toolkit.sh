#!/usr/bin/env bash
# CUDA 13.0's compiler without a GPU, a driver or root, from the wheels that NVIDIA puts on PyPI (100 MB):
#   export NVCC=$(tests/cuda/toolkit.sh [FOLDER])     (default ~/.cache/steersman-nvcc)
#
# It is all that `cargo build --features cuda` needs: the program opens the driver when it runs, and no
# other library of CUDA's.
set -euo pipefail
folder=${1:-$HOME/.cache/steersman-nvcc}
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96)
wanted=$(printf '%s\n' "${wheels[@]}")
if [ "$(cat "$folder/wheels" 2> /dev/null)" != "$wanted" ]; then
    new=$(mktemp -d "${TMPDIR:-/tmp}/nvcc.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$new" "${wheels[@]}" >&2
    for wheel in "$new"/*.whl; do python3 -m zipfile -e "$wheel" "$new/unpacked"; done
    toolkit=$new/unpacked/nvidia/cu13
    # zip files made by pip have no modes
    chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*
    printf '%s\n' "$wanted" > "$toolkit/wheels"
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    mv "$toolkit" "$folder"
fi
echo "$folder/bin/nvcc"
