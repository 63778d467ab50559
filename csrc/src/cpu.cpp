// The operators on the CPU: division of the work among threads, and the choice of instructions.
#include <torch/csrc/stable/library.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <tuple>

#include "arguments.h"
#include "cpu_kernels.h"
#include "instructions.h"

namespace focus_ops {

const char* name_of(Instructions instructions) {
  switch (instructions) {
    case Instructions::kAvx512: return "avx512";
    case Instructions::kAvx2: return "avx2";
    default: return "baseline";
  }
}

Instructions instructions() {
#if defined(__x86_64__)
  static const Instructions chosen = [] {
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    const Instructions best = avx512 ? Instructions::kAvx512 : avx2 ? Instructions::kAvx2 : Instructions::kBaseline;
    const char* wanted = std::getenv("FOCUS_OPS_INSTRUCTIONS");
    for (const Instructions lower : {Instructions::kBaseline, Instructions::kAvx2}) {
      if (wanted && std::string(wanted) == name_of(lower)) return std::min(lower, best);
    }
    return best;
  }();
  return chosen;
#else
  return Instructions::kBaseline;
#endif
}

namespace {

// Calls the variant of a kernel that suits the processor.
#if defined(__x86_64__)
#define FOCUS_OPS_CALL(kernel, ...)                                              \
  switch (instructions()) {                                                      \
    case Instructions::kAvx512: avx512::kernel(__VA_ARGS__); break;              \
    case Instructions::kAvx2: avx2::kernel(__VA_ARGS__); break;                  \
    default: baseline::kernel(__VA_ARGS__);                                      \
  }
#else
#define FOCUS_OPS_CALL(kernel, ...) baseline::kernel(__VA_ARGS__)
#endif

constexpr int64_t kBlock = 64;  // rows of weights that stay in the first cache

// Memory that begins with a line of the cache: vectors that lie across two lines take twice as long.
constexpr std::align_val_t kLine{64};
struct FreeLines {
  void operator()(void* lines) const { operator delete(lines, kLine); }
};
template <class R>
std::unique_ptr<R[], FreeLines> scratch_of(int64_t size) {
  return std::unique_ptr<R[], FreeLines>(static_cast<R*>(operator new(size * sizeof(R), kLine)));
}

// How many tasks of so many multiplications are worth a thread: waking one costs more than small sums take.
int64_t grain(int64_t multiplications) {
  constexpr int64_t kWorthAThread = 1 << 17;  // some tens of microseconds
  return std::max<int64_t>(1, kWorthAThread / std::max<int64_t>(1, multiplications));
}

Tensor converted(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

// The weights of the samples: as given, or the softmax of the logits.
template <class R>
Tensor weights_of(const Arguments& arguments) {
  if (!arguments.reference) return arguments.weights;
  const Geometry& g = arguments.geometry;
  Tensor weights = torch::stable::empty_like(arguments.weights);
  const R* from = read<R>(arguments.weights);
  R* to = write<R>(weights);
  torch::stable::parallel_for(0, g.batch * g.queries * g.heads, 16 * kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += kBlock) {
      const int64_t start = row * g.samples(), rows = std::min(kBlock, end - row);
      FOCUS_OPS_CALL(softmax_forward<R>, from + start, to + start, rows, g.samples());
    }
  });
  return weights;
}

template <class R>
Samples<R> samples_of(const Arguments& arguments, const Tensor& weights) {
  const auto& reference = arguments.reference;
  return {read<R>(arguments.positions), read<R>(weights), reference ? read<R>(*reference) : nullptr,
          reference && reference->size(0) > 1};
}

// One query after another, all heads of it: what a query reads and writes lies together.
template <class S>
void forward_by_query(const Arguments& arguments, const Samples<Real<S>>& samples, const Tensor& output) {
  const Geometry& g = arguments.geometry;
  const int64_t work = 4 * g.heads * g.samples() * g.channels;  // of a query
  torch::stable::parallel_for(0, g.batch * g.queries, grain(work), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t batch = begin / g.queries, first = begin % g.queries, last = std::min(g.queries, first + end - begin);
      const Rows rows{batch, 0, g.heads, first, last};
      FOCUS_OPS_CALL(sample_forward<S>, g, read<S>(arguments.value), samples, write<S>(output), rows, nullptr);
      begin += last - first;
    }
  });
}

