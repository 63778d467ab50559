// The CUDA kernels and the choice among them. Compiled by nvcc as part of cuda.cu, and by any C++ compiler on a machine without a
// GPU, where tests run the threads of a block in turns (tests/cuda_emulation).
//
// A group of neighbouring threads, its lanes, works on one head of one query; each lane holds 16 bytes of the channels, so that
// half types take channels / 8 lanes and float channels / 4. Any other number of channels, or memory that is not aligned to
// 16 bytes, takes a whole warp with one channel a lane at a time.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <type_traits>

#include "geometry.h"

#define FOCUS_OPS_DEVICE __device__ __forceinline__

namespace focus_ops::cuda {

constexpr int kThreads = 256;  // of a block, at most
constexpr int kFewThreads = 64;  // where blocks of kThreads would leave multiprocessors idle
constexpr int kMaximumLevels = 32;

// Passed to kernels by value: the levels are never read from the device's memory. What is not int64_t fits into 31 bits, and so do
// `queries`, `groups`, channels times heads, and twice the samples of a group (cuda.cu).
struct Problem {
  int64_t batch, length, queries, groups;
  int heads, channels, points, levels;
  int height[kMaximumLevels], width[kMaximumLevels];
  int64_t start[kMaximumLevels];
};

// As focus_ops::Samples on the CPU, with the softmax computed inside where `logits` is set. P is how positions and weights are
// stored: as R, in which all is computed, or in the half type of the value.
template <class R, class P>
struct Samples {
  const P* positions;
  const P* weights;
  const R* reference;
  bool reference_per_batch;
  bool logits;
};

template <class S, class P>
struct Gradients {
  Real<S>* value;  // in the type of sums, zeros at first; null where the deterministic kernels fill it
  P* positions;
  P* weights;  // with respect to the logits where there is a reference
  Real<S>* before_softmax;  // room for the weights' own gradients; the same as `weights` where P is as exact
};

// kChannels is the number of channels, 0 where it is only known at run time.
template <class S, int kChannels>
struct Lanes {
  static constexpr int kVector = kChannels ? 16 / static_cast<int>(sizeof(S)) : 1;  // channels of a lane
  static constexpr int kCount = kChannels ? kChannels / kVector : 32;
};

// Calls `work` with the first channel of each vector of a lane: once, and without a loop, where the number of channels is known.
// There the vectors of neighbouring lanes begin kStep channels apart.
template <class S, int kChannels, int kStep, class Work>
FOCUS_OPS_DEVICE void each_vector(int lane, int channels, const Work& work) {
  if constexpr (kChannels != 0) {
    work(lane * kStep);
  } else {
    for (int c = lane; c < channels; c += Lanes<S, kChannels>::kCount) work(c);
  }
}

// How the backward pass parts the channels of a lane. Sums are in float and four are added at once, so that a lane with eight
// channels of a half type adds twice. Each time neighbouring lanes add to neighbouring bytes, and whole sectors of 32 bytes are
// touched: a lane has four channels in one half of the head and four in the other.
template <class S, int kChannels>
struct Parts {
  static constexpr int kVector = Lanes<S, kChannels>::kVector;
  static constexpr int kCount = kVector * static_cast<int>(sizeof(Real<S>)) > 16 ? kVector * static_cast<int>(sizeof(Real<S>)) / 16 : 1;
  static constexpr int kSize = kVector / kCount, kStep = kChannels / kCount;
};

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T items[kCount];
};

// Channels as they lie in memory. Zeros where they are not `wanted`; nothing is read then. A predicate and no branch, so that
// several of these are under way at once.
template <class S, int kVector>
FOCUS_OPS_DEVICE Pack<S, kVector> fetch(const S* from, bool wanted = true) {
  Pack<S, kVector> pack{};
  if constexpr (sizeof(pack) == 16) {
    int4 bits{0, 0, 0, 0};
    if (wanted) bits = __ldg(reinterpret_cast<const int4*>(from));
    pack = *reinterpret_cast<const Pack<S, kVector>*>(&bits);
  } else if constexpr (sizeof(pack) == 8) {
    int2 bits{0, 0};
    if (wanted) bits = __ldg(reinterpret_cast<const int2*>(from));
    pack = *reinterpret_cast<const Pack<S, kVector>*>(&bits);
  } else {
    if (wanted) pack = *reinterpret_cast<const Pack<S, kVector>*>(from);
  }
  return pack;
}

