// What the operators are called with, checked; shared by the CPU and the CUDA side.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "geometry.h"

namespace focus_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// All tensors contiguous, on one device and fitting one another.
struct Arguments {
  Geometry geometry;
  Tensor value;
  Tensor positions;                 // locations, or offsets in pixels where there is a reference
  Tensor weights;                   // or logits where there is a reference; of the same type as positions
  std::optional<Tensor> reference;  // of the fused entry
};

// Throws std::runtime_error naming the shapes that came and those needed.
Arguments checked(const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& positions,
                  const Tensor& weights, const std::optional<Tensor>& reference = std::nullopt);

// The gradient of the output, contiguous, after the same checks.
Tensor checked_gradient(const Arguments& arguments, const Tensor& grad_output);

// float for half types and float, double for double.
ScalarType real_type(ScalarType stored);

// Runs `function` with a null pointer of the C++ type that stores `type`.
template <class Function>
void dispatch(ScalarType type, const Function& function) {
  switch (type) {
    case ScalarType::Float: return function(static_cast<float*>(nullptr));
    case ScalarType::Double: return function(static_cast<double*>(nullptr));
    case ScalarType::BFloat16: return function(static_cast<c10::BFloat16*>(nullptr));
    case ScalarType::Half: return function(static_cast<c10::Half*>(nullptr));
    default: STD_TORCH_CHECK(false, "focus_ops: value must be float32, float64, bfloat16 or float16");
  }
}

template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* write(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace focus_ops
