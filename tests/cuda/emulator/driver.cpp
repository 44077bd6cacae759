// Enough of CUDA's driver interface for this program to run on an emulated device: built as
// libcuda.so.1, it is found where a driver would be.
//
// As a device does, it runs what a stream is given later: copies from and to pinned memory and launches
// wait until somebody synchronises, so that a buffer that is used again too early shows. Memory is full
// of NaN at first and ends at a page that nobody may touch. A launch can be made to fail, and then its
// context is lost, as after a fault of a device.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <sys/mman.h>
#include <vector>

#include "block.h"
#include "kernels.h"

namespace {

// CUresult, as far as it is told here.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    DEINITIALIZED = 4,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    CAPTURE_UNSUPPORTED = 900,
};

constexpr size_t PAGE = 4096, MEMORY = size_t(4) << 30;

using Work = std::vector<std::function<void()>>;

struct Allocation {
    unsigned char* pages;
    size_t page_bytes, bytes;
};

struct Context {
    Result fault = SUCCESS;
    Work pending, captured;
    bool captures = false;
    std::map<uint64_t, Allocation> memory;
    std::map<uint64_t, Allocation> pinned;
    size_t used = 0;
    uint32_t launches = 0;
};

struct Function {
    const emulator::Entry* entry;
};

struct Graph {
    Work work;
};

// As elsewhere in the emulator, what has a destructor is never destroyed: a thread may still be in the
// driver while another ends the process. As a driver does, it refuses from then on.
auto& one_at_a_time = *new std::mutex;
auto& contexts = *new std::set<Context*>;
std::atomic<bool> is_over{false};
[[maybe_unused]] const int at_the_end = std::atexit([] { is_over = true; });
thread_local Context* current = nullptr;
std::atomic<int64_t> launches_until_fault{-1};
std::atomic<uint32_t> launched{0};
std::atomic<uint32_t> replayed{0};

// The calling thread's context, if it works.
Result check(Context*& context) {
    if (is_over) return DEINITIALIZED;
    if (!current || !contexts.count(current)) return INVALID_CONTEXT;
    context = current;
    return current->fault;
}

#define ENTER(context)                                                                             \
    std::lock_guard<std::mutex> guard(one_at_a_time);                                              \
    Context* context = nullptr;                                                                    \
    if (Result result = check(context)) return result

Result drain(Context& context) {
    Work work;
    work.swap(context.pending);
    for (auto& each : work) {
        each();
        if (context.fault) return context.fault;
    }
    return SUCCESS;
}

void enqueue(Context& context, std::function<void()> work) {
    (context.captures ? context.captured : context.pending).push_back(std::move(work));
}

// Memory whose end, but for its alignment to 16 bytes, is that of what may be touched.
bool allocate(std::map<uint64_t, Allocation>& all, size_t bytes, uint64_t* address) {
    const size_t whole = (bytes + 15) / 16 * 16, page_bytes = (whole + PAGE - 1) / PAGE * PAGE + PAGE;
    void* pages = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return false;
    auto* start = static_cast<unsigned char*>(pages);
    mprotect(start + page_bytes - PAGE, PAGE, PROT_NONE);
    std::memset(start, 0xff, page_bytes - PAGE);
    *address = reinterpret_cast<uint64_t>(start + page_bytes - PAGE - whole);
    all[*address] = {start, page_bytes, bytes};
    return true;
}

bool release(std::map<uint64_t, Allocation>& all, uint64_t address, size_t* bytes) {
    const auto found = all.find(address);
    if (found == all.end()) return false;
    *bytes = found->second.bytes;
    munmap(found->second.pages, found->second.page_bytes);
    all.erase(found);
    return true;
}

// Whether bytes lie inside one allocation.
bool holds(const std::map<uint64_t, Allocation>& all, uint64_t address, size_t bytes) {
    auto after = all.upper_bound(address);
    if (after == all.begin()) return false;
    const auto& [start, allocation] = *std::prev(after);
    return address + bytes <= start + allocation.bytes;
}

template <class T>
T* as(uint64_t address) {
    return reinterpret_cast<T*>(address);
}

} // namespace