template <class S, int kVector>
FOCUS_OPS_DEVICE void store(S* to, const Real<S> (&from)[kVector]) {
  Pack<S, kVector> pack;
#pragma unroll
  for (int i = 0; i < kVector; ++i) pack.items[i] = static_cast<S>(from[i]);
  *reinterpret_cast<Pack<S, kVector>*>(to) = pack;
}

// Whether four floats can be added to memory at once.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr bool kVectorAdd = true;
FOCUS_OPS_DEVICE void add_four(float* to, float a, float b, float c, float d) {
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}
#elif defined(FOCUS_OPS_EMULATE_VECTOR_ADD)  // tests/cuda_emulation
constexpr bool kVectorAdd = true;
inline void add_four(float* to, float a, float b, float c, float d) { emulated_add_four(to, a, b, c, d); }
#else
constexpr bool kVectorAdd = false;
FOCUS_OPS_DEVICE void add_four(float*, float, float, float, float) {}
#endif

// Adds to memory that other threads add to as well.
template <class R, int kVector>
FOCUS_OPS_DEVICE void add(R* to, R factor, const R* values) {
  if constexpr (kVectorAdd && sizeof(R) == 4 && kVector % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kVector; i += 4) {
      add_four(to + i, factor * values[i], factor * values[i + 1], factor * values[i + 2], factor * values[i + 3]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) atomicAdd(to + i, factor * values[i]);
  }
}

FOCUS_OPS_DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
FOCUS_OPS_DEVICE double maximum(double a, double b) { return fmax(a, b); }
FOCUS_OPS_DEVICE float exponential(float x) { return expf(x); }
FOCUS_OPS_DEVICE double exponential(double x) { return exp(x); }

