// Attention over keys and values in blocks: new ones go to their places, then rows look back.
//
// A row's bits depend on its own sequence alone. Positions are cut into chunks of CHUNK tokens and
// partitions of WARPS chunks, wherever the row stands; a chunk is walked in blocks of 16 tokens, chunks
// are joined to partitions and partitions to the whole from the first to the last. Whether one block
// of threads walks all partitions or each has one of its own, and which rows are taken together, is a
// matter of speed only.
//
// D is the width of a head, padded with zeros. Keys are (blocks, kv_heads, 16 tokens, D) and values
// (blocks, kv_heads, D, 16 tokens) bf16, the tokens of a block of values in the order of `value_slot`.
#include "numbers.cuh"

constexpr int WARPS = 4, CHUNK = 64, PARTITION = WARPS * CHUNK;
// Rows of a tile: a few tokens of one sequence, with all heads that share keys.
constexpr int TILE = 16;
constexpr float LOG2_E = 1.4426950409f;
constexpr float NOTHING = -INFINITY;

// What tells one model's attention from another's; `Heads` in attention.rs has the same layout.
struct Heads {
    int heads, kv_heads, head_dim;
    int window; // tokens that a row sees, itself included; 0 is all
    float scale, softcap; // no cap where it is 0
};

// Where a token's value lies among those of its block: so that lane t of a quad finds tokens
// 2t, 2t + 1, 2t + 8, 2t + 9 side by side, which are its own in `multiply_tile`.
__device__ __forceinline__ int value_slot(int token) {
    return token % 8 / 2 * 4 + token / 8 * 2 + token % 2;
}

// --- new queries, keys and values ------------------------------------------------------------------

// Norms of queries and keys, and their rotation.
struct Turn {
    const float* query_norm; // (head_dim,); null is none
    const float* key_norm;
    float eps, offset;
    const float* cos; // (positions, half); null is no rotation
    const float* sin;
    int half;
};

// Number d of a head after norm and rotation (arXiv 2104.09864), in the half-split layout.
__device__ __forceinline__ float turned(const float* from, const float* norm, float scale,
                                        const Turn& turn, const float* cos, const float* sin, int d) {
    const auto normed = [&](int i) {
        return norm ? from[i] * scale * (norm[i] + turn.offset) : from[i];
    };
    if (!cos || d >= 2 * turn.half) return normed(d);
    if (d < turn.half) return normed(d) * cos[d] - normed(d + turn.half) * sin[d];
    const int low = d - turn.half;
    return normed(d) * cos[low] + normed(low) * sin[low];
}

// Queries to `queries` (rows, heads, D), keys and values to their blocks. A warp takes one head of one
// row. `qkv` is (rows, (heads + 2 kv_heads) · head_dim) f32; `tables` the block ids of all sequences
// and `table_of_row` where a row's begin.
template <int D>
__device__ __forceinline__ void place(const float* qkv, const uint32_t* positions,
                                      const uint32_t* table_of_row, const uint32_t* tables,
                                      const Heads& shape, const Turn& turn, bf16* queries, bf16* keys,
                                      bf16* values) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, row = blockIdx.x;
    const int all = shape.heads + 2 * shape.kv_heads;
    const int head = blockIdx.y * WARPS + warp;
    if (head >= all) return;
    const float* from = qkv + (size_t(row) * all + head) * shape.head_dim;
    const uint32_t position = positions[row];
    const bool is_query = head < shape.heads, is_value = head >= shape.heads + shape.kv_heads;
    const float* norm = is_value ? nullptr : is_query ? turn.query_norm : turn.key_norm;
    float scale = 0.0f;
    if (norm) {
        float squares = 0.0f;
        for (int d = lane; d < shape.head_dim; d += WARP) squares = fmaf(from[d], from[d], squares);
        scale = rsqrtf(warp_sum(squares) / shape.head_dim + turn.eps);
    }
    const bool turns = turn.cos && !is_value;
    const float* cos = turns ? turn.cos + size_t(position) * turn.half : nullptr;
    const float* sin = turns ? turn.sin + size_t(position) * turn.half : nullptr;
    bf16* to;
    int step = 1;
    if (is_query) {
        to = queries + (size_t(row) * shape.heads + head) * D;
    } else {
        const int kv_head = (head - shape.heads) % shape.kv_heads;
        const size_t block = tables[table_of_row[row] + position / BLOCK_TOKENS];
        const size_t start = (block * shape.kv_heads + kv_head) * BLOCK_TOKENS * D;
        const int token = position % BLOCK_TOKENS;
        to = is_value ? values + start + value_slot(token) : keys + start + token * D;
        step = is_value ? BLOCK_TOKENS : 1;
    }
    for (int d = lane; d < D; d += WARP) {
        const float number = d < shape.head_dim ? turned(from, norm, scale, turn, cos, sin, d) : 0.0f;
        to[d * step] = round_one(number);
    }
}

