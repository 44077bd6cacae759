// Products of rows with the transpose of a matrix: out = x · Wᵀ + bias.
//
// A row's bits do not depend on the other rows of the batch. Every kernel here computes an output
// as the same sum: the inputs are cut into SLICES slices that depend on their number alone, within a
// slice tiles of 16 inputs are added one after another by the same instruction, and the slices are
// added from the first to the last. Which kernel runs is a matter of speed only.
//
// x (rows, stride) bf16, W (outs, stride) bf16, out (rows, outs) f32, bias (outs,) f32 or null.
// `stride` is the number of inputs, padded with zeros to a multiple of STEP.
#include "numbers.cuh"

constexpr int SLICES = 8;

// The steps that belong to a slice.
struct Slice {
    int first, end;
    __device__ __forceinline__ Slice(int index, int steps) {
        const int length = (steps + SLICES - 1) / SLICES;
        first = index * length < steps ? index * length : steps;
        end = first + length < steps ? first + length : steps;
    }
};

// --- few rows: bound by how fast W is read ---------------------------------------------------------

// A block makes 16 outputs of 8 · TILES rows, each warp one slice. W goes straight from memory to
// registers, every byte of it once.
template <int TILES>
__device__ __forceinline__ void narrow(const bf16* x, const bf16* w, const float* bias, float* out,
                                       int rows, int outs, int stride) {
    __shared__ float parts[SLICES][TILES][8][16];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int first_out = blockIdx.x * 16, first_row = blockIdx.y * 8 * TILES;
    // Rows past the end are read from the last one, and what comes of them is not stored.
    const bf16* upper = w + size_t(min(first_out + g, outs - 1)) * stride + t * 8;
    const bf16* lower = w + size_t(min(first_out + g + 8, outs - 1)) * stride + t * 8;
    const bf16* from[TILES];
    for (int tile = 0; tile < TILES; ++tile) {
        from[tile] = x + size_t(min(first_row + tile * 8 + g, rows - 1)) * stride + t * 8;
    }
    float sums[TILES][4] = {};
    const Slice slice(warp, stride / STEP);
#pragma unroll 4
    for (int step = slice.first; step < slice.end; ++step) {
        const uint4 a = stream_16(upper + step * STEP), b = stream_16(lower + step * STEP);
#pragma unroll
        for (int tile = 0; tile < TILES; ++tile) {
            multiply_step(sums[tile], a, b, load_16(from[tile] + step * STEP));
        }
    }
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
        float(*part)[16] = parts[warp][tile];
        part[2 * t][g] = sums[tile][0];
        part[2 * t + 1][g] = sums[tile][1];
        part[2 * t][g + 8] = sums[tile][2];
        part[2 * t + 1][g + 8] = sums[tile][3];
    }
    __syncthreads();
    const int steps = stride / STEP;
    for (int index = threadIdx.x; index < TILES * 128; index += blockDim.x) {
        const int tile = index / 128, row = index / 16 % 8, column = index % 16;
        float total = parts[0][tile][row][column];
        for (int part = 1; part < SLICES && Slice(part, steps).first < steps; ++part) {
            total = PLAIN_ADD(total, parts[part][tile][row][column]);
        }
        const int at_row = first_row + tile * 8 + row, at = first_out + column;
        if (at_row < rows && at < outs) {
            if (bias) total = PLAIN_ADD(total, bias[at]);
            out[size_t(at_row) * outs + at] = total;
        }
    }
}

// All kernels of a product are launched alike; only `product_wide` needs slices.
#define NARROW(name, tiles)                                                                        \
    KERNEL __launch_bounds__(256)                                                                  \
        name(const bf16* x, const bf16* w, const float* bias, float* out, float*, int rows,        \
             int outs, int stride) {                                                               \
        narrow<tiles>(x, w, bias, out, rows, outs, stride);                                        \
    }
NARROW(product_8, 1)
NARROW(product_16, 2)

// --- many rows: bound by arithmetic ----------------------------------------------------------------

constexpr int WIDE_OUTS = 128, WIDE_ROWS = 64, STAGES = 4;

// What a block multiplies next, copied ahead of time.
struct Stage {
    bf16 w[WIDE_OUTS * STEP];
    bf16 x[WIDE_ROWS * STEP];
};

