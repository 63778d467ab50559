// Part of cpu_kernels_impl.h: the backward pass.

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
void sample_backward(const Geometry& g, const S* grad_output, const S* value, const Samples<Real<S>>& samples,
                     const Gradients<S>& gradients, const Slice& slice, Real<S>* scratch) {
  switch (g.channels) {
    case 16: return backward_with<16>(g, grad_output, value, samples, gradients, slice, scratch);
    case 32: return backward_with<32>(g, grad_output, value, samples, gradients, slice, scratch);
    case 64: return backward_with<64>(g, grad_output, value, samples, gradients, slice, scratch);
    default: return backward_with<0>(g, grad_output, value, samples, gradients, slice, scratch);
  }
}

}  // namespace focus_ops::FOCUS_OPS_TARGET
