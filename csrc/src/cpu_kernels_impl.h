// CPU kernels, included by one file per set of instructions with FOCUS_OPS_TARGET naming its namespace.
//
// Plain loops over the channels of a head, which compilers turn into vector code: measured as fast as intrinsics. Common
// numbers of channels are known at compile time; any other takes the same code with a run-time count. For the compiler to see
// the constant, what loops over channels must be inlined (measured: twice as fast).

#define FOCUS_OPS_INLINE inline __attribute__((always_inline))

namespace focus_ops::FOCUS_OPS_TARGET {
namespace {

// Copies `count` positions of one head, `stride` elements apart, into a block without gaps.
template <class From, class To>
FOCUS_OPS_INLINE void gather(const From* from, int64_t stride, int64_t count, int64_t channels, To* __restrict to) {
  for (int64_t i = 0; i < count; ++i)
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) to[i * channels + c] = static_cast<To>(from[i * stride + c]);
}

// Asks for numbers that are needed soon and that the processor does not foresee: those of one head lie far apart. The address may
// lie behind the end; nothing is read then.
template <class T>
FOCUS_OPS_INLINE void prefetch(const T* numbers, int64_t first, int64_t count) {
  constexpr uintptr_t kLine = 64;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(numbers) + first * sizeof(T), end = begin + count * sizeof(T);
  for (uintptr_t line = begin / kLine * kLine; line < end; line += kLine) __builtin_prefetch(reinterpret_cast<const void*>(line));
}

// How many queries "soon" is; measured.
constexpr int64_t kAhead = 8;

}  // namespace
}  // namespace focus_ops::FOCUS_OPS_TARGET

#include "cpu_softmax_impl.h"

#include "cpu_forward_impl.h"  // needs the softmax
#include "cpu_backward_impl.h"

namespace focus_ops::FOCUS_OPS_TARGET {

#define FOCUS_OPS_INSTANTIATE_SAMPLING(S)                                                                                     \
  template void sample_forward<S>(const Geometry&, const S*, const Samples<Real<S>>&, S*, const Rows&, Real<S>*);             \
  template void sample_backward<S>(const Geometry&, const S*, const S*, const Samples<Real<S>>&, const Gradients<S>&,         \
                                   const Slice&, Real<S>*);
#define FOCUS_OPS_INSTANTIATE_SOFTMAX(R)                             \
  template void softmax_forward<R>(const R*, R*, int64_t, int64_t);  \
  template void softmax_backward<R>(const R*, R*, int64_t, int64_t);

FOCUS_OPS_INSTANTIATE_SAMPLING(float)
FOCUS_OPS_INSTANTIATE_SAMPLING(double)
FOCUS_OPS_INSTANTIATE_SAMPLING(c10::BFloat16)
FOCUS_OPS_INSTANTIATE_SAMPLING(c10::Half)
FOCUS_OPS_INSTANTIATE_SOFTMAX(float)
FOCUS_OPS_INSTANTIATE_SOFTMAX(double)

}  // namespace focus_ops::FOCUS_OPS_TARGET
