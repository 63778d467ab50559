// The operators' signatures, and how this library was built. Their derivatives, shapes without data and autocast rules are
// registered in Python (focus_ops/registration.py).
#include <torch/csrc/stable/library.h>

#include <string>

#include "instructions.h"

STABLE_TORCH_LIBRARY(focus_ops, m) {
  m.def("deform_attn(Tensor value, SymInt[] spatial_shapes, Tensor locations, Tensor weights) -> Tensor");
  m.def(
      "deform_attn_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes, Tensor locations, Tensor weights, "
      "bool deterministic) -> (Tensor, Tensor, Tensor)");
  m.def(
      "deform_attn_from_logits(Tensor value, SymInt[] spatial_shapes, Tensor reference_points, Tensor offsets, "
      "Tensor logits) -> Tensor");
  m.def(
      "deform_attn_from_logits_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes, Tensor reference_points, "
      "Tensor offsets, Tensor logits, bool deterministic) -> (Tensor, Tensor, Tensor)");
}

#if defined(_WIN32)
#define FOCUS_OPS_EXPORT __declspec(dllexport)
#else
#define FOCUS_OPS_EXPORT __attribute__((visibility("default")))
#endif

// "", or the CUDA toolkit and architectures that the library was compiled with; FOCUS_OPS_CUDA comes from setup.py.
#if !defined(FOCUS_OPS_CUDA)
#define FOCUS_OPS_CUDA ""
#endif
extern "C" FOCUS_OPS_EXPORT const char* focus_ops_cuda() { return FOCUS_OPS_CUDA; }

extern "C" FOCUS_OPS_EXPORT const char* focus_ops_instructions() {
  return focus_ops::name_of(focus_ops::instructions());
}