extern "C" {

// --- of this emulator ------------------------------------------------------------------------------

// Lets the n-th launch from now on fail, 0 being the next; never if negative.
void emulator_fail_after(int64_t launches) { launches_until_fault = launches; }

uint32_t emulator_launches() { return launched; }

// Graphs that were launched.
uint32_t emulator_replays() { return replayed; }

void emulator_set_order(uint32_t order) {
    std::lock_guard<std::mutex> guard(one_at_a_time);
    emulator::set_order(order);
}

// --- the device ------------------------------------------------------------------------------------

int cuInit(unsigned) { return SUCCESS; }

int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

int cuDeviceGetCount(int* count) {
    *count = 1;
    return SUCCESS;
}

int cuDeviceGet(int* device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, size_t(length), "emulated device");
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
    case 16: *value = 4; break; // multiprocessors
    case 75: *value = 8; break; // compute capability, major
    case 76: *value = 0; break; // and minor
    default: *value = 0; // no memory pools among others
    }
    return SUCCESS;
}

int cuGetErrorName(int error, const char** name) {
    *name = error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
            : error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
                                     : "CUDA_ERROR";
    return SUCCESS;
}

int cuGetErrorString(int error, const char** text) {
    *text = error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
            : error == OUT_OF_MEMORY ? "out of memory"
                                     : "an error of the emulated device";
    return SUCCESS;
}

// --- contexts --------------------------------------------------------------------------------------

int cuCtxCreate_v4(Context** context, void*, unsigned, int) {
    std::lock_guard<std::mutex> guard(one_at_a_time);
    *context = new Context;
    contexts.insert(*context);
    current = *context;
    return SUCCESS;
}

int cuCtxDestroy_v2(Context* context) {
    std::lock_guard<std::mutex> guard(one_at_a_time);
    if (is_over) return DEINITIALIZED;
    if (!contexts.erase(context)) return INVALID_CONTEXT;
    for (auto* all : {&context->memory, &context->pinned}) {
        for (auto& [address, allocation] : *all) munmap(allocation.pages, allocation.page_bytes);
    }
    delete context;
    if (current == context) current = nullptr;
    return SUCCESS;
}

int cuCtxSetCurrent(Context* context) {
    current = context;
    return SUCCESS;
}

int cuCtxGetCurrent(Context** context) {
    *context = current;
    return SUCCESS;
}

int cuCtxSynchronize() {
    ENTER(context);
    return drain(*context);
}

// --- memory ----------------------------------------------------------------------------------------

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    ENTER(context);
    *total = MEMORY;
    *free = MEMORY - context->used;
    return SUCCESS;
}

int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    ENTER(context);
    if (context->captures) return CAPTURE_UNSUPPORTED;
    if (bytes == 0) return INVALID_VALUE;
    if (context->used + bytes > MEMORY || !allocate(context->memory, bytes, address)) {
        return OUT_OF_MEMORY;
    }
    context->used += bytes;
    return SUCCESS;
}

int cuMemFree_v2(uint64_t address) {
    ENTER(context);
    if (Result result = drain(*context)) return result;
    size_t bytes = 0;
    if (!release(context->memory, address, &bytes)) return INVALID_VALUE;
    context->used -= bytes;
    return SUCCESS;
}

int cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    ENTER(context);
    uint64_t start = 0;
    if (!allocate(context->pinned, bytes, &start)) return OUT_OF_MEMORY;
    *address = as<void>(start);
    return SUCCESS;
}

