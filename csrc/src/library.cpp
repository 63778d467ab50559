// The operators' signatures. Their derivatives, shapes without data and autocast rules are
// registered in Python (focus_ops/registration.py).
#include <torch/csrc/stable/library.h>

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
