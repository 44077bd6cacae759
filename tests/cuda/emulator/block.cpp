// See block.h.
#include "block.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <ucontext.h>
#include <vector>

namespace emulator {
namespace {

constexpr size_t STACK = 128 << 10;
constexpr int LANES = 32;

struct Copy {
    void* to;
    const void* from;
};

enum class State { Ready, InWarp, InBlock, Ended };

struct Fiber {
    std::unique_ptr<unsigned char[]> stack{new unsigned char[STACK]};
    ucontext_t start;
    jmp_buf at;
    bool is_started = false;
    State state = State::Ready;
    uint32_t exchanges = 0;
    // Copies that were started, the open group last.
    std::deque<std::vector<Copy>> copies{1};
};

struct Warp {
    unsigned char slots[2][LANES][SLOT];
};

// Never destroyed, as a thread may be here while the process ends.
auto& fibers = *new std::vector<std::unique_ptr<Fiber>>;
auto& warps = *new std::vector<Warp>;
auto& room = *new std::vector<unsigned char>;
unsigned char* shared_start = nullptr;
const std::function<void()>* body = nullptr;
Size grid, size, block_at;
uint32_t running = 0;
uint32_t chosen_order = 0;
jmp_buf scheduler;

void enter() {
    (*body)();
    fibers[running]->state = State::Ended;
    _longjmp(scheduler, 1);
}

// Runs a fiber until it waits or ends.
void resume(uint32_t index) {
    running = index;
    Fiber& fiber = *fibers[index];
    if (_setjmp(scheduler)) return;
    if (fiber.is_started) _longjmp(fiber.at, 1);
    fiber.is_started = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
    setcontext(&fiber.start);
}

void wait_in(State state) {
    Fiber& fiber = *fibers[running];
    fiber.state = state;
    if (!_setjmp(fiber.at)) _longjmp(scheduler, 1);
}

// Lets those go on that all wait in one place, and says whether there were any.
bool release(uint32_t threads) {
    bool released = false;
    const auto free_all = [&](uint32_t from, uint32_t to, State where) {
        uint32_t waiting = 0, ended = 0;
        for (uint32_t i = from; i < to; ++i) {
            waiting += fibers[i]->state == where;
            ended += fibers[i]->state == State::Ended;
        }
        if (waiting == 0 || waiting + ended != to - from) return;
        require(where != State::InWarp || ended == 0, "lanes of a warp ended before an exchange");
        for (uint32_t i = from; i < to; ++i) {
            if (fibers[i]->state == where) fibers[i]->state = State::Ready;
        }
        released = true;
    };
    for (uint32_t warp = 0; warp < threads; warp += LANES) {
        free_all(warp, std::min(warp + LANES, threads), State::InWarp);
    }
    free_all(0, threads, State::InBlock);
    return released;
}

void run_block(uint32_t threads, std::mt19937& chance) {
    std::vector<uint32_t> order(threads);
    std::iota(order.begin(), order.end(), 0);
    if (chosen_order == 1) std::reverse(order.begin(), order.end());
    for (uint32_t i = 0; i < threads; ++i) {
        fibers[i]->is_started = false;
        fibers[i]->state = State::Ready;
        fibers[i]->exchanges = 0;
        fibers[i]->copies.assign(1, {});
    }
    std::vector<bool> sleeps(threads / LANES);
    bool has_run = false;
    for (;;) {
        if (chosen_order > 1) {
            std::shuffle(order.begin(), order.end(), chance);
            // Some warps run far ahead of others, until all wait or others get their turn.
            if (!has_run || chance() % 32 == 0) {
                for (size_t warp = 0; warp < sleeps.size(); ++warp) sleeps[warp] = chance() % 4 != 0;
            }
        }
        has_run = false;
        bool all_ended = true, can_run = false;
        for (uint32_t index : order) {
            if (fibers[index]->state == State::Ready) {
                can_run = true;
                if (!sleeps[index / LANES]) {
                    has_run = true;
                    resume(index);
                }
            }
            all_ended = all_ended && fibers[index]->state == State::Ended;
        }
        if (all_ended) return;
        require(release(threads) || can_run, "threads of a block wait for each other in vain");
    }
}

} // namespace

void require(bool holds, const char* otherwise) {
    if (holds) return;
    std::fprintf(stderr, "emulated device: %s\n", otherwise);
    std::abort();
}

void set_order(uint32_t order) { chosen_order = order; }

void run_grid(Size blocks, Size block, size_t shared_bytes, const std::function<void()>& thread) {
    const uint32_t threads = block.x * block.y * block.z;
    require(block.y == 1 && block.z == 1, "only blocks of one dimension are emulated");
    require(threads > 0 && threads <= 1024 && threads % LANES == 0, "a block of odd size");
    require(blocks.x > 0 && blocks.y > 0 && blocks.z > 0, "a grid without blocks");
    require(blocks.y < 65536 && blocks.z < 65536, "a grid larger than devices take");
    require(shared_bytes <= 48 << 10, "more shared memory than a launch gets without asking");
    while (fibers.size() < threads) fibers.push_back(std::make_unique<Fiber>());
    warps.resize((threads + LANES - 1) / LANES);
    room.resize(shared_bytes + 16);
    shared_start = room.data() + (16 - reinterpret_cast<uintptr_t>(room.data()) % 16) % 16;
    body = &thread;
    grid = blocks;
    size = block;
    std::mt19937 chance(chosen_order);
    for (block_at.z = 0; block_at.z < blocks.z; ++block_at.z) {
        for (block_at.y = 0; block_at.y < blocks.y; ++block_at.y) {
            for (block_at.x = 0; block_at.x < blocks.x; ++block_at.x) {
                std::fill(room.begin(), room.end(), 0xff);
                run_block(threads, chance);
            }
        }
    }
}

Size thread_index() { return {running, 0, 0}; }
Size block_index() { return block_at; }
Size block_size() { return size; }
Size grid_size() { return grid; }
int lane() { return int(running % LANES); }
unsigned char* launch_shared() { return shared_start; }
void meet_block() { wait_in(State::InBlock); }
void meet_warp() { wait_in(State::InWarp); }

void start_copy(void* to, const void* from) { fibers[running]->copies.back().push_back({to, from}); }

void close_copies() { fibers[running]->copies.emplace_back(); }

void await_copies(size_t pending) {
    auto& copies = fibers[running]->copies;
    while (copies.size() > pending + 1) {
        for (const Copy& copy : copies.front()) std::memcpy(copy.to, copy.from, COPY);
        copies.pop_front();
    }
}

const void* exchange(const void* own, size_t bytes) {
    require(bytes <= SLOT, "an exchange wider than its slot");
    Fiber& fiber = *fibers[running];
    // Two in turn: a lane writes to one only after all have read it, as they came to the next.
    auto& slots = warps[running / LANES].slots[fiber.exchanges++ % 2];
    std::memcpy(slots[running % LANES], own, bytes);
    wait_in(State::InWarp);
    return slots;
}

} // namespace emulator
