// CPU kernels, included by one file per set of instructions with FOCUS_OPS_TARGET naming its namespace.
//
// Plain loops over the channels of a head, which compilers turn into vector code: measured as fast as intrinsics. Common
// numbers of channels are known at compile time; any other takes the same code with a run-time count. For the compiler to see
// the constant, what loops over channels must be inlined (measured: twice as fast).

#define FOCUS_OPS_INLINE inline __attribute__((always_inline))

namespace focus_ops::FOCUS_OPS_TARGET {
namespace {

// The four pixels around a sample: top left, top right, bottom left, bottom right.
template <class R>
struct Corners {
  int64_t pixel[4];  // within the level
  bool inside[4];
  bool all_inside;
  R left, right, top, bottom;  // shares of the two columns and rows
};

// False where no corner can lie inside the level. The comparisons are written so that NaN fails them, before anything is
// converted to an integer.
template <class R>
FOCUS_OPS_INLINE bool locate(R x, R y, const Level& level, Corners<R>& corners) {
  if (!(x > -1 && y > -1 && x < static_cast<R>(level.width) && y < static_cast<R>(level.height))) return false;
  const int64_t column = static_cast<int64_t>(x) - (x < 0), row = static_cast<int64_t>(y) - (y < 0);  // floor
  corners.right = x - static_cast<R>(column);
  corners.bottom = y - static_cast<R>(row);
  corners.left = 1 - corners.right;
  corners.top = 1 - corners.bottom;
  const bool left = column >= 0, right = column + 1 < level.width, top = row >= 0, bottom = row + 1 < level.height;
  const bool inside[4] = {top && left, top && right, bottom && left, bottom && right};
  const int64_t pixel = row * level.width + column;
  const int64_t pixels[4] = {pixel, pixel + 1, pixel + level.width, pixel + level.width + 1};
  std::copy_n(inside, 4, corners.inside);
  std::copy_n(pixels, 4, corners.pixel);
  corners.all_inside = left && right && top && bottom;
  return true;
}

// Pixel coordinates of the samples of one query and head in one level.
template <class R>
struct LevelSamples {
  const R* positions;
  R scale_x, scale_y, shift_x, shift_y;

  LevelSamples(const Geometry& g, const Samples<R>& samples, int64_t batch, int64_t query, int64_t head, int64_t level) {
    const R width = static_cast<R>(g.levels[level].width), height = static_cast<R>(g.levels[level].height);
    const int64_t row = (batch * g.queries + query) * g.heads + head;
    positions = samples.positions + (row * g.level_count() + level) * g.points * 2;
    scale_x = width;
    scale_y = height;
    shift_x = shift_y = R(-0.5);
    if (samples.reference) {
      const int64_t point = (samples.reference_per_batch ? batch * g.queries : 0) + query;
      const R* reference = samples.reference + (point * g.level_count() + level) * 2;
      scale_x = scale_y = 1;
      shift_x += reference[0] * width;
      shift_y += reference[1] * height;
    }
  }
  R x(int64_t point) const { return positions[2 * point] * scale_x + shift_x; }
  R y(int64_t point) const { return positions[2 * point + 1] * scale_y + shift_y; }
};

// exp for arguments up to 0, written so that loops over it become vector code, which std::exp prevents: the usual reduction to
// [-ln 2 / 2, ln 2 / 2] and Cephes' polynomial. The relative error stays below 2e-7.
FOCUS_OPS_INLINE float exponential(float x) {
  x = std::max(x, -87.0f);
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

// Copies `count` positions of one head, `stride` elements apart, into a block without gaps.
template <class From, class To>
FOCUS_OPS_INLINE void gather(const From* from, int64_t stride, int64_t count, int64_t channels, To* __restrict to) {
  for (int64_t i = 0; i < count; ++i)
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) to[i * channels + c] = static_cast<To>(from[i * stride + c]);
}

// Adds the samples of one level to `sum`.
template <class R, class Cell>
FOCUS_OPS_INLINE void add_level(const Level& level, const Cell* pixels, int64_t stride, const LevelSamples<R>& at, const R* weights,
                      int64_t points, int64_t channels, R* __restrict sum) {
  for (int64_t point = 0; point < points; ++point) {
    Corners<R> at_corners;
    if (!locate(at.x(point), at.y(point), level, at_corners)) continue;
    const R weight = weights[point], top = at_corners.top * weight, bottom = at_corners.bottom * weight;
    const R share[4] = {top * at_corners.left, top * at_corners.right, bottom * at_corners.left, bottom * at_corners.right};
    if (at_corners.all_inside) {
      const Cell *p0 = pixels + at_corners.pixel[0] * stride, *p1 = p0 + stride;
      const Cell *p2 = pixels + at_corners.pixel[2] * stride, *p3 = p2 + stride;
      const R s0 = share[0], s1 = share[1], s2 = share[2], s3 = share[3];
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += (s0 * static_cast<R>(p0[c]) + s1 * static_cast<R>(p1[c])) +
                  (s2 * static_cast<R>(p2[c]) + s3 * static_cast<R>(p3[c]));
      }
      continue;
    }
    for (int corner = 0; corner < 4; ++corner) {  // at the border: what lies outside is not even read
      if (!at_corners.inside[corner]) continue;
      const Cell* pixel = pixels + at_corners.pixel[corner] * stride;
      const R s = share[corner];
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) sum[c] += s * static_cast<R>(pixel[c]);
    }
  }
}

