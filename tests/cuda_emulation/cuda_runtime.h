// Takes the place of CUDA's header: as much of the language and the runtime as the kernels and their host code use.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

#include "block.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static thread_local  // all threads of a block run in one thread of the host

using std::max;
using std::min;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  return emulation::exchange(mask, value, emulation::Step::kXor, distance);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from) {
  return emulation::exchange(mask, value, emulation::Step::kIndex, from);
}
inline void __syncwarp() { emulation::exchange(0xffffffffu, 0, emulation::Step::kXor, 0); }
inline void __syncthreads() { emulation::wait_for_block(); }

template <class T>
T __ldg(const T* pointer) {
  emulation::need_alignment(pointer, alignof(T));
  return *pointer;
}

template <class T>
void atomicAdd(T* to, T value) {
  std::atomic_ref<T>(*to).fetch_add(value, std::memory_order_relaxed);
}

// red.global.add.v4.f32: four sums at once, at an address that is a multiple of 16.
inline void emulated_add_four(float* to, float a, float b, float c, float d) {
  emulation::need_alignment(to, 16);
  const float values[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) atomicAdd(to + i, values[i]);
}

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 1;  // so small that tests start blocks of either size
  return cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t) { return "none"; }