// The sum over the lanes of a group, in a fixed order. All 32 threads of the warp must call it.
template <int kCount, class R>
FOCUS_OPS_DEVICE R sum_over_lanes(R value) {
#pragma unroll
  for (int distance = kCount / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

template <int kCount, class R>
FOCUS_OPS_DEVICE R maximum_over_lanes(R value) {
#pragma unroll
  for (int distance = kCount / 2; distance > 0; distance /= 2)
    value = maximum(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// The part of the work that a thread belongs to. Threads beyond the last group repeat it, so that shuffles find whole warps,
// and write nothing.
struct Group {
  int64_t row, batch, query;
  int head, lane;
  bool live;
};

template <int kCount>
FOCUS_OPS_DEVICE Group this_group(const Problem& p) {
  const unsigned wanted = blockIdx.x * (blockDim.x / kCount) + threadIdx.x / kCount, groups = static_cast<unsigned>(p.groups);
  Group group;
  group.live = wanted < groups;
  const unsigned row = group.live ? wanted : groups - 1, query = row / static_cast<unsigned>(p.heads);
  group.row = row;
  group.head = static_cast<int>(row % static_cast<unsigned>(p.heads));
  group.query = query % static_cast<unsigned>(p.queries);
  group.batch = query / static_cast<unsigned>(p.queries);
  group.lane = static_cast<int>(threadIdx.x) % kCount;
  return group;
}

// Positions or their gradients: x and y, which are read and written at once.
template <class P>
struct alignas(2 * sizeof(P)) Pair {
  P x, y;
};

// What no kernel writes, read as the bits it is.
template <class T>
FOCUS_OPS_DEVICE T load(const T* from) {
  using Bits = std::conditional_t<sizeof(T) == 2, unsigned short,
                                  std::conditional_t<sizeof(T) == 4, int, std::conditional_t<sizeof(T) == 8, int2, int4>>>;
  static_assert(sizeof(Bits) == sizeof(T));
  const Bits bits = __ldg(reinterpret_cast<const Bits*>(from));
  return *reinterpret_cast<const T*>(&bits);
}

// The weights of one head of one query: as given, or the softmax of its logits.
template <class R, class P>
struct Weights {
  const P* row;
  R largest, scale;
  bool logits;

  FOCUS_OPS_DEVICE P raw(int i) const { return load(row + i); }
  FOCUS_OPS_DEVICE R of(P raw) const { return logits ? exponential(static_cast<R>(raw) - largest) * scale : static_cast<R>(raw); }
  FOCUS_OPS_DEVICE R operator[](int i) const { return of(raw(i)); }
  // What the sum of the samples starts with: 0, or NaN where the softmax gives that, wherever the samples lie.
  FOCUS_OPS_DEVICE R nothing() const { return 0 * scale; }
};

template <int kCount, class R, class P>
FOCUS_OPS_DEVICE Weights<R, P> weights_of(const Problem& p, const Samples<R, P>& samples, int64_t row, int lane) {
  const int count = p.levels * p.points;
  Weights<R, P> weights{samples.weights + row * count, 0, 1, samples.logits};
  if (!samples.logits || count == 0) return weights;
  R largest = -INFINITY;
#pragma unroll 2
  for (int i = lane; i < count; i += kCount) largest = maximum(largest, static_cast<R>(weights.raw(i)));
  weights.largest = maximum_over_lanes<kCount>(largest);
  R sum = 0;
#pragma unroll 2
  for (int i = lane; i < count; i += kCount) sum += exponential(static_cast<R>(weights.raw(i)) - weights.largest);
  weights.scale = 1 / sum_over_lanes<kCount>(sum);
  return weights;
}

// Pixel coordinates of the samples of one head of one query in one level.
template <class R, class P>
struct LevelSamples {
  const Pair<P>* positions;
  R scale_x, scale_y, shift_x, shift_y;

  FOCUS_OPS_DEVICE LevelSamples(const Problem& p, const Samples<R, P>& samples, int64_t row, int64_t batch, int64_t query, int level)
      : positions(reinterpret_cast<const Pair<P>*>(samples.positions) + (row * p.levels + level) * p.points),
        scale_x(static_cast<R>(p.width[level])),
        scale_y(static_cast<R>(p.height[level])),
        shift_x(R(-0.5)),
        shift_y(R(-0.5)) {
    if (!samples.reference) return;
    const int64_t point = (samples.reference_per_batch ? batch * p.queries : 0) + query;
    const R* reference = samples.reference + (point * p.levels + level) * 2;
    shift_x += reference[0] * scale_x;
    shift_y += reference[1] * scale_y;
    scale_x = scale_y = 1;
  }
  FOCUS_OPS_DEVICE Pair<R> of(Pair<P> raw) const {
    return {static_cast<R>(raw.x) * scale_x + shift_x, static_cast<R>(raw.y) * scale_y + shift_y};
  }
  FOCUS_OPS_DEVICE Pair<R> operator[](int point) const { return of(load(positions + point)); }
};

// The four pixels around a sample: top left, top right, bottom left, bottom right.
template <class R>
struct Corners {
  int pixel;  // the first one's, within the level
  bool top_inside, bottom_inside, left_inside, right_inside;
  R left, right, top, bottom;  // shares of the two columns and rows

  FOCUS_OPS_DEVICE bool anywhere() const { return (left_inside || right_inside) && (top_inside || bottom_inside); }
  FOCUS_OPS_DEVICE bool inside(int corner) const {
    return (corner < 2 ? top_inside : bottom_inside) && (corner % 2 == 0 ? left_inside : right_inside);
  }
  FOCUS_OPS_DEVICE R share(int corner) const { return (corner < 2 ? top : bottom) * (corner % 2 == 0 ? left : right); }
  // Of a level, and in elements: one multiplication of 32 bits with a result of 64.
  FOCUS_OPS_DEVICE int64_t offset(int corner, int width, int stride) const {
    const unsigned position = static_cast<unsigned>(pixel) + corner % 2 + (corner < 2 ? 0 : width);  // unsigned: may wrap outside
    return static_cast<int64_t>(static_cast<int>(position)) * stride;
  }
};

// Without a branch; where no corner can lie inside, none is. The comparisons are written so that NaN fails them, before anything
// is converted to an integer.
template <class R>
FOCUS_OPS_DEVICE Corners<R> locate(Pair<R> at, int width, int height) {
  const bool near = at.x > -1 && at.y > -1 && at.x < static_cast<R>(width) && at.y < static_cast<R>(height);
  const R x = near ? at.x : 0, y = near ? at.y : 0;
  const int column = static_cast<int>(x) - (x < 0), row = static_cast<int>(y) - (y < 0);  // floor
  Corners<R> corners;
  corners.right = x - static_cast<R>(column);
  corners.bottom = y - static_cast<R>(row);
  corners.left = 1 - corners.right;
  corners.top = 1 - corners.bottom;
  corners.left_inside = near && column >= 0;
  corners.right_inside = near && column + 1 < width;
  corners.top_inside = row >= 0;
  corners.bottom_inside = row + 1 < height;
  corners.pixel = row * width + column;
  return corners;
}

template <class S, class P, int kChannels>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ Problem p, const S* value, const Samples<Real<S>, P> samples, S* output) {
  using R = Real<S>;
  constexpr int kVector = Lanes<S, kChannels>::kVector, kCount = Lanes<S, kChannels>::kCount;
  const int channels = kChannels ? kChannels : p.channels, stride = p.heads * channels;
  const Group group = this_group<kCount>(p);
  const Weights<R, P> weights = weights_of<kCount>(p, samples, group.row, group.lane);
  if (!group.live) return;  // there are no shuffles after this
  const S* head = value + group.batch * p.length * stride + group.head * channels;
  each_vector<S, kChannels, kVector>(group.lane, channels, [&](int c) {
    R sum[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] = weights.nothing();
    for (int l = 0; l < p.levels; ++l) {
      const S* pixels = head + p.start[l] * stride + c;
      const LevelSamples<R, P> at(p, samples, group.row, group.batch, group.query, l);
#pragma unroll 2
      for (int point = 0; point < p.points; ++point) {
        const Corners<R> corners = locate<R>(at[point], p.width[l], p.height[l]);
        const R weight = weights[l * p.points + point];
        Pack<S, kVector> around[4];
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          around[corner] = fetch<S, kVector>(pixels + corners.offset(corner, p.width[l], stride), corners.inside(corner));
        }
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          const R share = corners.inside(corner) ? corners.share(corner) * weight : 0;
#pragma unroll
          for (int i = 0; i < kVector; ++i) sum[i] += share * static_cast<R>(around[corner].items[i]);
        }
      }
    }
    store<S, kVector>(output + group.row * channels + c, sum);
  });
}

// Adds to `dot` the products of the output's gradient and the four pixels of a sample, over the channels of this lane that start
// at `c`; on the way the pixels' gradients grow.
template <class S, int kChannels, int kVector = Lanes<S, kChannels>::kVector>
FOCUS_OPS_DEVICE void backward_corners(const S* pixels, Real<S>* grad_pixels, int stride, int width,
                                       const Corners<Real<S>>& corners, Real<S> weight, const Real<S> (&gradient)[kVector],
                                       Real<S> (&dot)[4]) {
  using R = Real<S>;
  using P = Parts<S, kChannels>;
  Pack<S, P::kSize> around[4][P::kCount];
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
#pragma unroll
    for (int part = 0; part < P::kCount; ++part) {
      const S* from = pixels + corners.offset(corner, width, stride) + part * P::kStep;
      around[corner][part] = fetch<S, P::kSize>(from, corners.inside(corner));
    }
  }
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    if (!corners.inside(corner)) continue;
#pragma unroll
    for (int i = 0; i < kVector; ++i) dot[corner] += gradient[i] * static_cast<R>(around[corner][i / P::kSize].items[i % P::kSize]);
    if (!grad_pixels) continue;
    R* to = grad_pixels + corners.offset(corner, width, stride);
    const R factor = corners.share(corner) * weight;
#pragma unroll
    for (int part = 0; part < P::kCount; ++part) add<R, P::kSize>(to + part * P::kStep, factor, gradient + part * P::kSize);
  }
}