// --- looking back ----------------------------------------------------------------------------------

// A tile's rows: `tokens` neighbouring ones of a sequence; `Tile` in attention.rs has the same layout.
struct Tile {
    uint32_t row, tokens, position, table;
};

// What a row has seen so far: the largest score, in powers of two, and the sum of weights relative to
// it. The sum of weighted values lies beside.
struct Seen {
    float top, weight;
};

// By which factors two sums are made comparable. Nothing seen changes nothing.
__device__ __forceinline__ void balance(const Seen& a, const Seen& b, float& of_a, float& of_b) {
    const float top = fmaxf(a.top, b.top);
    of_a = a.weight == 0.0f ? 0.0f : exp2f(a.top - top);
    of_b = b.weight == 0.0f ? 0.0f : exp2f(b.top - top);
}

__device__ __forceinline__ float joined(float a, float of_a, float b, float of_b) {
    return fmaf(a, of_a, PLAIN_MUL(b, of_b));
}

__device__ __forceinline__ Seen joined(const Seen& a, float of_a, const Seen& b, float of_b) {
    return {fmaxf(a.top, b.top), joined(a.weight, of_a, b.weight, of_b)};
}

// What the rows of a tile have seen, shared by the warps of a block.
template <int D>
struct Total {
    float sums[TILE][D];
    Seen seen[TILE];
};

template <int D>
__device__ __forceinline__ void clear(Total<D>& total) {
    for (int i = threadIdx.x; i < TILE * D; i += blockDim.x) total.sums[i / D][i % D] = 0.0f;
    for (int i = threadIdx.x; i < TILE; i += blockDim.x) total.seen[i] = {NOTHING, 0.0f};
}

// total = total and `more`; all threads of the block.
template <int D>
__device__ __forceinline__ void join_totals(Total<D>& total, const Total<D>& more) {
    for (int i = threadIdx.x; i < TILE * D; i += blockDim.x) {
        float of_total, of_more;
        balance(total.seen[i / D], more.seen[i / D], of_total, of_more);
        float& sum = total.sums[i / D][i % D];
        sum = joined(sum, of_total, more.sums[i / D][i % D], of_more);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
        float of_total, of_more;
        balance(total.seen[i], more.seen[i], of_total, of_more);
        total.seen[i] = joined(total.seen[i], of_total, more.seen[i], of_more);
    }
    __syncthreads();
}

// What a warp works with: a lane has its numbers of rows g and g + 8.
template <int D>
struct Look {
    uint4 queries[2][D / STEP];
    float sums[D / 8][4];
    Seen seen[2];
    int first[2], last[2]; // positions that the rows see; none where last < first
};

// Keys and values of one block of tokens, from `position` on; what lies behind `end` is of nobody.
template <int D>
__device__ __forceinline__ void look_at_block(Look<D>& look, const bf16* keys, const bf16* values,
                                              int position, int end, const Heads& shape) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    float scores[2][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int step = 0; step < D / STEP; ++step) {
            const uint4 key = load_16(keys + (half * 8 + g) * D + step * STEP + t * 8);
            multiply_step(scores[half], look.queries[0][step], look.queries[1][step], key);
        }
    }
    float scale[2], weight[2] = {};
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        float top = NOTHING;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float& score = scores[i / 2][row * 2 + i % 2];
            score *= shape.scale;
            if (shape.softcap != 0.0f) score = shape.softcap * tanhf(score / shape.softcap);
            const int at = position + i / 2 * 8 + t * 2 + i % 2;
            score = at >= look.first[row] && at <= look.last[row] ? score * LOG2_E : NOTHING;
            top = fmaxf(top, score);
        }
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        top = fmaxf(top, look.seen[row].top);
        // Where nothing is seen yet there is nothing to scale, and no score is above it.
        const bool sees = top > NOTHING;
        scale[row] = sees ? exp2f(look.seen[row].top - top) : 1.0f;
        look.seen[row].top = top;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float& score = scores[i / 2][row * 2 + i % 2];
            score = sees ? exp2f(score - top) : 0.0f;
            weight[row] += score;
        }
        look.seen[row].weight = fmaf(look.seen[row].weight, scale[row], weight[row]);
    }
    const uint32_t weights[4] = {round_pair(scores[0][0], scores[0][1]),
                                 round_pair(scores[0][2], scores[0][3]),
                                 round_pair(scores[1][0], scores[1][1]),
                                 round_pair(scores[1][2], scores[1][3])};
    // A place that was never written, or by a sequence that is over, may hold anything: 0 · NaN.
    const auto is_ours = [&](int token) { return position + token < end ? 0xffffu : 0u; };
    const uint32_t ours[2] = {is_ours(2 * t) | is_ours(2 * t + 1) << 16,
                              is_ours(2 * t + 8) | is_ours(2 * t + 9) << 16};
