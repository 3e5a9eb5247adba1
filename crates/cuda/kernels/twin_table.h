// The table of kernels, and the launch that the tests' device calls. TWIN_ENTRIES is made by build.rs.

#include "twin_entries.h"

namespace twin {

template <> struct Letter<Bfloat*> { static const char value = 'h'; };
template <> struct Letter<const Bfloat*> { static const char value = 'h'; };

// Whether a launch has arguments of these kinds; 0 is a null pointer, to any kind.
static bool fit(const char* parameters, const char* arguments) {
  for (; *parameters && *arguments; parameters++, arguments++) {
    bool pointer = *parameters == 'p' || *parameters == 'h';
    if (*parameters != *arguments && !(pointer && *arguments == '0')) return false;
  }
  return *parameters == *arguments;
}

} // namespace twin

static const twin::Entry twin_entries[] = {TWIN_ENTRIES};

// 0: it ran; 1: there is no such kernel; 2: its parameters are not of these kinds; 3: threads of a block parted at a barrier.
extern "C" int rkd_twin_launch(const char* name, const unsigned* grid, const unsigned* threads, const char* letters,
                               void** arguments) {
  for (const twin::Entry& entry : twin_entries) {
    if (strcmp(entry.name, name)) continue;
    if (!twin::fit(entry.letters(), letters)) return 2;
    twin::Block& block = twin::block;
    if (!block.fibers) block.fibers = (twin::Fiber*)calloc(twin::MOST_THREADS, sizeof(twin::Fiber));
    gridDim = Place{grid[0], grid[1], grid[2]};
    blockDim = Place{threads[0], threads[1], 1};
    block.threads = threads[0] * threads[1];
    block.body = entry.body;
    block.arguments = arguments;
    for (unsigned z = 0; z < grid[2]; z++)
      for (unsigned y = 0; y < grid[1]; y++)
        for (unsigned x = 0; x < grid[0]; x++) {
          blockIdx = Place{x, y, z};
          if (!twin::run_block()) return 3;
        }
    return 0;
  }
  return 1;
}
