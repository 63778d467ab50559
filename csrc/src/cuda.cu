// The operators on CUDA devices: memory, streams and launches around the kernels of cuda_kernels.h.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/stableivalue_conversions.h>

#include <array>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <vector>

#include "arguments.h"
#include "cuda_kernels.h"

// Weak: a torch without CUDA does not have it, and this library has to load there too.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace focus_ops::cuda {
namespace {

using torch::stable::detail::from, torch::stable::detail::to;

cudaStream_t current_stream(int32_t device) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "focus_ops: this torch has no CUDA");
  void* stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == 0, "focus_ops: no current CUDA stream");
  return static_cast<cudaStream_t>(stream);
}

// Starts kernels on the current stream of a device.
class Launch {
 public:
  explicit Launch(int32_t device) : stream_(current_stream(device)) {
    if (cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) processors_ = 1;
  }

  template <class... Parameters, class... Values>
  void operator()(int64_t threads, void (*kernel)(Parameters...), Values... values) const {
    const int size = threads < int64_t{2} * kThreads * processors_ ? kFewThreads : kThreads;
    const int64_t blocks = (threads + size - 1) / size;
    STD_TORCH_CHECK(blocks <= std::numeric_limits<int32_t>::max(), "focus_ops: ", blocks, " blocks are more than a launch can have");
    kernel<<<static_cast<unsigned>(blocks), size, 0, stream_>>>(values...);
    const cudaError_t error = cudaGetLastError();
    STD_TORCH_CHECK(error == cudaSuccess, "focus_ops: the kernel could not be started: ", cudaGetErrorString(error));
  }

 private:
  cudaStream_t stream_;
  int processors_ = 1;
};

Problem problem_of(const Geometry& g) {
  STD_TORCH_CHECK(g.level_count() <= kMaximumLevels, "focus_ops: ", g.level_count(), " levels, on CUDA at most ", kMaximumLevels);
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  const int64_t groups = g.batch * g.queries * g.heads;
  STD_TORCH_CHECK(groups <= kLargest && g.heads * g.channels <= kLargest && 2 * g.samples() <= kLargest,
                  "focus_ops: batch * queries * heads (", groups, "), heads * channels (", g.heads * g.channels,
                  ") and 2 * levels * points (", 2 * g.samples(), ") must each be below 2^31 on CUDA");
  Problem p{g.batch, g.length, g.queries, groups, static_cast<int>(g.heads), static_cast<int>(g.channels),
            static_cast<int>(g.points), static_cast<int>(g.level_count()), {}, {}, {}};
  for (size_t l = 0; l < g.levels.size(); ++l) {
    p.height[l] = static_cast<int>(g.levels[l].height);
    p.width[l] = static_cast<int>(g.levels[l].width);
    p.start[l] = g.levels[l].start;
  }
  return p;
}

template <class R, class P>
Samples<R, P> samples_of(const Arguments& arguments) {
  const auto& reference = arguments.reference;
  return {read<P>(arguments.positions), read<P>(arguments.weights), reference ? read<R>(*reference) : nullptr,
          reference && reference->size(0) > 1, reference.has_value()};
}

// Runs `function` with null pointers of the types that store the value, and positions and weights.
template <class Function>
void dispatch_both(const Arguments& arguments, const Function& function) {
  dispatch(arguments.value.scalar_type(), [&](auto* stored) {
    using S = std::remove_pointer_t<decltype(stored)>;
    if constexpr (!std::is_same_v<S, Real<S>>) {
      if (arguments.positions.scalar_type() == arguments.value.scalar_type()) return function(stored, stored);
    }
    function(stored, static_cast<Real<S>*>(nullptr));
  });
}

// Kernels read x and y at once. What does not lie on such a border, a part of another tensor, is copied.
Arguments with_aligned_positions(Arguments arguments) {
  const size_t pair = 2 * arguments.positions.element_size();
  if (reinterpret_cast<uintptr_t>(arguments.positions.const_data_ptr()) % pair != 0) {
    arguments.positions = torch::stable::clone(arguments.positions);
  }
  return arguments;
}

Tensor run_forward(const Arguments& given) {
  const Arguments arguments = with_aligned_positions(given);
  const Geometry& g = arguments.geometry;
  Tensor output = torch::stable::new_empty(arguments.value, {g.batch, g.queries, g.heads * g.channels});
  if (g.batch * g.queries * g.heads * g.channels == 0) return output;
  const int32_t device = arguments.value.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  const Launch launch(device);
  dispatch_both(arguments, [&](auto* stored, auto* predicted) {
    using S = std::remove_pointer_t<decltype(stored)>;
    using P = std::remove_pointer_t<decltype(predicted)>;
    // Without any pixel the value has no memory; what is never read still needs an address to count from.
    const S* value = g.length > 0 ? read<S>(arguments.value) : read<S>(output);
    forward<S>(launch, problem_of(g), value, samples_of<Real<S>, P>(arguments), write<S>(output));
  });
  return output;
}