// `pixels` are the positions of the first head, `stride` elements apart; the next head starts `channels` elements later.
// kChannels is the number of channels, 0 where it is only known at run time.
template <int64_t kChannels, class S, class Cell>
void forward_rows(const Geometry& g, const Cell* pixels, int64_t stride, const Samples<Real<S>>& samples, S* output,
                  const Rows& rows) {
  using R = Real<S>;
  const int64_t channels = kChannels ? kChannels : g.channels;
  R fixed[kChannels ? kChannels : 1];
  std::vector<R> flexible(kChannels ? 0 : channels);
  R* sum = kChannels ? fixed : flexible.data();

  for (int64_t query = rows.first; query < rows.last; ++query) {
    for (int64_t head = rows.first_head; head < rows.last_head; ++head) {
      const int64_t row = (rows.batch * g.queries + query) * g.heads + head;
      const Cell* first = pixels + (head - rows.first_head) * channels;
      const R* weights = samples.weights + row * g.samples();
      std::fill_n(sum, channels, R(0));
      for (int64_t l = 0; l < g.level_count(); ++l, weights += g.points) {
        const LevelSamples<R> at(g, samples, rows.batch, query, head, l);
        add_level(g.levels[l], first + g.levels[l].start * stride, stride, at, weights, g.points, channels, sum);
      }
      S* result = output + row * channels;
      for (int64_t c = 0; c < channels; ++c) result[c] = static_cast<S>(sum[c]);
    }
  }
}

template <int64_t kChannels, class S>
void forward_with(const Geometry& g, const S* value, const Samples<Real<S>>& samples, S* output, const Rows& rows,
                  Real<S>* scratch) {
  const int64_t channels = kChannels ? kChannels : g.channels, stride = g.heads * channels;
  const S* pixels = value + rows.batch * g.length * stride + rows.first_head * channels;
  if (scratch == nullptr) return forward_rows<kChannels, S>(g, pixels, stride, samples, output, rows);
  gather(pixels, stride, g.length, channels, scratch);
  forward_rows<kChannels, S>(g, scratch, channels, samples, output, rows);
}

// The gradients of one sample. `dot` gets, per corner, the product of the query's output gradient and the pixel; the pixels'
// gradients grow by their shares of the output gradient.
template <class R>
FOCUS_OPS_INLINE void backward_corners(const Corners<R>& corners, R weight, int64_t channels, const R* __restrict grad_output,
                             const R* __restrict pixels, R* __restrict grad_pixels, R (&dot)[4]) {
  const R top = corners.top * weight, bottom = corners.bottom * weight;
  const R share[4] = {top * corners.left, top * corners.right, bottom * corners.left, bottom * corners.right};
  if (corners.all_inside) {
    const int64_t o0 = corners.pixel[0] * channels, o1 = o0 + channels, o2 = corners.pixel[2] * channels, o3 = o2 + channels;
    const R s0 = share[0], s1 = share[1], s2 = share[2], s3 = share[3];
    R d0 = 0, d1 = 0, d2 = 0, d3 = 0;
#pragma omp simd reduction(+ : d0, d1, d2, d3)
    for (int64_t c = 0; c < channels; ++c) {
      const R gradient = grad_output[c];
      d0 += gradient * pixels[o0 + c];
      d1 += gradient * pixels[o1 + c];
      d2 += gradient * pixels[o2 + c];
      d3 += gradient * pixels[o3 + c];
    }
    // The two columns of a row lie side by side, the two rows never overlap: the four are distinct.
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const R gradient = grad_output[c];
      grad_pixels[o0 + c] += s0 * gradient;
      grad_pixels[o1 + c] += s1 * gradient;
      grad_pixels[o2 + c] += s2 * gradient;
      grad_pixels[o3 + c] += s3 * gradient;
    }
    dot[0] = d0, dot[1] = d1, dot[2] = d2, dot[3] = d3;
    return;
  }
  for (int corner = 0; corner < 4; ++corner) {
    dot[corner] = 0;
    if (!corners.inside[corner]) continue;
    const int64_t o = corners.pixel[corner] * channels;
    const R s = share[corner];
    R d = 0;
#pragma omp simd reduction(+ : d)
    for (int64_t c = 0; c < channels; ++c) {
      d += grad_output[c] * pixels[o + c];
      grad_pixels[o + c] += s * grad_output[c];
    }
    dot[corner] = d;
  }
}