// How many blocks of the backward kernel a multiprocessor has to have registers for: what each needs, rounded down.
template <class S, int kChannels>
constexpr int kBackwardBlocks = sizeof(S) == 8 ? 2 : sizeof(S) == 4 && kChannels != 0 ? 4 : 3;

template <class S, class P, int kChannels>
__global__ void __launch_bounds__(kThreads, (kBackwardBlocks<S, kChannels>))
    backward_kernel(const __grid_constant__ Problem p, const S* grad_output, const S* value, const Samples<Real<S>, P> samples,
                    const Gradients<S, P> gradients) {
  using R = Real<S>;
  constexpr int kVector = Lanes<S, kChannels>::kVector, kCount = Lanes<S, kChannels>::kCount;
  const int channels = kChannels ? kChannels : p.channels, stride = p.heads * channels;
  const Group group = this_group<kCount>(p);
  const Weights<R, P> weights = weights_of<kCount>(p, samples, group.row, group.lane);
  const S* grad_row = grad_output + group.row * channels;
  using Part = Parts<S, kChannels>;
  R gradient[kVector];
  const auto load_gradient = [&](int c) {
#pragma unroll
    for (int part = 0; part < Part::kCount; ++part) {
      const Pack<S, Part::kSize> pack = fetch<S, Part::kSize>(grad_row + c + part * Part::kStep);
#pragma unroll
      for (int i = 0; i < Part::kSize; ++i) gradient[part * Part::kSize + i] = static_cast<R>(pack.items[i]);
    }
  };
  if constexpr (kChannels != 0) load_gradient(group.lane * Part::kSize);
  const int count = p.levels * p.points;
  Pair<P>* grad_positions = reinterpret_cast<Pair<P>*>(gradients.positions) + group.row * count;
  R* grad_weights = gradients.before_softmax + group.row * count;
  R mean = 0;  // of the weights' gradients, which softmax takes off
  // Each lane keeps the gradients of one sample in kCount, so that the lanes of a group store them side by side.
  R own_weight = 0;
  Pair<P> own_position{P(0), P(0)};
  // Position and weight of a sample are asked for while the one before is worked on.
  const Pair<P>* positions = reinterpret_cast<const Pair<P>*>(samples.positions) + group.row * count;
  Pair<P> next_position = load(positions);
  P next_weight = weights.raw(0);
  for (int l = 0; l < p.levels; ++l) {
    const LevelSamples<R, P> at(p, samples, group.row, group.batch, group.query, l);
    const int64_t first = (group.batch * p.length + p.start[l]) * stride + group.head * channels;
    for (int point = 0; point < p.points; ++point) {
      const int sample = l * p.points + point;
      const R weight = weights.of(next_weight);
      const Corners<R> corners = locate<R>(at.of(next_position), p.width[l], p.height[l]);
      const int next = sample + 1 < count ? sample + 1 : sample;
      next_position = load(positions + next);
      next_weight = weights.raw(next);
      R by_weight = 0, by_x = 0, by_y = 0;
      if (group.live && corners.anywhere()) {
        R dot[4] = {};
        each_vector<S, kChannels, Part::kSize>(group.lane, channels, [&](int c) {
          if constexpr (kChannels == 0) load_gradient(c);
          R* grad_pixels = gradients.value ? gradients.value + first + c : nullptr;
          backward_corners<S, kChannels>(value + first + c, grad_pixels, stride, p.width[l], corners, weight, gradient, dot);
        });
        by_weight = corners.top * (corners.left * dot[0] + corners.right * dot[1]) +
                    corners.bottom * (corners.left * dot[2] + corners.right * dot[3]);
        by_x = weight * at.scale_x * (corners.top * (dot[1] - dot[0]) + corners.bottom * (dot[3] - dot[2]));
        by_y = weight * at.scale_y * (corners.left * (dot[2] - dot[0]) + corners.right * (dot[3] - dot[1]));
      }
      by_weight = sum_over_lanes<kCount>(by_weight);
      by_x = sum_over_lanes<kCount>(by_x);
      by_y = sum_over_lanes<kCount>(by_y);
      mean += weight * by_weight;
      const int turn = sample % kCount;
      if (turn == group.lane) {
        own_weight = by_weight;
        own_position = {static_cast<P>(by_x), static_cast<P>(by_y)};
      }
      const int own = sample - turn + group.lane;
      if ((turn == kCount - 1 || sample == count - 1) && group.live && own <= sample) {
        grad_positions[own] = own_position;
        grad_weights[own] = own_weight;
      }
    }
  }
  if (!samples.reference || !group.live) return;
  // From weights to logits. Each lane reads back what it wrote itself.
  P* grad_logits = gradients.weights + group.row * count;
  for (int i = group.lane; i < count; i += kCount) grad_logits[i] = static_cast<P>(weights[i] * (grad_weights[i] - mean));
}

