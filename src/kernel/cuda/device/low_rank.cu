// Low-rank changes of products (arXiv 2106.09685), each row through its own adapter:
// out += scale · (x · downᵀ) · up. Adapters are f32.
#include "numbers.cuh"

// One adapter's change of one linear layer; `LowRankEntry` in low_rank.rs has the same layout. Where
// it changes nothing its rank is 0.
struct LowRank {
    const float* down; // (rank, inputs)
    const float* up;   // (rank, outputs)
    uint32_t rank;
    float scale;
};

// Adapters are told by the place of their first entry, one entry for each layer and slot; a row without
// one has null. `entry` is the place of the first of the `gridDim.y` slots that are changed at once.
//
// low[row][slot · most_rank + r] = scale · x[row] · down[r]. A block takes one row and slot, a warp
// every 8th r. x is (rows, stride).
KERNEL low_rank_down(const LowRank* const* adapters, int entry, const bf16* x, float* low,
                     int inputs, int stride, int most_rank, int low_stride) {
    const LowRank* adapter = adapters[blockIdx.x];
    if (!adapter) return;
    const LowRank change = adapter[entry + blockIdx.y];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const bf16* row = x + size_t(blockIdx.x) * stride;
    float* to = low + size_t(blockIdx.x) * low_stride + blockIdx.y * most_rank;
    for (int r = warp; r < int(change.rank); r += warps) {
        const float* down = change.down + size_t(r) * inputs;
        float sum = 0.0f;
        for (int i = lane; i < inputs; i += WARP) sum = fmaf(widen(row[i]), down[i], sum);
        sum = warp_sum(sum);
        if (lane == 0) to[r] = sum * change.scale;
    }
}

// Where the outputs of the slots lie that are changed at once: first column of each, and where the
// last one ends.
struct Columns {
    int starts[4];
};

// out[row][column + i] += low[row] · up[.., i]. A thread takes one output of one row and slot.
KERNEL low_rank_up(const LowRank* const* adapters, int entry, const float* low, float* out,
                   Columns columns, int most_rank, int low_stride, int out_stride) {
    const LowRank* adapter = adapters[blockIdx.y];
    if (!adapter) return;
    const LowRank change = adapter[entry + blockIdx.z];
    const int first = columns.starts[blockIdx.z], outs = columns.starts[blockIdx.z + 1] - first;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= outs || change.rank == 0) return;
    const float* row = low + size_t(blockIdx.y) * low_stride + blockIdx.z * most_rank;
    float sum = 0.0f;
    for (int r = 0; r < int(change.rank); ++r) sum = fmaf(row[r], change.up[size_t(r) * outs + i], sum);
    out[size_t(blockIdx.y) * out_stride + first + i] += sum;
}
