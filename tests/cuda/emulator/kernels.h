// The table of kernels.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace emulator {

// Runs one thread of a kernel; the arguments are pointers to values, as `cuLaunchKernel` takes them.
using Kernel = std::function<void(void**)>;
using Sizes = std::vector<size_t>;

struct Entry {
    Kernel thread;
    Sizes arguments;
};

const std::map<std::string, Entry>& kernels();

} // namespace emulator