// The gradient of the value without atomics, the same in every run. Every corner of every sample is written down with the pixel
// that it lies on and its share (list_corners_kernel); a stable sort by pixel brings those of a pixel together, in the order of the
// samples; each pixel adds up its own (sum_corners_kernel).

constexpr int kListLanes = 8;  // of a group that lists the corners of one head of one query

// A pixel is counted as in the value, `[batch, length, heads]`. Corners outside count as one more, which comes last in the order.
template <class S, class P>
__global__ void __launch_bounds__(kThreads)
    list_corners_kernel(const __grid_constant__ Problem p, const Samples<Real<S>, P> samples, int64_t* pixels, Real<S>* shares) {
  using R = Real<S>;
  const Group group = this_group<kListLanes>(p);
  const Weights<R, P> weights = weights_of<kListLanes>(p, samples, group.row, group.lane);
  if (!group.live) return;  // there are no shuffles after this
  const int64_t outside = p.batch * p.length * p.heads;
  const int count = p.levels * p.points;
  for (int sample = group.lane; sample < count; sample += kListLanes) {
    const int level = sample / p.points;
    const LevelSamples<R, P> at(p, samples, group.row, group.batch, group.query, level);
    const Corners<R> corners = locate<R>(at[sample % p.points], p.width[level], p.height[level]);
    const int64_t first = (group.batch * p.length + p.start[level]) * p.heads + group.head, entry = 4 * (group.row * count + sample);
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      pixels[entry + corner] = corners.inside(corner) ? first + corners.offset(corner, p.width[level], p.heads) : outside;
      shares[entry + corner] = corners.share(corner) * weights[sample];
    }
  }
}