int cuMemFreeHost(void* address) {
    ENTER(context);
    if (Result result = drain(*context)) return result;
    size_t bytes = 0;
    return release(context->pinned, reinterpret_cast<uint64_t>(address), &bytes) ? SUCCESS
                                                                               : INVALID_VALUE;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
    ENTER(context);
    if (!holds(context->memory, to, bytes)) return INVALID_VALUE;
    if (holds(context->pinned, reinterpret_cast<uint64_t>(from), bytes)) {
        enqueue(*context, [=] { std::memcpy(as<void>(to), from, bytes); });
        return SUCCESS;
    }
    if (context->captures) return CAPTURE_UNSUPPORTED;
    const auto* start = static_cast<const unsigned char*>(from);
    auto copy = std::make_shared<std::vector<unsigned char>>(start, start + bytes);
    enqueue(*context, [=] { std::memcpy(as<void>(to), copy->data(), bytes); });
    return SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
    ENTER(context);
    if (!holds(context->memory, from, bytes)) return INVALID_VALUE;
    enqueue(*context, [=] { std::memcpy(to, as<void>(from), bytes); });
    const bool is_pinned = holds(context->pinned, reinterpret_cast<uint64_t>(to), bytes);
    return is_pinned ? SUCCESS : drain(*context);
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void*) {
    ENTER(context);
    if (!holds(context->memory, to, bytes)) return INVALID_VALUE;
    enqueue(*context, [=] { std::memset(as<void>(to), value, bytes); });
    return SUCCESS;
}

// --- modules and launches --------------------------------------------------------------------------

int cuModuleLoadData(void** module, const void*) {
    ENTER(context);
    *module = new int(0);
    return SUCCESS;
}

int cuModuleUnload(void* module) {
    delete static_cast<int*>(module);
    return SUCCESS;
}

int cuModuleGetFunction(Function** function, void*, const char* name) {
    ENTER(context);
    const auto found = emulator::kernels().find(name);
    if (found == emulator::kernels().end()) return NOT_FOUND;
    static auto& functions = *new std::map<std::string, Function>;
    *function = &functions.emplace(name, Function{&found->second}).first->second;
    return SUCCESS;
}

int cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, void*,
                   void** arguments, void**) {
    ENTER(context);
    // Copies of the arguments, as theirs may be gone when the kernel runs.
    auto copies = std::make_shared<std::vector<std::vector<unsigned char>>>();
    for (size_t index = 0; index < function->entry->arguments.size(); ++index) {
        const auto* from = static_cast<const unsigned char*>(arguments[index]);
        copies->emplace_back(from, from + function->entry->arguments[index]);
    }
    enqueue(*context, [=] {
        ++launched;
        if (launches_until_fault >= 0 && launches_until_fault-- == 0) {
            context->fault = ILLEGAL_ADDRESS;
            return;
        }
        std::vector<void*> places;
        for (auto& copy : *copies) places.push_back(copy.data());
        emulator::run_grid({grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes,
                           [&] { function->entry->thread(places.data()); });
    });
    return SUCCESS;
}

// --- streams, events and graphs --------------------------------------------------------------------

// A context has one stream here, whatever it is called.
int cuStreamCreate(void** stream, unsigned) {
    ENTER(context);
    *stream = context;
    return SUCCESS;
}

int cuStreamDestroy_v2(void*) { return SUCCESS; }

int cuStreamSynchronize(void*) {
    ENTER(context);
    return drain(*context);
}

int cuStreamWaitEvent(void*, void*, unsigned) { return SUCCESS; }

int cuEventCreate(void** event, unsigned) {
    *event = new int(0);
    return SUCCESS;
}

int cuEventDestroy_v2(void* event) {
    delete static_cast<int*>(event);
    return SUCCESS;
}

int cuEventRecord(void*, void*) { return SUCCESS; }

int cuEventSynchronize(void*) {
    ENTER(context);
    return drain(*context);
}

int cuStreamBeginCapture_v2(void*, int) {
    ENTER(context);
    context->captures = true;
    context->captured.clear();
    return SUCCESS;
}

int cuStreamEndCapture(void*, Graph** graph) {
    ENTER(context);
    context->captures = false;
    *graph = new Graph{std::move(context->captured)};
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    *executable = new Graph(*graph);
    return SUCCESS;
}

int cuGraphUpload(Graph*, void*) { return SUCCESS; }

int cuGraphLaunch(Graph* executable, void*) {
    ENTER(context);
    ++replayed;
    for (const auto& work : executable->work) enqueue(*context, work);
    return SUCCESS;
}

int cuGraphExecDestroy(Graph* executable) {
    delete executable;
    return SUCCESS;
}

int cuGraphDestroy(Graph* graph) {
    delete graph;
    return SUCCESS;
}

} // extern "C"
