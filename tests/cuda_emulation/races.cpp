// The kernels under the thread sanitizer: blocks in two threads at once, the lanes of a warp ordered by nothing but their shuffles.
// Prints "done" where no thread touched what another was writing.
#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "cuda_kernels.h"

using namespace focus_ops;

namespace {

struct Launch {
  template <class... Parameters, class... Values>
  void operator()(int64_t threads, void (*kernel)(Parameters...), Values... values) const {
    emulation::launch(kernel, static_cast<unsigned>((threads + cuda::kThreads - 1) / cuda::kThreads), cuda::kThreads, 0, nullptr, values...);
  }
};

// Many queries that all look at the same few pixels.
template <class S, class P = Real<S>>
void run(int channels, bool reference, bool deterministic) {
  using R = Real<S>;
  constexpr int heads = 2, queries = 40, points = 3, levels = 2, length = 4 + 6, samples = queries * heads * levels * points;
  cuda::Problem p{1, length, queries, queries * heads, heads, channels, points, levels, {2, 2}, {2, 3}, {0, 4}};
  std::vector<int4> room((length + 2 * queries) * heads * channels * sizeof(S) / 16 + 3);
  S* value = reinterpret_cast<S*>(room.data());
  S* output = value + (length * heads * channels + 15) / 16 * 16;
  S* grad_output = output + (queries * heads * channels + 15) / 16 * 16;
  std::vector<P> positions(2 * samples), weights(samples, P(0.1f)), grad_positions(2 * samples), grad_weights(samples);
  std::vector<R> points_of(2 * queries * levels, R(0.5)), before(samples);
  std::vector<int4> grad_room(length * heads * channels * sizeof(R) / 16 + 1);
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = P((i % 11) / 10.0f - (reference ? 0.5f : 0.0f));
  R* grad_value = reinterpret_cast<R*>(grad_room.data());

  const Launch launch;
  const cuda::Samples<R, P> given{positions.data(), weights.data(), reference ? points_of.data() : nullptr, false, reference};
  cuda::forward<S>(launch, p, value, given, output);
  const cuda::Gradients<S, P> gradients{deterministic ? nullptr : grad_value, grad_positions.data(), grad_weights.data(), before.data()};
  cuda::backward<S>(launch, p, grad_output, value, given, gradients);
  if (!deterministic) return;
  std::vector<int64_t> pixels(4 * samples), order(4 * samples);
  std::vector<R> shares(4 * samples);
  cuda::list_corners<S>(launch, p, given, pixels.data(), shares.data());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return pixels[a] < pixels[b]; });
  std::sort(pixels.begin(), pixels.end());
  cuda::sum_corners<S>(launch, p, grad_output, pixels.data(), order.data(), shares.data(), grad_value);
}

}  // namespace

int main() {
  for (const bool reference : {false, true}) {
    for (const bool deterministic : {false, true}) {
      run<float>(32, reference, deterministic);
      run<float>(5, reference, deterministic);
      run<c10::BFloat16>(64, reference, deterministic);
      run<double>(3, reference, deterministic);
      if (reference) run<c10::Half, c10::Half>(32, reference, deterministic);
    }
  }
  std::puts("done");
}
