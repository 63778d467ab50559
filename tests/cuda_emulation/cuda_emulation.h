// Just enough of CUDA's language for a C++20 compiler to run kernels: a block is a set of threads, a warp shuffles by barriers.
#pragma once

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(threads)

struct Index {
  unsigned x;
};
struct alignas(16) int4 {
  int x, y, z, w;
};

inline thread_local Index threadIdx, blockIdx;

struct Warp {
  std::barrier<> barrier{32};
  double exchanged[32];
};
inline thread_local Warp* this_warp;

template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  const unsigned lane = threadIdx.x % 32;
  this_warp->exchanged[lane] = value;
  this_warp->barrier.arrive_and_wait();
  const T other = static_cast<T>(this_warp->exchanged[lane ^ distance]);
  this_warp->barrier.arrive_and_wait();
  return other;
}

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}

template <class T>
void atomicAdd(T* to, T value) {
  std::atomic_ref<T>(*to).fetch_add(value);
}

namespace emulation {

// Runs one block after the other, the threads of a block at the same time.
template <int kThreads>
struct Launch {
  template <class... Parameters, class... Values>
  void operator()(int64_t threads, void (*kernel)(Parameters...), Values... values) const {
    for (int64_t block = 0; block * kThreads < threads; ++block) {
      std::vector<std::unique_ptr<Warp>> warps;
      for (int i = 0; i < kThreads / 32; ++i) warps.push_back(std::make_unique<Warp>());
      std::vector<std::thread> running;
      for (int i = 0; i < kThreads; ++i) {
        running.emplace_back([&, i] {
          threadIdx.x = static_cast<unsigned>(i);
          blockIdx.x = static_cast<unsigned>(block);
          this_warp = warps[i / 32].get();
          kernel(values...);
          warps[i / 32]->barrier.arrive_and_drop();
        });
      }
      for (auto& thread : running) thread.join();
    }
  }
};

}  // namespace emulation
