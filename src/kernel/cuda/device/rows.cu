// Whole rows: embeddings, the residual stream with its norms, gates, and the bound of logits.
//
// The residual stream is f32. What goes into products is bf16, (rows, stride), padded with zeros that
// nobody writes to. A block works on one row, so that a row's sums have one order.
#include "numbers.cuh"

constexpr int ROW_THREADS = 256;

// A root-mean-square norm: x / rms(x) · (weight + offset) (arXiv 1910.07467).
struct Norm {
    const float* weight;
    float eps, offset;
    __device__ __forceinline__ float inverse_rms(float squares, int width) const {
        return rsqrtf(squares / width + eps);
    }
    __device__ __forceinline__ float at(int i, float x, float scale) const {
        return x * scale * (weight[i] + offset);
    }
};

// to = norm(x) of one row, which the calling block has just written, or which nobody writes to.
__device__ __forceinline__ void norm_row(const float* x, const Norm& norm, int width, bf16* to,
                                         float* room) {
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) squares = fmaf(x[i], x[i], squares);
    const float scale = norm.inverse_rms(block_sum(squares, room), width);
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) to[i] = round_one(norm.at(i, x[i], scale));
}

// x[row] = factor · table[token] and normed[row] = norm(x[row]); table is (vocabulary, stride).
KERNEL embed(const uint32_t* tokens, const bf16* table, float factor, float* x, const float* weight,
             float eps, float offset, bf16* normed, int width, int stride) {
    __shared__ float room[WARP];
    const bf16* from = table + size_t(tokens[blockIdx.x]) * stride;
    float* row = x + size_t(blockIdx.x) * width;
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) row[i] = widen(from[i]) * factor;
    // A thread reads what it wrote itself.
    norm_row(row, Norm{weight, eps, offset}, width, normed + size_t(blockIdx.x) * stride, room);
}

// x[row] += after(branch[row]) and normed[i] = norm(x[row]) for the i-th picked row; `after` is no
// norm where its weight is null, and all rows are picked where `picked` is.
KERNEL join(float* x, const float* branch, const uint32_t* picked, const float* after_weight,
            const float* weight, float eps, float offset, bf16* normed, int width, int stride) {
    __shared__ float room[WARP];
    const size_t row = picked ? picked[blockIdx.x] : blockIdx.x;
    float* to = x + row * width;
    const float* add = branch + row * width;
    const Norm after{after_weight, eps, offset};
    float scale = 0.0f;
    if (after_weight) {
        float squares = 0.0f;
        for (int i = threadIdx.x; i < width; i += ROW_THREADS) {
            squares = fmaf(add[i], add[i], squares);
        }
        scale = after.inverse_rms(block_sum(squares, room), width);
    }
    for (int i = threadIdx.x; i < width; i += ROW_THREADS) {
        to[i] += after_weight ? after.at(i, add[i], scale) : add[i];
    }
    norm_row(to, Norm{weight, eps, offset}, width, normed + size_t(blockIdx.x) * stride, room);
}

// Functions of the gate; the numbers are `Activation`'s.
constexpr int SILU = 0, GELU_TANH = 1;

__device__ __forceinline__ float activate(int kind, float x) {
    if (kind == SILU) return x / (1.0f + expf(-x));
    if (kind == GELU_TANH) {
        const float inner = 0.7978845608f * (x + 0.044715f * x * x * x); // sqrt(2 / pi)
        return 0.5f * x * (1.0f + tanhf(inner));
    }
    return 0.5f * x * (1.0f + erff(x * 0.7071067812f)); // by the error function
}

// out = activation(gate) · up (arXiv 2002.05202); both is (rows, 2 · width), the gates first.
KERNEL gate(const float* both, int kind, bf16* out, int width, int stride) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) return;
    const float* row = both + size_t(blockIdx.y) * 2 * width;
    out[size_t(blockIdx.y) * stride + i] = round_one(activate(kind, row[i]) * row[width + i]);
}

// Every number becomes bound · tanh(number / bound) (arXiv 2408.00118, 2.3).
KERNEL cap(float* numbers, float bound, size_t count) {
    const size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) numbers[i] = bound * tanhf(numbers[i] / bound);
}