#pragma unroll
    for (int column = 0; column < D / 8; ++column) {
        const uint2 value =
            *reinterpret_cast<const uint2*>(values + (column * 8 + g) * BLOCK_TOKENS + t * 4);
        float(&sums)[4] = look.sums[column];
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[i] *= scale[i / 2];
        multiply_tile(sums, weights, value.x & ours[0], value.y & ours[1]);
    }
}

// Adds what a warp saw to the total of its block's partition, which no other warp touches meanwhile.
template <int D>
__device__ __forceinline__ void add_look(Total<D>& total, const Look<D>& look) {
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        // A lane has the weights of its own columns only.
        Seen seen = look.seen[row];
        seen.weight += __shfl_xor_sync(0xffffffffu, seen.weight, 1);
        seen.weight += __shfl_xor_sync(0xffffffffu, seen.weight, 2);
        const int at = g + row * 8;
        float of_total, of_look;
        balance(total.seen[at], seen, of_total, of_look);
#pragma unroll
        for (int column = 0; column < D / 8; ++column) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float& sum = total.sums[at][column * 8 + 2 * t + i];
                sum = joined(sum, of_total, look.sums[column][row * 2 + i], of_look);
            }
        }
        __syncwarp();
        if (t == 0) total.seen[at] = joined(total.seen[at], of_total, seen, of_look);
    }
}

// One tile of one key head. Over all partitions if `partials` is null, and `out` (rows, out_stride)
// bf16 is written; else over the blockIdx.z-th of those that the tile sees, into `partials`.
template <int D>
__device__ __forceinline__ void attend(const bf16* queries, const Tile* tiles, const uint32_t* tables,
                                       const Heads& shape, const bf16* keys, const bf16* values,
                                       bf16* out, int out_stride, Total<D>* partials) {
    LAUNCH_SHARED(shared);
    Total<D>& whole = *reinterpret_cast<Total<D>*>(shared);
    Total<D>& partition = *(&whole + 1);
    const Tile tile = tiles[blockIdx.x];
    const int group = shape.heads / shape.kv_heads, taken = min(group, TILE);
    const int turns = (group + TILE - 1) / TILE; // tiles that one token's heads need
    const int kv_head = blockIdx.y / turns, first_head = kv_head * group + blockIdx.y % turns * TILE;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int end = tile.position + tile.tokens;
    const auto first_seen = [&](int position) {
        return shape.window > 0 ? max(0, position + 1 - shape.window) : 0;
    };
    Look<D> look;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const int token = (g + row * 8) / taken, head = first_head + (g + row * 8) % taken;
        const bool exists = token < int(tile.tokens) && head < (kv_head + 1) * group;
        look.last[row] = exists ? int(tile.position) + token : -1;
        look.first[row] = exists ? first_seen(look.last[row]) : 0;
        const bf16* from = queries + (size_t(tile.row + (exists ? token : 0)) * shape.heads +
                                      (exists ? head : first_head)) * D;
#pragma unroll
        for (int step = 0; step < D / STEP; ++step) {
            look.queries[row][step] = load_16(from + step * STEP + t * 8);
        }
    }
    const int lowest = first_seen(tile.position) / PARTITION, above = (end - 1) / PARTITION + 1;
    const int from = partials ? lowest + int(blockIdx.z) : lowest;
    const int until = partials ? min(from + 1, above) : above;
    if (from >= until) return;
    clear(whole);
    for (int index = from; index < until; ++index) {
        clear(partition);
#pragma unroll
        for (int i = 0; i < D / 2; ++i) look.sums[i / 4][i % 4] = 0.0f;
        look.seen[0] = look.seen[1] = {NOTHING, 0.0f};
        const int start = index * PARTITION + warp * CHUNK, stop = min(start + CHUNK, end);
        const int seen_from = max(start, first_seen(tile.position) / BLOCK_TOKENS * BLOCK_TOKENS);
        for (int position = seen_from; position < stop; position += BLOCK_TOKENS) {
            const size_t block = tables[tile.table + position / BLOCK_TOKENS];
            const size_t at = (block * shape.kv_heads + kv_head) * BLOCK_TOKENS * D;
            look_at_block(look, keys + at, values + at, position, end, shape);
        }
        for (int turn = 0; turn < WARPS; ++turn) {
            __syncthreads();
            if (turn == warp) add_look(partition, look);
        }
        __syncthreads();
        if (!partials) join_totals(whole, partition);
    }
    if (partials) {
        const size_t at = (size_t(blockIdx.z) * gridDim.x + blockIdx.x) * gridDim.y + blockIdx.y;
        Total<D>& to = partials[at];
        for (int i = threadIdx.x; i < TILE * D; i += blockDim.x) {
            to.sums[i / D][i % D] = partition.sums[i / D][i % D];
        }
        for (int i = threadIdx.x; i < TILE; i += blockDim.x) to.seen[i] = partition.seen[i];
    } else {
        store(whole, tile, shape, first_head, out, out_stride);
    }
}

