// The CPU kernels' interface. Their templates (cpu_kernels_impl.h) are compiled once for each set of instructions named here.
#pragma once

#include "geometry.h"

namespace focus_ops {

// What the queries look at; all arrays are contiguous. In pixels of a level, whose centres lie at i + 0.5, a sample lies at
// position * size (plain entry, `reference` null) or at reference * size + position (fused entry).
template <class R>
struct Samples {
  const R* positions;        // [batch, queries, heads, levels, points, 2], (x, y)
  const R* weights;          // [batch, queries, heads, levels, points]; in the fused entry's forward pass their logits
  const R* reference;        // [batch or 1, queries, levels, 2], (x, y) in 0..1, or null
  bool reference_per_batch;  // false where all pictures share the reference points
};

// Part of the forward pass: some queries and heads of one picture, each range without its end.
struct Rows {
  int64_t batch;
  int64_t first_head, last_head;
  int64_t first, last;
};

// One head of one picture in one level: the unit of the backward pass. Nothing outside of it is written, so that no sum depends
// on the number of threads.
struct Slice {
  int64_t batch;
  int64_t head;
  int64_t level;
};

template <class S>
struct Gradients {
  S* value;            // [batch, length, heads, channels]
  Real<S>* positions;  // as Samples::positions
  Real<S>* weights;    // as Samples::weights, with respect to the weights themselves
};

// `scratch` of the backward pass has room for twice the positions of one head in the largest level. That of the forward pass is
// null, or has room for all positions of the only head in `Rows`, which are then converted once and sampled there.
#define FOCUS_OPS_DECLARE_KERNELS                                                                                          \
  template <class S>                                                                                                       \
  void sample_forward(const Geometry&, const S* value, const Samples<Real<S>>&, S* output, const Rows&, Real<S>* scratch); \
  template <class S>                                                                                                       \
  void sample_backward(const Geometry&, const S* grad_output, const S* value, const Samples<Real<S>>&,                     \
                       const Gradients<S>&, const Slice&, Real<S>* scratch);                                               \
  template <class R>                                                                                                       \
  void softmax_forward(const R* logits, R* weights, int64_t rows, int64_t count);                                          \
  template <class R>                                                                                                       \
  void softmax_backward(const R* weights, R* gradient, int64_t rows, int64_t count);

namespace baseline {
FOCUS_OPS_DECLARE_KERNELS
}
namespace avx2 {
FOCUS_OPS_DECLARE_KERNELS
}
namespace avx512 {
FOCUS_OPS_DECLARE_KERNELS
}
#undef FOCUS_OPS_DECLARE_KERNELS

}  // namespace focus_ops
