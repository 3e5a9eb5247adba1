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

static const twin::Entry* entry_of(const char* name) {
  for (const twin::Entry& entry : twin_entries)
    if (!strcmp(entry.name, name)) return &entry;
  return 0;
}

// 0: there is a kernel with parameters of these kinds; 1: there is no such kernel; 2: its parameters are of other kinds.
extern "C" int rkd_twin_check(const char* name, const char* letters) {
  const twin::Entry* entry = entry_of(name);
  return !entry ? 1 : twin::fit(entry->letters(), letters) ? 0 : 2;
}

// Runs a kernel of the table. 0: it ran; 1: threads of a block parted at a barrier.
extern "C" int rkd_twin_launch(const char* name, const unsigned* grid, const unsigned* threads, void** arguments) {
  twin::Block& block = twin::block;
  if (!block.fibers) block.fibers = (twin::Fiber*)calloc(twin::MOST_THREADS, sizeof(twin::Fiber));
  gridDim = Place{grid[0], grid[1], grid[2]};
  blockDim = Place{threads[0], threads[1], 1};
  block.threads = threads[0] * threads[1];
  block.body = entry_of(name)->body;
  block.arguments = arguments;
  for (unsigned z = 0; z < grid[2]; z++)
    for (unsigned y = 0; y < grid[1]; y++)
      for (unsigned x = 0; x < grid[0]; x++) {
        blockIdx = Place{x, y, z};
        if (!twin::run_block()) return 1;
      }
  return 0;
}