// The weighted means of a tile's rows go to their places.
template <int D>
__device__ __forceinline__ void store(const Total<D>& whole, const Tile& tile, const Heads& shape,
                                      int first_head, bf16* out, int out_stride) {
    const int group = shape.heads / shape.kv_heads, taken = min(group, TILE);
    const int heads_end = (first_head / group + 1) * group;
    for (int i = threadIdx.x; i < TILE * shape.head_dim; i += blockDim.x) {
        const int row = i / shape.head_dim, d = i % shape.head_dim;
        const int token = row / taken, head = first_head + row % taken;
        if (token >= int(tile.tokens) || head >= heads_end) continue;
        const float mean = whole.sums[row][d] / whole.seen[row].weight;
        out[size_t(tile.row + token) * out_stride + head * shape.head_dim + d] = round_one(mean);
    }
}

// Joins the partitions that `attend` left in `partials`: `parts` of them at most.
template <int D>
__device__ __forceinline__ void join_partitions(const Total<D>* partials, const Tile* tiles, int parts,
                                                const Heads& shape, bf16* out, int out_stride) {
    LAUNCH_SHARED(shared);
    Total<D>& whole = *reinterpret_cast<Total<D>*>(shared);
    const Tile tile = tiles[blockIdx.x];
    const int group = shape.heads / shape.kv_heads, turns = (group + TILE - 1) / TILE;
    const int first_head = blockIdx.y / turns * group + blockIdx.y % turns * TILE;
    const int end = tile.position + tile.tokens;
    const int oldest = shape.window > 0 ? max(0, int(tile.position) + 1 - shape.window) : 0;
    const int own = min(parts, (end - 1) / PARTITION + 1 - oldest / PARTITION);
    clear(whole);
    __syncthreads();
    for (int part = 0; part < own; ++part) {
        const size_t at = (size_t(part) * gridDim.x + blockIdx.x) * gridDim.y + blockIdx.y;
        join_totals(whole, partials[at]);
    }
    store(whole, tile, shape, first_head, out, out_stride);
}

#define ATTENTION(D)                                                                                \
    KERNEL place_##D(const float* qkv, const uint32_t* positions, const uint32_t* table_of_row,     \
                     const uint32_t* tables, Heads shape, Turn turn, bf16* queries, bf16* keys,     \
                     bf16* values) {                                                                \
        place<D>(qkv, positions, table_of_row, tables, shape, turn, queries, keys, values);         \
    }                                                                                               \
    KERNEL __launch_bounds__(WARPS * WARP)                                                          \
        attend_##D(const bf16* queries, const Tile* tiles, const uint32_t* tables, Heads shape,     \
                   const bf16* keys, const bf16* values, bf16* out, int out_stride,                 \
                   Total<D>* partials) {                                                            \
        attend<D>(queries, tiles, tables, shape, keys, values, out, out_stride, partials);          \
    }                                                                                               \
    KERNEL join_partitions_##D(const Total<D>* partials, const Tile* tiles, int parts, Heads shape, \
                               bf16* out, int out_stride) {                                         \
        join_partitions<D>(partials, tiles, parts, shape, out, out_stride);                         \
    }
ATTENTION(32)
ATTENTION(64)
ATTENTION(96)
ATTENTION(128)
ATTENTION(256)
