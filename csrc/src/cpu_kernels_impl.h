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

// Softmax of rows as short as four numbers: the exponentials, which cost most, run over several rows at once. kCount is the length
// of a row, 0 where it is only known at run time.
template <int64_t kCount, class R>
void softmax_rows(const R* logits, R* weights, int64_t rows, int64_t length) {
  const int64_t count = kCount ? kCount : length;
  for (int64_t row = 0; row < rows; ++row) {
    const R* from = logits + row * count;
    R largest = std::numeric_limits<R>::lowest();
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

// Asks for numbers that are needed soon and that the processor does not foresee: those of one head lie far apart. The address may
// lie behind the end; nothing is read then.
template <class T>
FOCUS_OPS_INLINE void prefetch(const T* numbers, int64_t first, int64_t count) {
  constexpr uintptr_t kLine = 64;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(numbers) + first * sizeof(T), end = begin + count * sizeof(T);
  for (uintptr_t line = begin / kLine * kLine; line < end; line += kLine) __builtin_prefetch(reinterpret_cast<const void*>(line));
}

constexpr int64_t kAhead = 8;  // queries; measured

// The pixels and shares of a block of samples, found for all of them at once: decisions sample by sample, which a processor
// guesses wrong at every border, would cost more than the sums.
//
// Where a row or column of a sample lies outside of its level, the other one stands in for it and both take half of its share:
// nothing outside is read or multiplied by zero, and the sum is the same.
template <class R>
class Taps {
 public:
  // For blocks of up to `queries` queries and all heads of `rows`.
  Taps(const Geometry& g, const Samples<R>& samples, const Rows& rows, int64_t queries)
      : g_(g), samples_(samples), rows_(rows), count_(g.samples()), heads_(rows.last_head - rows.first_head) {
    shift_x_.resize(count_), shift_y_.resize(count_);
    const size_t size = queries * heads_ * count_;
    for (auto* numbers : {&x_, &y_, &weight_, &share_[0], &share_[1], &share_[2], &share_[3]}) numbers->resize(size);
    for (auto* numbers : {&width_, &height_, &start_, &inside_, &pixel_[0], &pixel_[1], &pixel_[2], &pixel_[3]}) numbers->resize(size);
    for (size_t i = 0; i < size; ++i) {
      const Level& level = g.levels[i % count_ / g.points];
      width_[i] = static_cast<int32_t>(level.width);
      height_[i] = static_cast<int32_t>(level.height);
      start_[i] = static_cast<int32_t>(level.start);
    }
  }

  // Fills the block with the samples of these queries.
  void find(int64_t first, int64_t last) {
    for (int64_t query = first; query < last; ++query) place(query, (query - first) * heads_ * count_);
    const int64_t rows = (last - first) * heads_;
    if (samples_.reference) softmax_forward(weight_.data(), weight_.data(), rows, count_);
    resolve(rows * count_);
  }

  bool inside(int64_t sample) const { return inside_[sample]; }
  int64_t pixel(int corner, int64_t sample) const { return pixel_[corner][sample]; }  // among those of all levels
  R share(int corner, int64_t sample) const { return share_[corner][sample]; }

 private:
  // Copies the weights of one query and turns its positions into pixel coordinates.
  void place(int64_t query, int64_t to) {
    const int64_t row = (rows_.batch * g_.queries + query) * g_.heads + rows_.first_head, size = heads_ * count_;
    const R *weights = samples_.weights + row * count_, *positions = samples_.positions + row * count_ * 2;
    R *weight = weight_.data() + to, *x = x_.data() + to, *y = y_.data() + to;
    if (heads_ < g_.heads) {
      const int64_t later = (row + kAhead * g_.heads) * count_;
      prefetch(samples_.weights, later, size);
      prefetch(samples_.positions, 2 * later, 2 * size);
    }
    std::copy_n(weights, size, weight);
    if (!samples_.reference) {
      const int32_t *width = width_.data(), *height = height_.data();
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        x[i] = positions[2 * i] * width[i] - R(0.5);
        y[i] = positions[2 * i + 1] * height[i] - R(0.5);
      }
      return;
    }
    const int64_t point = (samples_.reference_per_batch ? rows_.batch * g_.queries : 0) + query;
    const R* reference = samples_.reference + point * g_.level_count() * 2;
    for (int64_t l = 0; l < g_.level_count(); ++l) {
      const R shift_x = reference[2 * l] * g_.levels[l].width - R(0.5), shift_y = reference[2 * l + 1] * g_.levels[l].height - R(0.5);
      for (int64_t i = l * g_.points; i < (l + 1) * g_.points; ++i) shift_x_[i] = shift_x, shift_y_[i] = shift_y;
    }
    for (int64_t head = 0; head < size; head += count_) {
#pragma omp simd
      for (int64_t i = 0; i < count_; ++i) {
        x[head + i] = positions[2 * (head + i)] + shift_x_[i];
        y[head + i] = positions[2 * (head + i) + 1] + shift_y_[i];
      }
    }
  }

  // The two cells of an axis around a coordinate, and their shares.
  static FOCUS_OPS_INLINE void split(R at, int32_t size, int32_t& low, int32_t& high, R& low_share, R& high_share) {
    const int32_t floor = static_cast<int32_t>(at) - (at < 0);
    const R above = at - static_cast<R>(floor), below = 1 - above;
    low = std::max(floor, 0);
    high = std::min(floor + 1, size - 1);
    const R half = R(0.5) * (floor < 0 ? above : below);
    low_share = low == high ? half : below;
    high_share = low == high ? half : above;
  }

  void resolve(int64_t count) {
    const R *xs = x_.data(), *ys = y_.data(), *weights = weight_.data();
    const int32_t *widths = width_.data(), *heights = height_.data(), *starts = start_.data();
    R *s0 = share_[0].data(), *s1 = share_[1].data(), *s2 = share_[2].data(), *s3 = share_[3].data();
    int32_t *p0 = pixel_[0].data(), *p1 = pixel_[1].data(), *p2 = pixel_[2].data(), *p3 = pixel_[3].data();
    int32_t* inside = inside_.data();
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const int32_t width = widths[i], height = heights[i];
      // Written so that NaN fails, before anything is converted to an integer. An empty level has no inside.
      const bool in = xs[i] > -1 && ys[i] > -1 && xs[i] < static_cast<R>(width) && ys[i] < static_cast<R>(height) &&
                      width > 0 && height > 0;
      const R x = in ? xs[i] : R(0), y = in ? ys[i] : R(0), weight = weights[i];
      int32_t left, right, top, bottom;
      R left_share, right_share, top_share, bottom_share;
      split(x, width, left, right, left_share, right_share);
      split(y, height, top, bottom, top_share, bottom_share);
      top_share *= weight;
      bottom_share *= weight;
      s0[i] = top_share * left_share;
      s1[i] = top_share * right_share;
      s2[i] = bottom_share * left_share;
      s3[i] = bottom_share * right_share;
      const int32_t upper = starts[i] + top * width, lower = starts[i] + bottom * width;
      p0[i] = upper + left;
      p1[i] = upper + right;
      p2[i] = lower + left;
      p3[i] = lower + right;
      inside[i] = in;
    }
  }

  const Geometry& g_;
  const Samples<R>& samples_;
  const Rows& rows_;
  int64_t count_, heads_;
  std::vector<R> shift_x_, shift_y_, x_, y_, weight_, share_[4];
  std::vector<int32_t> width_, height_, start_, inside_, pixel_[4];
};

