#!/usr/bin/env bash
# Everything that a machine with a GPU is needed for, in one command of less than ten minutes:
#   FOLDER/on_gpu.sh RESULTS        (FOLDER is what pack.sh made; the device is the first one)
#
# Each part has a time of its own and writes a file of its own; a part that fails does not keep the next
# one from running. Ends with an error if the self-test or the server failed.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# kernels for architectures without machine code in the binary are compiled once
export CUDA_CACHE_MAXSIZE=2147483648

part() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 began=$SECONDS code=0
    shift 2
    timeout "$seconds" "$@" > "$results/$name.txt" 2> "$results/$name.err" || code=$?
    printf '%-14s %4ds  exit %d\n' "$name" $((SECONDS - began)) $code | tee -a "$results/parts.txt"
    return $code
}

# The server on the device, and the same questions to it and to the processor.
server() {
    cd "$here" || return
    local weights=(--weights brevity=1,detail=0 --temperature 0 --max-tokens 24) cpu cuda
    cpu=$(./steersman generate 'What is the capital of Kenya?' "${weights[@]}" --device cpu) || return
    cuda=$(./steersman generate 'What is the capital of Kenya?' "${weights[@]}" --device cuda) || return
    printf 'cpu:  %s\ncuda: %s\n' "$cpu" "$cuda"
    local data
    data=$(mktemp -d)
    ./steersman serve --device cuda --addr 127.0.0.1:8091 --data-dir "$data" --max-sequences 256 \
        --max-batch-tokens 2048 --fine-tuning off > "$data/out" 2> "$data/log" &
    local pid=$!
    for _ in $(seq 100); do
        grep -q ready "$data/out" && break
        sleep 0.2
    done
    ./steersman bench --url http://127.0.0.1:8091 --concurrency 1,8,64,256 --weights mixed --out "$data/bench.json"
    local code=$?
    kill -TERM $pid && wait $pid
    cat "$data/log" >&2
    return $code
}

if [ "${1:-}" = --server ]; then
    server
    exit
fi
results=${1:?usage: on_gpu.sh RESULTS}
mkdir -p "$results"
failed=0
part device 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.mem,compute_cap --format=csv
part selftest 60 "$here/cuda_check" selftest "$here/fixtures" || failed=1
part server 60 "$here/on_gpu.sh" --server || failed=1
for shape in qwen2.5-0.5b qwen2.5-1.5b llama-3.1-8b; do
    part "speed-$shape" 65 "$here/cuda_check" speed "$here/shapes/$shape"
    part "torch-$shape" 65 python3 "$here/transformers_speed.py" "$here/shapes/$shape"
done
cat "$results"/selftest.txt "$results"/speed-*.txt "$results"/torch-*.txt
exit $failed
