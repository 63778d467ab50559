// Blocks of a launch on the host. Each CUDA thread is a lane with a stack of its own; the lanes of a block take turns in one thread
// of the host and stop where they exchange values or wait for one another. What CUDA leaves undefined ends the process: a lane that
// shuffles after another of its warp has left, or in another way than they do, and a wait that not all threads of a block reach.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

// What schedules the lanes is no part of what is tested, and touches their states without locks.
#define EMULATION_UNSEEN __attribute__((no_sanitize("thread"), noinline))

struct Index {
  unsigned x;
};
inline thread_local Index threadIdx, blockIdx, blockDim;

namespace emulation {

enum class Step { kRun, kXor, kIndex, kWait, kDone };

struct Lane {
  ucontext_t context;
  jmp_buf place;
  bool begun;
  std::unique_ptr<char[]> stack;
  Step step;
  int argument;
  uint64_t value, received;
  void *fake_stack, *fiber;
};

constexpr int kWarp = 32, kMaximumThreads = 1024;
constexpr size_t kStack = 64 << 10;

struct Block {
  ucontext_t scheduler;
  jmp_buf place;
  void *fake_stack = nullptr, *fiber = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_size = 0;
  const std::function<void()>* kernel = nullptr;
  int threads = 0, running = 0;
  Lane lanes[kMaximumThreads];
  char warps[kMaximumThreads / kWarp], whole;  // whose addresses stand for what the sanitizer knows of a warp, a block
};
inline thread_local Block* this_block;

[[noreturn]] inline void trap(const char* reason) {
  std::fprintf(stderr, "emulation: thread %u of block %u: %s\n", threadIdx.x, blockIdx.x, reason);
  std::abort();
}

inline void need_alignment(const void* pointer, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0) trap("an address is not aligned");
}

// Turns between the scheduler and a lane, and what the sanitizers have to know of them. swapcontext asks the system for the mask of
// signals each time; jumps, which the sanitizers do not follow, take a fifth of the time.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
EMULATION_UNSEEN inline void resume(Block& block, int lane) {
  Lane& to = block.lanes[lane];
  block.running = lane;
  threadIdx.x = static_cast<unsigned>(lane);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&block.fake_stack, to.stack.get(), kStack);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.fiber, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&block.scheduler, &to.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(block.fake_stack, nullptr, nullptr);
#endif
}

EMULATION_UNSEEN inline void leave(Block& block, Lane& lane) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(lane.step == Step::kDone ? nullptr : &lane.fake_stack, block.scheduler_stack,
                                 block.scheduler_stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(block.fiber, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&lane.context, &block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(lane.fake_stack, nullptr, nullptr);
#endif
}

#else
inline void resume(Block& block, int lane) {
  Lane& to = block.lanes[lane];
  block.running = lane;
  threadIdx.x = static_cast<unsigned>(lane);
  if (_setjmp(block.place)) return;
  if (to.begun) _longjmp(to.place, 1);
  to.begun = true;
  setcontext(&to.context);
}

inline void leave(Block& block, Lane& lane) {
  if (!_setjmp(lane.place)) _longjmp(block.place, 1);
}
#endif

// Stops the running lane until the scheduler has taken the step with all lanes that take part; `meeting` orders what they did before
// it against what they do after it.
EMULATION_UNSEEN inline uint64_t meet(Step step, int argument, uint64_t value, bool whole) {
  Block& block = *this_block;
  Lane& lane = block.lanes[block.running];
  [[maybe_unused]] void* meeting = whole ? &block.whole : &block.warps[block.running / kWarp];
  lane.step = step;
  lane.argument = argument;
  lane.value = value;
#if defined(__SANITIZE_THREAD__)
  __tsan_release(meeting);
#endif
  leave(block, lane);
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(meeting);
#endif
  return lane.received;
}

template <class T>
T exchange(unsigned mask, T value, Step step, int argument) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  if (mask != 0xffffffffu) trap("a shuffle of a part of a warp is not emulated");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = meet(step, argument, bits, false);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void wait_for_block() { meet(Step::kWait, 0, 0, true); }

EMULATION_UNSEEN inline void lane_main() {
  Block& block = *this_block;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_size);
#endif
  (*block.kernel)();
  Lane& lane = block.lanes[block.running];
  lane.step = Step::kDone;
#if defined(__SANITIZE_THREAD__)
  __tsan_release(&block.whole);
#endif
  leave(block, lane);
}