// `pixels` are the positions of the first head, `stride` elements apart; the next head starts `channels` elements later.
// kChannels is the number of channels, 0 where it is only known at run time.
template <int64_t kChannels, class S, class Cell>
void forward_rows(const Geometry& g, const Cell* pixels, int64_t stride, const Samples<Real<S>>& samples, S* output,
                  const Rows& rows) {
  using R = Real<S>;
  constexpr int64_t kSamples = 256;  // of a block: they fill a part of the first cache
  const int64_t channels = kChannels ? kChannels : g.channels, heads = rows.last_head - rows.first_head, count = g.samples();
  const int64_t queries = std::max<int64_t>(1, kSamples / std::max<int64_t>(1, heads * count));
  Taps<R> taps(g, samples, rows, queries);
  R fixed[kChannels ? kChannels : 1];
  std::vector<R> flexible(kChannels ? 0 : channels);
  R* sum = kChannels ? fixed : flexible.data();

  for (int64_t first = rows.first; first < rows.last; first += queries) {
    const int64_t last = std::min(first + queries, rows.last);
    taps.find(first, last);
    for (int64_t row = 0; row < (last - first) * heads; ++row) {
      const int64_t query = first + row / heads, head = row % heads;
      const Cell* cells = pixels + head * channels;
      std::fill_n(sum, channels, R(0));
      for (int64_t sample = row * count; sample < (row + 1) * count; ++sample) {
        if (!taps.inside(sample)) continue;
        const Cell *p0 = cells + taps.pixel(0, sample) * stride, *p1 = cells + taps.pixel(1, sample) * stride;
        const Cell *p2 = cells + taps.pixel(2, sample) * stride, *p3 = cells + taps.pixel(3, sample) * stride;
        const R s0 = taps.share(0, sample), s1 = taps.share(1, sample), s2 = taps.share(2, sample), s3 = taps.share(3, sample);
#pragma omp simd
        for (int64_t c = 0; c < channels; ++c) {
          sum[c] += (s0 * static_cast<R>(p0[c]) + s1 * static_cast<R>(p1[c])) +
                    (s2 * static_cast<R>(p2[c]) + s3 * static_cast<R>(p3[c]));
        }
      }
      S* result = output + ((rows.batch * g.queries + query) * g.heads + rows.first_head + head) * channels;
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

// Sum of a vector, by halves: left alone, compilers add one number after another.
template <int64_t kLanes, class R>
FOCUS_OPS_INLINE R total(R (&lanes)[kLanes]) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

// The gradients of one sample. `dot` gets, per corner, the product of the query's output gradient and the pixel; the pixels'
// gradients grow by their shares of the output gradient.
template <int64_t kChannels, class R>
FOCUS_OPS_INLINE void backward_corners(const Corners<R>& corners, R weight, int64_t channels, const R* __restrict grad_output,
                             const R* __restrict pixels, R* __restrict grad_pixels, R (&dot)[4]) {
  constexpr int64_t kLanes = kChannels ? 8 : 1;
  const R top = corners.top * weight, bottom = corners.bottom * weight;
  const R share[4] = {top * corners.left, top * corners.right, bottom * corners.left, bottom * corners.right};
  if (corners.all_inside) {
    const int64_t o0 = corners.pixel[0] * channels, o1 = o0 + channels, o2 = corners.pixel[2] * channels, o3 = o2 + channels;
    const R s0 = share[0], s1 = share[1], s2 = share[2], s3 = share[3];
    R d0[kLanes] = {}, d1[kLanes] = {}, d2[kLanes] = {}, d3[kLanes] = {};
    for (int64_t c = 0; c < channels; c += kLanes) {
#pragma omp simd
      for (int64_t i = 0; i < kLanes; ++i) {
        const R gradient = grad_output[c + i];
        d0[i] += gradient * pixels[o0 + c + i];
        d1[i] += gradient * pixels[o1 + c + i];
        d2[i] += gradient * pixels[o2 + c + i];
        d3[i] += gradient * pixels[o3 + c + i];
      }
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
    dot[0] = total(d0), dot[1] = total(d1), dot[2] = total(d2), dot[3] = total(d3);
    return;
  }
  for (int corner = 0; corner < 4; ++corner) {
    dot[corner] = 0;
    if (!corners.inside[corner]) continue;
    const int64_t o = corners.pixel[corner] * channels;
    const R s = share[corner];
    R d[kLanes] = {};
    for (int64_t c = 0; c < channels; c += kLanes) {
#pragma omp simd
      for (int64_t i = 0; i < kLanes; ++i) {
        d[i] += grad_output[c + i] * pixels[o + c + i];
        grad_pixels[o + c + i] += s * grad_output[c + i];
      }
    }
    dot[corner] = total(d);
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
    const int64_t later = row + kAhead * g.heads, later_sample = (later * g.level_count() + slice.level) * g.points;
    prefetch(grad_output, later * channels, channels);
    prefetch(samples.positions, 2 * later_sample, 2 * g.points);
    prefetch(samples.weights, later_sample, g.points);
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
      backward_corners<kChannels>(corners, weight, channels, gradient, pixels, grad_pixels, dot);
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