// Where a thread copies from: two pieces of 16 bytes of W and one of x at each step.
struct Sources {
    const bf16* w[2];
    const bf16* x;
    __device__ __forceinline__ Sources(const bf16* all_x, const bf16* all_w, int rows, int outs,
                                       int stride) {
        // Rows past the end are read from the last one, and what comes of them is not stored.
        const int row = threadIdx.x / 4, piece = threadIdx.x % 4 * 8;
        const int first_out = blockIdx.y * WIDE_OUTS + row, first_row = blockIdx.x * WIDE_ROWS + row;
        w[0] = all_w + size_t(min(first_out, outs - 1)) * stride + piece;
        w[1] = all_w + size_t(min(first_out + WIDE_OUTS / 2, outs - 1)) * stride + piece;
        x = all_x + size_t(min(first_row, rows - 1)) * stride + piece;
    }
    __device__ __forceinline__ void fill(Stage& stage, int step) const {
        const int at = threadIdx.x * 8;
        copy_16(stage.w + at, w[0] + step * STEP);
        copy_16(stage.w + WIDE_OUTS / 2 * STEP + at, w[1] + step * STEP);
        copy_16(stage.x + at, x + step * STEP);
    }
};

// A block makes 128 outputs of 64 rows; a warp 32 of 32. Neighbouring blocks take other rows, so that they
// share W in the second cache. Over all slices if `slices` is null, else
// over slice blockIdx.z, into `slices` (SLICES, rows, outs).
KERNEL __launch_bounds__(256, 2)
    product_wide(const bf16* x, const bf16* w, const float* bias, float* out, float* slices, int rows,
                 int outs, int stride) {
    __shared__ __align__(16) Stage stages[STAGES];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int warp_out = warp % 4 * 32, warp_row = warp / 4 * 32;
    const int steps = stride / STEP;
    const Slice only(blockIdx.z, steps);
    const int first = slices ? only.first : 0, end = slices ? only.end : steps;
    const int length = (steps + SLICES - 1) / SLICES;
    const Sources sources(x, w, rows, outs, stride);
    float sums[2][4][4] = {}, totals[2][4][4];
    for (int ahead = 0; ahead < STAGES - 1; ++ahead) {
        if (first + ahead < end) sources.fill(stages[ahead], first + ahead);
        close_copies();
    }
#pragma unroll 1
    for (int step = first; step < end; ++step) {
        await_copies<STAGES - 2>();
        // Everyone's copies of this stage have come, and everyone is done with the one before it,
        // which is filled anew.
        __syncthreads();
        const int next = step + STAGES - 1;
        if (next < end) sources.fill(stages[(next - first) % STAGES], next);
        close_copies();
        const Stage& stage = stages[(step - first) % STAGES];
        uint4 upper[2], lower[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            upper[i] = load_16(stage.w + (warp_out + i * 16 + g) * STEP + t * 8);
            lower[i] = load_16(stage.w + (warp_out + i * 16 + g + 8) * STEP + t * 8);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const uint4 b = load_16(stage.x + (warp_row + j * 8 + g) * STEP + t * 8);
#pragma unroll
            for (int i = 0; i < 2; ++i) multiply_step(sums[i][j], upper[i], lower[i], b);
        }
        if ((step + 1) % length == 0 || step + 1 == end) {
            const bool is_first = step / length * length == first;
#pragma unroll
            for (int i = 0; i < 32; ++i) {
                float& sum = sums[i / 16][i / 4 % 4][i % 4];
                float& total = totals[i / 16][i / 4 % 4][i % 4];
                total = is_first ? sum : PLAIN_ADD(total, sum);
                sum = 0.0f;
            }
        }
    }
    if (first == end) return;
#pragma unroll
    for (int index = 0; index < 32; ++index) {
        const int i = index / 16, j = index / 4 % 4, k = index % 4;
        const int at = blockIdx.y * WIDE_OUTS + warp_out + i * 16 + g + k / 2 * 8;
        const int row = blockIdx.x * WIDE_ROWS + warp_row + j * 8 + 2 * t + k % 2;
        if (row >= rows || at >= outs) continue;
        const float total = totals[i][j][k];
        if (slices) {
            slices[(size_t(blockIdx.z) * rows + row) * outs + at] = total;
        } else {
            out[size_t(row) * outs + at] = bias ? PLAIN_ADD(total, bias[at]) : total;
        }
    }
}

// Adds the slices of `product_wide`. A thread makes one output.
KERNEL product_sum(const float* slices, const float* bias, float* out, int rows, int outs,
                   int stride) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (at >= outs) return;
    const int steps = stride / STEP;
    float total = slices[size_t(row) * outs + at];
    for (int part = 1; part < SLICES && Slice(part, steps).first < steps; ++part) {
        total = PLAIN_ADD(total, slices[(size_t(part) * rows + row) * outs + at]);
    }
    out[size_t(row) * outs + at] = bias ? PLAIN_ADD(total, bias[at]) : total;
}