EMULATION_UNSEEN inline void start(Block& block, int lane) {
  Lane& to = block.lanes[lane];
  getcontext(&to.context);
  to.context.uc_stack = {to.stack.get(), 0, kStack};
  to.context.uc_link = nullptr;
  makecontext(&to.context, lane_main, 0);
  to.step = Step::kRun;
  to.begun = false;
  to.fake_stack = nullptr;
#if defined(__SANITIZE_THREAD__)
  to.fiber = __tsan_create_fiber(0);
#endif
}

// Lets the lanes of a warp run until each has stopped, and shuffles. False where all wait for the block or are done.
EMULATION_UNSEEN inline bool advance(Block& block, int warp) {
  Lane* lanes = block.lanes + warp * kWarp;
  for (int i = 0; i < kWarp; ++i)
    if (lanes[i].step == Step::kRun) resume(block, warp * kWarp + i);
  int shuffling = 0;
  for (int i = 0; i < kWarp; ++i) shuffling += lanes[i].step == Step::kXor || lanes[i].step == Step::kIndex;
  if (shuffling == 0) return false;
  for (int i = 0; i < kWarp; ++i) {
    threadIdx.x = static_cast<unsigned>(warp * kWarp + i);
    if (lanes[i].step == Step::kDone) trap("left, and others of its warp shuffle");
    if (lanes[i].step == Step::kWait) trap("waits for the block, and others of its warp shuffle");
    const bool same = lanes[i].step == lanes[0].step && (lanes[i].step == Step::kIndex || lanes[i].argument == lanes[0].argument);
    if (!same) trap("shuffles in another way than others of its warp");
  }
  for (int i = 0; i < kWarp; ++i) {
    const int from = lanes[i].step == Step::kXor ? i ^ lanes[i].argument : lanes[i].argument;
    if (from < 0 || from >= kWarp) trap("shuffles with a lane that does not exist");
    lanes[i].received = lanes[from].value;
  }
  for (int i = 0; i < kWarp; ++i) lanes[i].step = Step::kRun;
  return true;
}

EMULATION_UNSEEN inline void run_block(Block& block) {
#if defined(__SANITIZE_THREAD__)
  block.fiber = __tsan_get_current_fiber();
#endif
  for (int i = 0; i < block.threads; ++i) start(block, i);
  while (true) {
    bool moved = false;
    for (int warp = 0; warp < block.threads / kWarp; ++warp) moved |= advance(block, warp);
    if (moved) continue;
    int waiting = 0;
    for (int i = 0; i < block.threads; ++i) waiting += block.lanes[i].step == Step::kWait;
    if (waiting == 0) break;
    if (waiting < block.threads) trap("left, and others of its block wait");
    for (int i = 0; i < block.threads; ++i) block.lanes[i].step = Step::kRun;
  }
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(&block.whole);
  for (int i = 0; i < block.threads; ++i) __tsan_destroy_fiber(block.lanes[i].fiber);
#endif
}

// The blocks of a launch, one after another, or under the thread sanitizer in two threads at the same time.
template <class... Parameters, class... Values>
void launch(void (*kernel)(Parameters...), unsigned blocks, int threads, int, void*, Values... values) {
  if (threads % kWarp != 0 || threads > kMaximumThreads) trap("such a block is not emulated");
#if defined(__SANITIZE_THREAD__)
  constexpr unsigned kHosts = 2;
#else
  constexpr unsigned kHosts = 1;
#endif
  const std::function<void()> call = [&] { kernel(values...); };
  const auto run = [&](unsigned first) {
    static thread_local const auto block = std::make_unique<Block>();  // kept: its stacks cost more than a small launch
    block->kernel = &call;
    block->threads = threads;
    for (int i = 0; i < threads; ++i) {
      auto& stack = block->lanes[i].stack;
      if (!stack) stack = std::make_unique_for_overwrite<char[]>(kStack);
    }
    this_block = block.get();
    blockDim.x = static_cast<unsigned>(threads);
    for (blockIdx.x = first; blockIdx.x < blocks; blockIdx.x += kHosts) run_block(*block);
    this_block = nullptr;
  };
  if (kHosts == 1) return run(0);
  std::vector<std::thread> hosts;
  for (unsigned host = 0; host < kHosts; ++host) hosts.emplace_back(run, host);
  for (std::thread& host : hosts) host.join();
}

}  // namespace emulation