// `pixels` is sorted, `order` says which corner stood where before. A thread adds up kVector channels of one pixel.
template <class S, int kVector>
__global__ void __launch_bounds__(kThreads)
    sum_corners_kernel(const __grid_constant__ Problem p, const S* grad_output, const int64_t* pixels, const int64_t* order,
                       const Real<S>* shares, int64_t corners, Real<S>* grad_value) {
  using R = Real<S>;
  const int lanes = p.channels / kVector;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, pixel = thread / lanes;
  if (pixel >= p.batch * p.length * p.heads) return;
  const int channel = static_cast<int>(thread % lanes) * kVector;
  int64_t first = 0, last = corners;  // of what is not yet known to lie before the pixel's first corner
  while (first < last) {
    const int64_t middle = (first + last) / 2;
    if (pixels[middle] < pixel) first = middle + 1;
    else last = middle;
  }
  const int64_t samples = int64_t{4} * p.levels * p.points;  // corners of a row
  R sum[kVector] = {};
  for (; first < corners && pixels[first] == pixel; ++first) {
    const int64_t corner = order[first];
    const R share = shares[corner];
    const Pack<S, kVector> gradient = fetch<S, kVector>(grad_output + corner / samples * p.channels + channel);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] += share * static_cast<R>(gradient.items[i]);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) grad_value[pixel * p.channels + channel + i] = sum[i];
}

