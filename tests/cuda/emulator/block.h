// Runs one block of threads as fibers of one system thread.
//
// Ends the process with a sentence where a device would hang or compute nonsense in silence: threads
// that wait for each other in vain, an exchange that part of a warp does not take part in. Between two
// barriers the fibers run in an order that can be changed (`set_order`), so that a missing barrier shows
// as a different result. Shared memory of launches is filled with NaN beforehand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace emulator {

struct Size {
    uint32_t x, y, z;
};

// Bytes that a lane can hand to the others of its warp at once.
constexpr size_t SLOT = 32;

// Runs `thread` for every thread of every block.
void run_grid(Size grid, Size block, size_t shared_bytes, const std::function<void()>& thread);

// In which order fibers run: 0 is by number, 1 backwards, others at random, and some warps far ahead.
void set_order(uint32_t order);

// Of the running thread:
Size thread_index();
Size block_index();
Size block_size();
Size grid_size();
int lane();
unsigned char* launch_shared();

// Copies COPY bytes as late as `cp.async` may: when the thread waits for the group that the copy is in.
constexpr size_t COPY = 16;
void start_copy(void* to, const void* from);
void close_copies();
// Waits until so many closed groups of the thread's copies are under way at most.
void await_copies(size_t pending);

// Waits for all threads of the block, or of the warp, that have not ended.
void meet_block();
void meet_warp();

// Hands `bytes` to the other lanes and gets theirs: 32 slots, which stay until the next exchange.
const void* exchange(const void* own, size_t bytes);

void require(bool holds, const char* otherwise);

} // namespace emulator
