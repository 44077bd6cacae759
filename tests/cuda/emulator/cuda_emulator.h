// CUDA's device language in plain C++, as far as the kernels of src/kernel/cuda use it.
//
// Blocks run one after another; the threads of a block are fibers, which meet at barriers and in the
// exchanges of a warp. See block.h for what is checked on the way.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "block.h"

#define KERNEL extern "C" void
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// One block at a time: what is static is shared by its threads.
#define __shared__ static
#define LAUNCH_SHARED(name) unsigned char* const name = emulator::launch_shared()

using std::max;
using std::min;

struct uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index())
#define blockDim (emulator::block_size())
#define gridDim (emulator::grid_size())

inline void __syncthreads() { emulator::meet_block(); }
inline void __syncwarp() { emulator::meet_warp(); }

inline float __shfl_xor_sync(uint32_t mask, float number, int distance) {
    emulator::require(mask == 0xffffffffu, "a shuffle of part of a warp");
    const float* all = static_cast<const float*>(emulator::exchange(&number, sizeof number));
    // Slots of an exchange are emulator::SLOT bytes apart.
    const auto* slots = reinterpret_cast<const unsigned char*>(all);
    float other;
    std::memcpy(&other, slots + size_t(emulator::lane() ^ distance) * emulator::SLOT, sizeof other);
    return other;
}

inline float rsqrtf(float number) { return 1.0f / std::sqrt(number); }

// bf16 bits, to nearest, ties to even; as `cvt.rn.bf16x2.f32` has it, NaN becomes 0x7fff.
inline uint32_t emulate_round(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float emulate_widen(uint32_t bits) {
    bits <<= 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

// PTX's mma.m16n8k16 of bf16 with sums in f32 (PTX ISA, "Matrix Fragments for mma.m16n8k16"). Products
// of bf16 are exact in f64; a device adds them in an order and with roundings that are its own secret.
inline void emulate_multiply_tile(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t own[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const auto* slots = static_cast<const unsigned char*>(emulator::exchange(own, sizeof own));
    const int g = emulator::lane() / 4, t = emulator::lane() % 4;
    const auto number = [&](int lane, int part, int half) {
        uint32_t pair;
        std::memcpy(&pair, slots + size_t(lane) * emulator::SLOT + part * sizeof pair, sizeof pair);
        return double(emulate_widen(half ? pair >> 16 : pair & 0xffffu));
    };
    for (int i = 0; i < 4; ++i) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        double sum = 0.0;
        for (int k = 0; k < 16; ++k) {
            const int quad = k % 8 / 2, high = k / 8, half = k % 2;
            const double left = number(row % 8 * 4 + quad, row / 8 + 2 * high, half);
            sum += left * number(column * 4 + quad, 4 + high, half);
        }
        c[i] = float(double(c[i]) + sum);
    }
}
