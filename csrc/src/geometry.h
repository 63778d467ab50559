// The sizes of one call and the types of its numbers, shared by all kernels.
#pragma once

#include <cstdint>
#include <vector>

namespace focus_ops {

struct Level {
  int64_t height;
  int64_t width;
  int64_t start;  // of its first position among those of all levels
};

struct Geometry {
  int64_t batch;
  int64_t length;  // positions of all levels together
  int64_t heads;
  int64_t channels;  // of one head
  int64_t queries;
  int64_t points;  // per level
  std::vector<Level> levels;

  int64_t level_count() const { return static_cast<int64_t>(levels.size()); }
  int64_t samples() const { return level_count() * points; }  // per query and head
};

// The type of sums, positions and weights: half types are summed in float.
template <class Stored>
struct RealOf {
  using type = float;
};
template <>
struct RealOf<double> {
  using type = double;
};
template <class Stored>
using Real = typename RealOf<Stored>::type;

}  // namespace focus_ops
