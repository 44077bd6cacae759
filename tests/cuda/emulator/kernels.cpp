// All kernels, and how each is called with the arguments of a launch.
#include "kernels.h"

#include "../../../src/kernel/cuda/device/attention.cu"
#include "../../../src/kernel/cuda/device/low_rank.cu"
#include "../../../src/kernel/cuda/device/product.cu"
#include "../../../src/kernel/cuda/device/rows.cu"

#include <utility>

namespace {

template <class... Arguments, size_t... Index>
emulator::Kernel callable(void (*kernel)(Arguments...), std::index_sequence<Index...>) {
    return [kernel](void** arguments) {
        // Copies, as a launch makes them.
        kernel(*static_cast<std::remove_const_t<Arguments>*>(arguments[Index])...);
    };
}

template <class... Arguments>
emulator::Kernel callable(void (*kernel)(Arguments...)) {
    return callable(kernel, std::index_sequence_for<Arguments...>{});
}

// As a launch copies them, its arguments may be gone when the kernel runs.
template <class... Arguments>
emulator::Sizes sizes(void (*)(Arguments...)) {
    return {sizeof(Arguments)...};
}

#define ENTRY(name) {#name, {callable(name), sizes(name)}}
#define HEADS(width) ENTRY(place_##width), ENTRY(attend_##width), ENTRY(join_partitions_##width)

} // namespace

const std::map<std::string, emulator::Entry>& emulator::kernels() {
    static const auto& all = *new std::map<std::string, Entry>{
        ENTRY(embed),        ENTRY(join),         ENTRY(gate),        ENTRY(cap),
        ENTRY(product_8),    ENTRY(product_16),   ENTRY(product_wide),
        ENTRY(product_sum),  ENTRY(low_rank_down), ENTRY(low_rank_up), HEADS(32),
        HEADS(64),           HEADS(96),           HEADS(128),         HEADS(256),
    };
    return all;
}
