// The words of CUDA for a C++ compiler: what makes the kernels functions of the CPU that the tests run.
//
// A block runs on one thread of the system. Its threads are fibers, but only where they meet at a barrier: one fiber runs
// thread after thread, and the next fiber begins when a thread waits. After every barrier they go on in the opposite order,
// so that a missing barrier shows as a wrong number, whichever way it is missing.
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

struct Place {
  unsigned x, y, z;
};
static thread_local Place threadIdx, blockIdx, blockDim, gridDim;

#define KERNEL static void
#define __device__ static inline
#define __shared__ static thread_local

namespace twin {

enum { MOST_THREADS = 1024, STACK = 64 * 1024 };

struct Fiber {
  ucontext_t context;
  char* stack;
  Place thread;
  bool waits;
};

struct Block {
  ucontext_t host;
  Fiber* fibers;     // Kept from launch to launch.
  int fibers_in_use; // Fibers that have begun in this block.
  unsigned started, threads;
  int current;
  void (*body)(void**);
  void** arguments;
};
static thread_local Block block;

static void run_fiber() {
  while (block.started < block.threads) {
    unsigned i = block.started++;
    threadIdx = Place{i % blockDim.x, i / blockDim.x, 0};
    block.body(block.arguments);
  }
  block.fibers[block.current].waits = false;
}

static void resume(int fiber) {
  block.current = fiber;
  threadIdx = block.fibers[fiber].thread;
  swapcontext(&block.host, &block.fibers[fiber].context);
}

// Whether all threads of the block came to every barrier.
static bool run_block() {
  block.started = 0;
  block.fibers_in_use = 0;
  while (block.started < block.threads) {
    Fiber& fiber = block.fibers[block.fibers_in_use];
    if (!fiber.stack) fiber.stack = (char*)malloc(STACK);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &block.host;
    makecontext(&fiber.context, run_fiber, 0);
    resume(block.fibers_in_use++);
  }
  for (bool forwards = false;; forwards = !forwards) {
    int waiting = 0;
    for (int i = 0; i < block.fibers_in_use; i++) waiting += block.fibers[i].waits;
    if (waiting == 0) return true;
    if (waiting != (int)block.threads) return false;
    for (int i = 0; i < waiting; i++) resume(forwards ? i : waiting - 1 - i);
  }
}

// A kernel's parameters as letters, p for a pointer, and the call of it with them.
template <class T> struct Letter;
template <class T> struct Letter<T*> { static const char value = 'p'; };
template <> struct Letter<int> { static const char value = 'i'; };
template <> struct Letter<long long> { static const char value = 'l'; };
template <> struct Letter<float> { static const char value = 'f'; };

template <int... I> struct Indices {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Indices<I...> type; };

template <class F, F f> struct Kernel;
template <class... A, void (*f)(A...)> struct Kernel<void (*)(A...), f> {
  template <int... I> static void call(void** arguments, Indices<I...>) { f(*(A*)arguments[I]...); }
  static void body(void** arguments) { call(arguments, typename Count<sizeof...(A)>::type()); }
  static const char* letters() {
    static const char value[] = {Letter<A>::value..., 0};
    return value;
  }
};

struct Entry {
  const char* name;
  const char* (*letters)();
  void (*body)(void**);
};

#define TWIN_ENTRY(name) {#name, twin::Kernel<decltype(&name), &name>::letters, twin::Kernel<decltype(&name), &name>::body}

} // namespace twin

static inline void __syncthreads() {
  twin::Fiber& fiber = twin::block.fibers[twin::block.current];
  fiber.thread = threadIdx;
  fiber.waits = true;
  swapcontext(&fiber.context, &twin::block.host);
  // `resume` has given this thread its place back.
  fiber.waits = false;
}
