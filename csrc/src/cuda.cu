// The operators on CUDA devices: memory, streams and launches around the kernels of cuda_kernels.h.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <limits>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "cuda_kernels.h"

// Weak: a torch without CUDA does not have it, and this library has to load there too.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace focus_ops::cuda {
namespace {

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

template <class R>
Samples<R> samples_of(const Arguments& arguments) {
  const auto& reference = arguments.reference;
  return {read<R>(arguments.positions), read<R>(arguments.weights), reference ? read<R>(*reference) : nullptr,
          reference && reference->size(0) > 1, reference.has_value()};
}

// Kernels read x and y at once. What does not lie on such a border, a part of another tensor, is copied.
Arguments with_aligned_positions(Arguments arguments) {
  const size_t pair = 2 * (real_type(arguments.value.scalar_type()) == ScalarType::Double ? sizeof(double) : sizeof(float));
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
  dispatch(arguments.value.scalar_type(), [&](auto* stored) {
    using S = std::remove_pointer_t<decltype(stored)>;
    // Without any pixel the value has no memory; what is never read still needs an address to count from.
    const S* value = g.length > 0 ? read<S>(arguments.value) : read<S>(output);
    forward<S>(launch, problem_of(g), value, samples_of<Real<S>>(arguments), write<S>(output));
  });
  return output;
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
    dispatch(stored_type, [&](auto* stored) {
      using S = std::remove_pointer_t<decltype(stored)>;
      using R = Real<S>;
      auto samples = samples_of<R>(arguments);
      Tensor weights = arguments.weights;  // lives until the kernels that read it are queued
      if (deterministic && samples.logits) {
        weights = torch::stable::empty_like(arguments.weights);
        softmax<R>(launch, p, samples.weights, write<R>(weights));
        samples.weights = read<R>(weights);
        samples.logits = false;
      }
      R* sums = write<R>(grad_value);
      const Gradients<S> gradients{deterministic ? nullptr : sums, write<R>(grad_positions), write<R>(grad_weights)};
      backward<S>(launch, p, read<S>(gradient), read<S>(arguments.value), samples, gradients);
      if (deterministic && g.channels > 0) ordered_value<S>(launch, p, read<S>(gradient), samples, sums);
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
