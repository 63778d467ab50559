// Part of cpu_kernels_impl.h: softmax and its derivative.

namespace focus_ops::FOCUS_OPS_TARGET {
namespace {

// exp for arguments up to 0, written so that loops over it become vector code, which std::exp prevents: the usual reduction to
// [-ln 2 / 2, ln 2 / 2] and Cephes' polynomial. The relative error stays below 2e-7.
FOCUS_OPS_INLINE float exponential(float x) {
  x = std::max(x, -87.0f);  // in this order NaN stays
  constexpr float kRound = 12582912.0f;  // adding and subtracting 1.5 * 2^23 rounds to the nearest integer
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}
FOCUS_OPS_INLINE double exponential(double x) { return std::exp(x); }

// Softmax of rows as short as four numbers: the exponentials, which cost most, run over several rows at once. kCount is the length
// of a row, 0 where it is only known at run time. A row without a number above minus infinity is NaN, as in PyTorch.
template <int64_t kCount, class R>
void softmax_rows(const R* logits, R* weights, int64_t rows, int64_t length) {
  const int64_t count = kCount ? kCount : length;
  for (int64_t row = 0; row < rows; ++row) {
    const R* from = logits + row * count;
    R largest = -std::numeric_limits<R>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, from[i]);
    for (int64_t i = 0; i < count; ++i) weights[row * count + i] = from[i] - largest;
  }
#pragma omp simd
  for (int64_t i = 0; i < rows * count; ++i) weights[i] = exponential(weights[i]);
  for (int64_t row = 0; row < rows; ++row) {
    R sum = 0, *to = weights + row * count;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) sum += to[i];
    const R scale = 1 / sum;
    for (int64_t i = 0; i < count; ++i) to[i] *= scale;
  }
}

}  // namespace

template <class R>
void softmax_forward(const R* logits, R* weights, int64_t rows, int64_t count) {
  switch (count) {
    case 4: return softmax_rows<4>(logits, weights, rows, count);
    case 12: return softmax_rows<12>(logits, weights, rows, count);
    default: return softmax_rows<0>(logits, weights, rows, count);
  }
}

// Turns the gradient with respect to the weights into the one with respect to the logits, in place.
template <class R>
void softmax_backward(const R* weights, R* gradient, int64_t rows, int64_t count) {
  for (int64_t row = 0; row < rows; ++row, weights += count, gradient += count) {
    R mean = 0;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < count; ++i) mean += weights[i] * gradient[i];
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) gradient[i] = weights[i] * (gradient[i] - mean);
  }
}

}  // namespace focus_ops::FOCUS_OPS_TARGET