// One head after another, its positions copied beforehand: half types would otherwise be converted at each of the four corners of
// each sample, and values of a large picture fetched from far behind, again and again.
template <class S>
void forward_by_head(const Arguments& arguments, const Samples<Real<S>>& samples, const Tensor& output) {
  const Geometry& g = arguments.geometry;
  const int64_t heads = g.batch * g.heads, threads = torch::stable::get_num_threads();
  // Where the heads alone do not occupy all threads, their queries are divided too.
  const int64_t parts = heads >= threads ? 1 : (threads + heads - 1) / heads, share = (g.queries + parts - 1) / parts;
  const int64_t work = (4 * share * g.samples() + g.length) * g.channels;
  torch::stable::parallel_for(0, heads * parts, grain(work), [&](int64_t begin, int64_t end) {
    const auto scratch = scratch_of<Real<S>>(g.length * g.channels);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / parts % g.heads, first = std::min(task % parts * share, g.queries);
      const Rows rows{task / parts / g.heads, head, head + 1, first, std::min(first + share, g.queries)};
      FOCUS_OPS_CALL(sample_forward<S>, g, read<S>(arguments.value), samples, write<S>(output), rows, scratch.get());
    }
  });
}

template <class S>
void run_forward(const Arguments& arguments, const Tensor& output) {
  const Geometry& g = arguments.geometry;
  const auto samples = samples_of<Real<S>>(arguments, arguments.weights);
  constexpr int64_t kNear = 4 << 20;  // bytes; more than the nearer caches hold. Measured.
  const bool converts = !std::is_same_v<S, Real<S>>, far = g.length * g.heads * g.channels * int64_t{sizeof(S)} > kNear;
  const bool many = g.queries * g.samples() > g.length;  // which make the copy worth it
  (converts || far) && many ? forward_by_head<S>(arguments, samples, output) : forward_by_query<S>(arguments, samples, output);
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

template <class S>
void run_backward(const Arguments& arguments, const Tensor& grad_output, const Three& results) {
  using R = Real<S>;
  const Geometry& g = arguments.geometry;
  const Tensor weights = weights_of<R>(arguments);
  const auto samples = samples_of<R>(arguments, weights);
  const Gradients<S> gradients{write<S>(std::get<0>(results)), write<R>(std::get<1>(results)), write<R>(std::get<2>(results))};
  int64_t largest = 0;
  for (const Level& level : g.levels) largest = std::max(largest, level.height * level.width);
  const int64_t work = 8 * (g.queries * g.points + largest) * g.channels;  // of a slice, reading and adding
  torch::stable::parallel_for(0, g.batch * g.heads * g.level_count(), grain(work), [&](int64_t begin, int64_t end) {
    const auto scratch = scratch_of<R>(2 * largest * g.channels);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / g.level_count();
      const Slice slice{head / g.heads, head % g.heads, task % g.level_count()};
      FOCUS_OPS_CALL(sample_backward<S>, g, read<S>(grad_output), read<S>(arguments.value), samples, gradients, slice,
                     scratch.get());
    }
  });
  if (!arguments.reference) return;
  torch::stable::parallel_for(0, g.batch * g.queries * g.heads, 16 * kBlock, [&](int64_t begin, int64_t end) {
    const int64_t start = begin * g.samples();
    FOCUS_OPS_CALL(softmax_backward<R>, read<R>(weights) + start, gradients.weights + start, end - begin, g.samples());
  });
}

// The kernels of the CPU read positions and weights as they compute with them.
Arguments with_real_positions(Arguments arguments) {
  const ScalarType real = real_type(arguments.value.scalar_type());
  arguments.positions = converted(arguments.positions, real);
  arguments.weights = converted(arguments.weights, real);
  return arguments;
}

Tensor forward(const Arguments& given) {
  const Arguments arguments = with_real_positions(given);
  const Geometry& g = arguments.geometry;
  Tensor output = torch::stable::new_empty(arguments.value, {g.batch, g.queries, g.heads * g.channels});
  if (g.batch * g.queries * g.heads * g.channels == 0) return output;
  dispatch(arguments.value.scalar_type(), [&](auto* stored) {
    run_forward<std::remove_pointer_t<decltype(stored)>>(arguments, output);
  });
  return output;
}

Three backward(const Arguments& given, const Tensor& grad_output) {
  const Arguments arguments = with_real_positions(given);
  const Tensor gradient = checked_gradient(arguments, grad_output);
  Three results{torch::stable::empty_like(arguments.value), torch::stable::empty_like(arguments.positions),
                torch::stable::empty_like(arguments.weights)};
  dispatch(arguments.value.scalar_type(), [&](auto* stored) {
    run_backward<std::remove_pointer_t<decltype(stored)>>(arguments, gradient, results);
  });
  const auto& [grad_value, grad_positions, grad_weights] = results;
  return {grad_value, converted(grad_positions, given.positions.scalar_type()), converted(grad_weights, given.weights.scalar_type())};
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
