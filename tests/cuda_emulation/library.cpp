// The CUDA kernels and their dispatch, run on the host; called from tests/test_ops_cuda.py with pointers into CPU tensors.
#include "cuda_emulation.h"

#include "cuda_kernels.h"

namespace {

using namespace focus_ops;

struct Call {
  int64_t batch, length, queries, heads, channels, points, levels;
  const int64_t* shapes;  // height and width of each level
  const void *value, *positions, *weights, *reference, *grad_output;
  int64_t reference_batch;
  void *output, *grad_value, *grad_positions, *grad_weights, *own_weights;
  bool deterministic;
};

cuda::Problem problem_of(const Call& call) {
  cuda::Problem p{call.batch, call.length, call.queries, call.heads, call.channels, call.points,
                  call.batch * call.queries * call.heads, static_cast<int>(call.levels), {}, {}, {}};
  int64_t start = 0;
  for (int l = 0; l < p.levels; ++l) {
    p.height[l] = static_cast<int>(call.shapes[2 * l]);
    p.width[l] = static_cast<int>(call.shapes[2 * l + 1]);
    p.start[l] = start;
    start += call.shapes[2 * l] * call.shapes[2 * l + 1];
  }
  return p;
}

template <class S>
void run(const Call& call) {
  using R = Real<S>;
  const emulation::Launch<cuda::kThreads> launch;
  const cuda::Problem p = problem_of(call);
  cuda::Samples<R> samples{static_cast<const R*>(call.positions), static_cast<const R*>(call.weights),
                           static_cast<const R*>(call.reference), call.reference_batch > 1, call.reference != nullptr};
  const S *value = static_cast<const S*>(call.value), *grad_output = static_cast<const S*>(call.grad_output);
  cuda::forward<S>(launch, p, value, samples, static_cast<S*>(call.output));
  if (call.deterministic && samples.logits) {
    cuda::softmax<R>(launch, p, samples.weights, static_cast<R*>(call.own_weights));
    samples.weights = static_cast<const R*>(call.own_weights);
    samples.logits = false;
  }
  R* grad_value = static_cast<R*>(call.grad_value);
  const cuda::Gradients<S> gradients{call.deterministic ? nullptr : grad_value, static_cast<R*>(call.grad_positions),
                                     static_cast<R*>(call.grad_weights)};
  cuda::backward<S>(launch, p, grad_output, value, samples, gradients);
  if (call.deterministic) cuda::ordered_value<S>(launch, p, grad_output, samples, grad_value);
}

}  // namespace

extern "C" void run_float32(const Call* call) { run<float>(*call); }
extern "C" void run_float64(const Call* call) { run<double>(*call); }
extern "C" void run_bfloat16(const Call* call) { run<c10::BFloat16>(*call); }
extern "C" void run_float16(const Call* call) { run<c10::Half>(*call); }
