// Part of cpu_kernels_impl.h: the forward pass.

namespace focus_ops::FOCUS_OPS_TARGET {
namespace {

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
  // What the sum of the samples from here on starts with: 0, or NaN where the softmax gave that, wherever the samples lie.
  R nothing(int64_t sample) const { return samples_.reference && count_ > 0 ? 0 * weight_[sample] : R(0); }

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
      std::fill_n(sum, channels, taps.nothing(row * count));
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

}  // namespace focus_ops::FOCUS_OPS_TARGET
