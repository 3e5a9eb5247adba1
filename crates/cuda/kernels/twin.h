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
#define MEMBER inline
#define __device__ static inline
#define __shared__ static thread_local

static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

namespace twin {

// Of stacks that lie a power of two apart, the first lines would all want the same places of a cache.
enum { MOST_THREADS = 1024, STACK = 32 * 1024, APART = 256, PLACES = 16 };

// What the compiler's own jumps keep: they are a few instructions, where contexts call the system.
typedef void* Jump[5];

// Not in the function that has made `to` or another one: the compiler forbids that.
__attribute__((noinline, noreturn)) static void jump(void** to) { __builtin_longjmp(to, 1); }

// Entered by a context once, then left and entered by jumps.
struct Fiber {
  Jump at;
  char* stack; // Null before the first use.
  Place thread;
};

struct Block {
  Jump host;
  Fiber* fibers;     // Kept from launch to launch.
  int fibers_in_use; // Fibers that have begun in this block.
  int waiting;       // Of them, those that wait at a barrier.
  unsigned started, threads;
  int current;
  void (*body)(void**);
  void** arguments;
};
static thread_local Block block;

// Back to the host, until it resumes the fiber.
__attribute__((noinline)) static void leave() {
  if (!__builtin_setjmp(block.fibers[block.current].at)) jump(block.host);
}

static void run_fiber() {
  for (;;) {
    while (block.started < block.threads) {
      unsigned i = block.started++;
      threadIdx = Place{i % blockDim.x, i / blockDim.x, 0};
      block.body(block.arguments);
    }
    leave();
  }
}

__attribute__((noinline)) static void begin(Fiber& fiber, int number) {
  ucontext_t context;
  fiber.stack = (char*)malloc(STACK);
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack;
  context.uc_stack.ss_size = STACK - APART * (number % PLACES);
  makecontext(&context, run_fiber, 0);
  setcontext(&context);
}

__attribute__((noinline)) static void resume(int number) {
  block.current = number;
  Fiber& fiber = block.fibers[number];
  threadIdx = fiber.thread;
  if (__builtin_setjmp(block.host)) return;
  if (fiber.stack) jump(fiber.at);
  begin(fiber, number);
}

// Whether all threads of the block came to every barrier. Where they did not, fibers are left waiting, and new ones are made.
static bool run_block() {
  block.started = 0;
  block.waiting = 0;
  block.fibers_in_use = 0;
  while (block.started < block.threads) resume(block.fibers_in_use++);
  for (bool forwards = false; block.waiting > 0; forwards = !forwards) {
    int fibers = block.fibers_in_use;
    if (block.waiting != (int)block.threads) {
      for (int i = 0; i < fibers; i++) {
        free(block.fibers[i].stack);
        block.fibers[i] = Fiber();
      }
      return false;
    }
    block.waiting = 0;
    for (int i = 0; i < fibers; i++) resume(forwards ? i : fibers - 1 - i);
  }
  return true;
}

// A kernel's parameters as letters, p for a pointer (h for one to halves, in twin_table.h), and the call of it with them.
template <class T> struct Letter;
template <class T> struct Letter<T*> { static const char value = 'p'; };
template <> struct Letter<int> { static const char value = 'i'; };
template <> struct Letter<long long> { static const char value = 'l'; };
template <> struct Letter<float> { static const char value = 'f'; };
template <> struct Letter<double> { static const char value = 'd'; };

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
  twin::block.fibers[twin::block.current].thread = threadIdx;
  twin::block.waiting++;
  // `resume` gives this thread its place back.
  twin::leave();
}
