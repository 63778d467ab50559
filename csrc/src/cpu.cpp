// The operators on the CPU: division of the work among threads, and the choice of instructions.
#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <tuple>

#include "arguments.h"
#include "cpu_kernels.h"
#include "instructions.h"

namespace focus_ops {

Instructions instructions() {
#if defined(__x86_64__)
  static const bool avx2 = [] {
    const char* wanted = std::getenv("FOCUS_OPS_INSTRUCTIONS");
    if (wanted && std::string(wanted) == "baseline") return false;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }();
  return avx2 ? Instructions::kAvx2 : Instructions::kBaseline;
#else
  return Instructions::kBaseline;
#endif
}

namespace {

// Calls the variant of a kernel that suits the processor.
#if defined(__x86_64__)
#define FOCUS_OPS_CALL(kernel, ...) \
  (instructions() == Instructions::kAvx2 ? avx2::kernel(__VA_ARGS__) : baseline::kernel(__VA_ARGS__))
#else
#define FOCUS_OPS_CALL(kernel, ...) baseline::kernel(__VA_ARGS__)
#endif

template <class R>
Samples<R> samples_of(const Arguments& arguments, const R* weights, bool softmax) {
  const auto& reference = arguments.reference;
  return {read<R>(arguments.positions), weights, reference ? read<R>(*reference) : nullptr,
          reference && reference->size(0) > 1, softmax};
}

template <class S>
void run_forward(const Arguments& arguments, const Tensor& output) {
  using R = Real<S>;
  const Geometry& g = arguments.geometry;
  const auto samples = samples_of(arguments, read<R>(arguments.weights), arguments.reference.has_value());
  const int64_t heads = g.batch * g.heads, threads = torch::stable::get_num_threads();
  // Where the heads alone do not occupy all threads, their queries are divided too.
  const int64_t parts = std::max<int64_t>(1, (2 * threads + heads - 1) / heads), share = (g.queries + parts - 1) / parts;
  const bool converts = !std::is_same_v<S, R>;
  torch::stable::parallel_for(0, heads * parts, 1, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<R[]> scratch(converts ? new R[g.length * g.channels] : nullptr);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / parts, first = std::min(task % parts * share, g.queries);
      const Rows rows{head / g.heads, head % g.heads, first, std::min(first + share, g.queries)};
      FOCUS_OPS_CALL(sample_forward<S>, g, read<S>(arguments.value), samples, write<S>(output), rows, scratch.get());
    }
  });
}

template <class R>
Tensor softmax_of(const Arguments& arguments) {
  const Geometry& g = arguments.geometry;
  Tensor weights = torch::stable::empty_like(arguments.weights);
  const R* from = read<R>(arguments.weights);
  R* to = write<R>(weights);
  torch::stable::parallel_for(0, g.batch * g.queries * g.heads, 256, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * g.samples();
    FOCUS_OPS_CALL(softmax_forward<R>, from + start, to + start, end - begin, g.samples());
  });
  return weights;
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

template <class S>
void run_backward(const Arguments& arguments, const Tensor& grad_output, const Three& results) {
  using R = Real<S>;
  const Geometry& g = arguments.geometry;
  const Tensor weights = arguments.reference ? softmax_of<R>(arguments) : arguments.weights;
  const auto samples = samples_of(arguments, read<R>(weights), false);
  const Gradients<S> gradients{write<S>(std::get<0>(results)), write<R>(std::get<1>(results)), write<R>(std::get<2>(results))};
  int64_t largest = 0;
  for (const Level& level : g.levels) largest = std::max(largest, level.height * level.width);
  torch::stable::parallel_for(0, g.batch * g.heads * g.level_count(), 1, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<R[]> scratch(new R[2 * largest * g.channels]);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / g.level_count();
      const Slice slice{head / g.heads, head % g.heads, task % g.level_count()};
      FOCUS_OPS_CALL(sample_backward<S>, g, read<S>(grad_output), read<S>(arguments.value), samples, gradients, slice,
                     scratch.get());
    }
  });
  if (!arguments.reference) return;
  torch::stable::parallel_for(0, g.batch * g.queries * g.heads, 256, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * g.samples();
    FOCUS_OPS_CALL(softmax_backward<R>, read<R>(weights) + start, gradients.weights + start, end - begin, g.samples());
  });
}

Tensor forward(const Arguments& arguments) {
  const Geometry& g = arguments.geometry;
  Tensor output = torch::stable::new_empty(arguments.value, {g.batch, g.queries, g.heads * g.channels});
  if (g.batch * g.queries * g.heads * g.channels == 0) return output;
  dispatch(arguments.value.scalar_type(), [&](auto* stored) {
    run_forward<std::remove_pointer_t<decltype(stored)>>(arguments, output);
  });
  return output;
}

Three backward(const Arguments& arguments, const Tensor& grad_output) {
  const Tensor gradient = checked_gradient(arguments, grad_output);
  Three results{torch::stable::empty_like(arguments.value), torch::stable::empty_like(arguments.positions),
                torch::stable::empty_like(arguments.weights)};
  dispatch(arguments.value.scalar_type(), [&](auto* stored) {
    run_backward<std::remove_pointer_t<decltype(stored)>>(arguments, gradient, results);
  });
  return results;
}

Tensor deform_attn(Tensor value, std::vector<int64_t> spatial_shapes, Tensor locations, Tensor weights) {
  return forward(checked(value, spatial_shapes, locations, weights));
}

// `deterministic` asks for nothing here: the CPU's sums never depend on the order of threads.
Three deform_attn_backward(Tensor grad_output, Tensor value, std::vector<int64_t> spatial_shapes, Tensor locations,
                           Tensor weights, bool /*deterministic*/) {
  return backward(checked(value, spatial_shapes, locations, weights), grad_output);
}

Tensor deform_attn_from_logits(Tensor value, std::vector<int64_t> spatial_shapes, Tensor reference_points, Tensor offsets,
                               Tensor logits) {
  return forward(checked(value, spatial_shapes, offsets, logits, reference_points));
}

Three deform_attn_from_logits_backward(Tensor grad_output, Tensor value, std::vector<int64_t> spatial_shapes,
                                       Tensor reference_points, Tensor offsets, Tensor logits, bool /*deterministic*/) {
  return backward(checked(value, spatial_shapes, offsets, logits, reference_points), grad_output);
}

}  // namespace
}  // namespace focus_ops

STABLE_TORCH_LIBRARY_IMPL(focus_ops, CPU, m) {
  m.impl("deform_attn", TORCH_BOX(&focus_ops::deform_attn));
  m.impl("deform_attn_backward", TORCH_BOX(&focus_ops::deform_attn_backward));
  m.impl("deform_attn_from_logits", TORCH_BOX(&focus_ops::deform_attn_from_logits));
  m.impl("deform_attn_from_logits_backward", TORCH_BOX(&focus_ops::deform_attn_from_logits_backward));
}