// Of a list of numbers: the sorted ones, and where each stood before. Equal ones stay in their order.
std::tuple<Tensor, Tensor> sorted(const Tensor& list) {
  std::array<StableIValue, 4> stack{from(list), from(std::optional<bool>(true)), from(int64_t{0}), from(false)};
  STD_TORCH_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION) == 0, "focus_ops: no memory to sort in");
  return {to<Tensor>(stack[0]), to<Tensor>(stack[1])};
}

// The gradient of the value, in an order that is the same in every run.
template <class S, class P>
void ordered_value(const Launch& launch, const Problem& p, const Tensor& gradient, const Samples<Real<S>, P>& samples, const Tensor& sums) {
  const int64_t corners = 4 * p.groups * p.levels * p.points;
  const Tensor pixels = torch::stable::new_empty(sums, {corners}, ScalarType::Long), shares = torch::stable::new_empty(sums, {corners});
  list_corners<S>(launch, p, samples, write<int64_t>(pixels), write<Real<S>>(shares));
  const auto [ordered, order] = sorted(pixels);
  sum_corners<S>(launch, p, read<S>(gradient), read<int64_t>(ordered), read<int64_t>(order), read<Real<S>>(shares), write<Real<S>>(sums));
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

Three run_backward(const Arguments& given, const Tensor& grad_output, bool deterministic) {
  const Arguments arguments = with_aligned_positions(given);
  const Geometry& g = arguments.geometry;
  const Tensor gradient = checked_gradient(arguments, grad_output);
  const ScalarType stored_type = arguments.value.scalar_type(), real = real_type(stored_type);
  const int32_t device = arguments.value.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  // Sums of half types are kept in float and rounded once.
  Tensor grad_value = torch::stable::new_zeros(arguments.value, {g.batch, g.length, g.heads, g.channels}, real);
  Tensor grad_positions = torch::stable::empty_like(arguments.positions);
  Tensor grad_weights = torch::stable::empty_like(arguments.weights);
  if (g.batch * g.queries * g.heads * g.samples() > 0) {
    const Launch launch(device);
    const Problem p = problem_of(g);
    dispatch_both(arguments, [&](auto* stored, auto* predicted) {
      using S = std::remove_pointer_t<decltype(stored)>;
      using P = std::remove_pointer_t<decltype(predicted)>;
      using R = Real<S>;
      const auto samples = samples_of<R, P>(arguments);
      Tensor before_softmax = grad_weights;
      if (!std::is_same_v<P, R>) before_softmax = torch::stable::new_empty(grad_value, {p.groups, g.samples()});
      R* sums = deterministic ? nullptr : write<R>(grad_value);
      const Gradients<S, P> gradients{sums, write<P>(grad_positions), write<P>(grad_weights), write<R>(before_softmax)};
      backward<S>(launch, p, read<S>(gradient), read<S>(arguments.value), samples, gradients);
      if (deterministic) ordered_value<S>(launch, p, gradient, samples, grad_value);
    });
  }
  return {real == stored_type ? grad_value : torch::stable::to(grad_value, stored_type), grad_positions, grad_weights};
}

Tensor deform_attn(Tensor value, std::vector<int64_t> spatial_shapes, Tensor locations, Tensor weights) {
  return run_forward(checked(value, spatial_shapes, locations, weights));
}

Three deform_attn_backward(Tensor grad_output, Tensor value, std::vector<int64_t> spatial_shapes, Tensor locations,
                           Tensor weights, bool deterministic) {
  return run_backward(checked(value, spatial_shapes, locations, weights), grad_output, deterministic);
}

Tensor deform_attn_from_logits(Tensor value, std::vector<int64_t> spatial_shapes, Tensor reference_points, Tensor offsets,
                               Tensor logits) {
  return run_forward(checked(value, spatial_shapes, offsets, logits, reference_points));
}

Three deform_attn_from_logits_backward(Tensor grad_output, Tensor value, std::vector<int64_t> spatial_shapes,
                                       Tensor reference_points, Tensor offsets, Tensor logits, bool deterministic) {
  return run_backward(checked(value, spatial_shapes, offsets, logits, reference_points), grad_output, deterministic);
}

}  // namespace
}  // namespace focus_ops::cuda

STABLE_TORCH_LIBRARY_IMPL(focus_ops, CUDA, m) {
  m.impl("deform_attn", TORCH_BOX(&focus_ops::cuda::deform_attn));
  m.impl("deform_attn_backward", TORCH_BOX(&focus_ops::cuda::deform_attn_backward));
  m.impl("deform_attn_from_logits", TORCH_BOX(&focus_ops::cuda::deform_attn_from_logits));
  m.impl("deform_attn_from_logits_backward", TORCH_BOX(&focus_ops::cuda::deform_attn_from_logits_backward));
}