// `launch(threads, kernel, arguments...)` starts a kernel with at least so many threads.

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <class S, int kChannels, class P, class Launch>
void forward_as(const Launch& launch, const Problem& p, const S* value, const Samples<Real<S>, P>& samples, S* output) {
  launch(p.groups * Lanes<S, kChannels>::kCount, forward_kernel<S, P, kChannels>, p, value, samples, output);
}

template <class S, class P, class Launch>
void forward(const Launch& launch, const Problem& p, const S* value, const Samples<Real<S>, P>& samples, S* output) {
  if constexpr (sizeof(S) <= 4) {  // float64 is there for tests of gradients and takes the general way
    if (aligned(value) && aligned(output)) {
      if (p.channels == 16) return forward_as<S, 16>(launch, p, value, samples, output);
      if (p.channels == 32) return forward_as<S, 32>(launch, p, value, samples, output);
      if (p.channels == 64) return forward_as<S, 64>(launch, p, value, samples, output);
    }
  }
  forward_as<S, 0>(launch, p, value, samples, output);
}

template <class S, int kChannels, class P, class Launch>
void backward_as(const Launch& launch, const Problem& p, const S* grad_output, const S* value, const Samples<Real<S>, P>& samples,
                 const Gradients<S, P>& gradients) {
  launch(p.groups * Lanes<S, kChannels>::kCount, backward_kernel<S, P, kChannels>, p, grad_output, value, samples, gradients);
}

template <class S, class P, class Launch>
void backward(const Launch& launch, const Problem& p, const S* grad_output, const S* value, const Samples<Real<S>, P>& samples,
              const Gradients<S, P>& gradients) {
  if constexpr (sizeof(S) <= 4) {
    if (aligned(grad_output) && aligned(value) && (!gradients.value || aligned(gradients.value))) {
      if (p.channels == 16) return backward_as<S, 16>(launch, p, grad_output, value, samples, gradients);
      if (p.channels == 32) return backward_as<S, 32>(launch, p, grad_output, value, samples, gradients);
      if (p.channels == 64) return backward_as<S, 64>(launch, p, grad_output, value, samples, gradients);
    }
  }
  backward_as<S, 0>(launch, p, grad_output, value, samples, gradients);
}

template <class S, class P, class Launch>
void list_corners(const Launch& launch, const Problem& p, const Samples<Real<S>, P>& samples, int64_t* pixels, Real<S>* shares) {
  launch(p.groups * kListLanes, list_corners_kernel<S, P>, p, samples, pixels, shares);
}

template <class S, class Launch>
void sum_corners(const Launch& launch, const Problem& p, const S* grad_output, const int64_t* pixels, const int64_t* order,
                 const Real<S>* shares, Real<S>* grad_value) {
  const int64_t all = p.batch * p.length * p.heads, corners = 4 * p.groups * p.levels * p.points;
  if (all * p.channels == 0) return;
  if (p.channels % 4 == 0 && aligned(grad_output)) {
    launch(all * (p.channels / 4), sum_corners_kernel<S, 4>, p, grad_output, pixels, order, shares, corners, grad_value);
  } else {
    launch(all * p.channels, sum_corners_kernel<S, 1>, p, grad_output, pixels, order, shares, corners, grad_value);
  }
}

}  // namespace focus_ops::cuda
