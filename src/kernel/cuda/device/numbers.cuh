// Numbers and warps: what every kernel of this folder is built from.
//
// The same sources are compiled by nvcc for a device and by a C++ compiler for the emulated device
// of tests/cuda, which brings its own `cuda_emulator.h`. Only this file knows of the difference.
#pragma once

#ifdef __CUDACC__
#include <cstdint>
#define KERNEL extern "C" __global__ void
// Shared memory of the size that the launch says.
#define LAUNCH_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define PLAIN_ADD(a, b) __fadd_rn(a, b)
#define PLAIN_MUL(a, b) __fmul_rn(a, b)
#else
#include "cuda_emulator.h"
#define PLAIN_ADD(a, b) ((a) + (b))
#define PLAIN_MUL(a, b) ((a) * (b))
#endif

// The upper half of an f32.
typedef uint16_t bf16;

// Rows of inputs of products are padded with zeros to a multiple of this many numbers.
constexpr int STEP = 32;
constexpr int WARP = 32;
// Tokens of one block of cached keys and values; `kernel::BLOCK_TOKENS`.
constexpr int BLOCK_TOKENS = 16;

__device__ __forceinline__ float as_float(uint32_t bits) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(bits);
#else
    float number;
    __builtin_memcpy(&number, &bits, sizeof number);
    return number;
#endif
}

__device__ __forceinline__ float widen(bf16 number) { return as_float(uint32_t(number) << 16); }

// Two numbers rounded to nearest, ties to even; `low` in the lower half.
__device__ __forceinline__ uint32_t round_pair(float low, float high) {
#ifdef __CUDA_ARCH__
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return emulate_round(low) | emulate_round(high) << 16;
#endif
}

__device__ __forceinline__ bf16 round_one(float number) { return bf16(round_pair(number, 0.0f)); }

// c += a · b for a 16x16 tile of bf16, 16x8 of bf16 and 16x8 of f32, spread over a warp as PTX's
// `mma.m16n8k16` has it. With g = lane / 4 and t = lane % 4 a lane holds, as pairs of neighbouring k:
//   a[0]: row g, k 2t..   a[1]: row g + 8, k 2t..   a[2]: row g, k 2t + 8..   a[3]: row g + 8, same
//   b[0]: k 2t.., column g                          b[1]: k 2t + 8.., column g
//   c[0], c[1]: row g, columns 2t, 2t + 1           c[2], c[3]: row g + 8, same
// The sum over k does not depend on its order but for rounding, so callers may hand out k to lanes
// in any way that is the same for a and b.
__device__ __forceinline__ void multiply_tile(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1) {
#ifdef __CUDA_ARCH__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    emulate_multiply_tile(c, a, b0, b1);
#endif
}

// Two tiles from 16 bytes of each row: lane t of a quad holds k 8t..8t + 8 of 32.
__device__ __forceinline__ void multiply_step(float (&c)[4], uint4 upper, uint4 lower, uint4 b) {
    const uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
    const uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
    multiply_tile(c, first, b.x, b.y);
    multiply_tile(c, second, b.z, b.w);
}

__device__ __forceinline__ uint4 load_16(const bf16* from) {
    return *reinterpret_cast<const uint4*>(from);
}

// 16 bytes that are read once: they are not kept in the first cache.
__device__ __forceinline__ uint4 stream_16(const bf16* from) {
#ifdef __CUDA_ARCH__
    uint4 loaded;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(loaded.x), "=r"(loaded.y), "=r"(loaded.z), "=r"(loaded.w)
                 : "l"(from));
    return loaded;
#else
    return load_16(from);
#endif
}

// Starts a copy of 16 bytes to shared memory.
__device__ __forceinline__ void copy_16(bf16* to, const bf16* from) {
#ifdef __CUDA_ARCH__
    const uint32_t address = uint32_t(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#else
    emulator::start_copy(to, from);
#endif
}

// Closes a group of started copies.
__device__ __forceinline__ void close_copies() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulator::close_copies();
#endif
}

// Waits until at most so many groups of this thread's copies are under way.
template <int PENDING>
__device__ __forceinline__ void await_copies() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#else
    emulator::await_copies(PENDING);
#endif
}

// The sum over a warp, the same in each lane.
__device__ __forceinline__ float warp_sum(float number) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        number += __shfl_xor_sync(0xffffffffu, number, distance);
    }
    return number;
}

// The sum over a block of up to 1024 threads, the same in each; `room` holds one number a warp.
__device__ __forceinline__ float block_sum(float number, float* room) {
    number = warp_sum(number);
    __syncthreads(); // the room may still be read from the last sum
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = number;
    __syncthreads();
    const int warps = int(blockDim.x) / WARP, lane = int(threadIdx.x) % WARP;
    return warp_sum(lane < warps ? room[lane] : 0.0f);
}