template <int64_t kChannels, class S>
void backward_with(const Geometry& g, const S* grad_output, const S* value, const Samples<Real<S>>& samples,
                   const Gradients<S>& gradients, const Slice& slice, Real<S>* scratch) {
  using R = Real<S>;
  const int64_t channels = kChannels ? kChannels : g.channels, stride = g.heads * channels;
  const Level& level = g.levels[slice.level];
  const int64_t area = level.height * level.width;
  const int64_t first = (slice.batch * g.length + level.start) * stride + slice.head * channels;
  R *pixels = scratch, *grad_pixels = scratch + area * channels;
  gather(value + first, stride, area, channels, pixels);
  std::fill_n(grad_pixels, area * channels, R(0));
  R fixed[kChannels ? kChannels : 1];
  std::vector<R> flexible(kChannels ? 0 : channels);
  R* gradient = kChannels ? fixed : flexible.data();

  for (int64_t query = 0; query < g.queries; ++query) {
    const int64_t row = (slice.batch * g.queries + query) * g.heads + slice.head;
    gather(grad_output + row * channels, channels, 1, channels, gradient);
    const LevelSamples<R> at(g, samples, slice.batch, query, slice.head, slice.level);
    for (int64_t point = 0; point < g.points; ++point) {
      const int64_t sample = (row * g.level_count() + slice.level) * g.points + point;
      R *grad_position = gradients.positions + 2 * sample, *grad_weight = gradients.weights + sample;
      Corners<R> corners;
      if (!locate(at.x(point), at.y(point), level, corners)) {
        grad_position[0] = grad_position[1] = *grad_weight = 0;
        continue;
      }
      const R weight = samples.weights[sample], left = corners.left, right = corners.right;
      R dot[4];
      backward_corners(corners, weight, channels, gradient, pixels, grad_pixels, dot);
      *grad_weight = corners.top * (left * dot[0] + right * dot[1]) + corners.bottom * (left * dot[2] + right * dot[3]);
      grad_position[0] = weight * at.scale_x * (corners.top * (dot[1] - dot[0]) + corners.bottom * (dot[3] - dot[2]));
      grad_position[1] = weight * at.scale_y * (left * (dot[2] - dot[0]) + right * (dot[3] - dot[1]));
    }
  }
  S* grad_value = gradients.value + first;
  for (int64_t i = 0; i < area; ++i)
    for (int64_t c = 0; c < channels; ++c) grad_value[i * stride + c] = static_cast<S>(grad_pixels[i * channels + c]);
}

}  // namespace

template <class S>
void sample_forward(const Geometry& g, const S* value, const Samples<Real<S>>& samples, S* output, const Rows& rows,
                    Real<S>* scratch) {
  switch (g.channels) {
    case 16: return forward_with<16>(g, value, samples, output, rows, scratch);
    case 32: return forward_with<32>(g, value, samples, output, rows, scratch);
    case 64: return forward_with<64>(g, value, samples, output, rows, scratch);
    default: return forward_with<0>(g, value, samples, output, rows, scratch);
  }
}

template <class S>
void sample_backward(const Geometry& g, const S* grad_output, const S* value, const Samples<Real<S>>& samples,
                     const Gradients<S>& gradients, const Slice& slice, Real<S>* scratch) {
  switch (g.channels) {
    case 16: return backward_with<16>(g, grad_output, value, samples, gradients, slice, scratch);
    case 32: return backward_with<32>(g, grad_output, value, samples, gradients, slice, scratch);
    case 64: return backward_with<64>(g, grad_output, value, samples, gradients, slice, scratch);
    default: return backward_with<0>(g, grad_output, value, samples, gradients, slice, scratch);
  }
}

// Rows are as short as a dozen numbers: the exponentials, which cost most, run over several rows at once.
template <class R>
void softmax_forward(const R* logits, R* weights, int64_t rows, int64_t count) {
  for (int64_t row = 0; row < rows; ++row) {
    const R *from = logits + row * count, largest = count ? *std::max_element(from, from + count) : R(0);
    for (int64_t i = 0; i < count; ++i) weights[row * count + i] = from[i] - largest;
  }
#pragma omp simd
  for (int64_t i = 0; i < rows * count; ++i) weights[i] = exponential(weights[i]);
  for (int64_t row = 0; row < rows; ++row) {
    R sum = 0, *to = weights + row * count;
    for (int64_t i = 0; i < count; ++i) sum += to[i];
    const R scale = 1 / sum;
    for (int64_t i = 0; i < count; ++i) to[i] *= scale;
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
