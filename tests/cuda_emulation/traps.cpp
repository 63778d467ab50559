// Kernels that do what CUDA leaves undefined, one for each argument: the emulation has to end the process. With "none" it must not.
#include <cuda_runtime.h>

#include <string>

namespace {

__global__ void fine(float* sums) {
  float sum = static_cast<float>(threadIdx.x % 32);
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  __shared__ float shared[64];
  shared[threadIdx.x] = sum + __shfl_sync(0xffffffffu, sum, 3);
  __syncthreads();
  sums[64 * blockIdx.x + threadIdx.x] = shared[63 - threadIdx.x];
}

__global__ void left() {
  if (threadIdx.x == 7) return;
  __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

__global__ void distance() { __shfl_xor_sync(0xffffffffu, 1.0f, threadIdx.x == 7 ? 2 : 1); }

__global__ void wait() {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void between() {
  if (threadIdx.x == 7) __syncthreads();
  __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

__global__ void alignment(float* sums) { emulated_add_four(sums + 1, 1, 1, 1, 1); }

__global__ void race(float* sums) {
  if (threadIdx.x == 0) sums[0] = static_cast<float>(blockIdx.x);
}

__global__ void race_of_lanes(float* sums) {
  sums[threadIdx.x] = 1;
  sums[64 + threadIdx.x] = sums[(threadIdx.x + 1) % 64];
}

}  // namespace

int main(int, char** arguments) {
  const std::string name = arguments[1];
  alignas(16) float sums[192] = {};
  const auto run = [](auto kernel, unsigned blocks, auto... values) { emulation::launch(kernel, blocks, 64, 0, nullptr, values...); };
  if (name == "none") {
    run(fine, 3, sums + 0);
    for (int i = 0; i < 192; ++i)
      if (sums[i] != 2 * 496) return 1;
  }
  if (name == "left") run(left, 1);
  if (name == "distance") run(distance, 1);
  if (name == "wait") run(wait, 1);
  if (name == "between") run(between, 1);
  if (name == "alignment") run(alignment, 1, sums + 0);
  if (name == "race") run(race, 2, sums + 0);
  if (name == "race of lanes") run(race_of_lanes, 1, sums + 0);
  std::puts("done");
}
