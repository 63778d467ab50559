#include "arguments.h"

#include <cstdint>
#include <limits>
#include <sstream>
#include <string>

namespace focus_ops {
namespace {

std::string list(const std::vector<int64_t>& sizes) {
  std::ostringstream text;
  text << "[";
  for (size_t i = 0; i < sizes.size(); ++i) text << (i ? ", " : "") << sizes[i];
  text << "]";
  return text.str();
}

std::vector<int64_t> sizes_of(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return {sizes.begin(), sizes.end()};
}

void need_shape(const char* name, const Tensor& tensor, const std::vector<int64_t>& needed, const char* axes) {
  STD_TORCH_CHECK(sizes_of(tensor) == needed, "focus_ops: ", name, " has shape ", list(sizes_of(tensor)), ", needed is ",
                  list(needed), " (", axes, ")");
}

void need_like(const char* name, const Tensor& tensor, const Tensor& value, ScalarType type) {
  STD_TORCH_CHECK(tensor.device() == value.device(), "focus_ops: ", name, " lies on another device than value");
  STD_TORCH_CHECK(tensor.scalar_type() == type, "focus_ops: ", name, " must be ",
                  type == ScalarType::Double ? "float64 for a float64 value" : "float32 for a value that is not float64");
}

std::vector<Level> levels_of(const std::vector<int64_t>& spatial_shapes) {
  STD_TORCH_CHECK(spatial_shapes.size() % 2 == 0, "focus_ops: spatial_shapes has ", spatial_shapes.size(),
                  " numbers, needed are height and width of each level");
  // Kernels count pixels in 32 bits. With every side and every sum below that, nothing here wraps around in 64.
  constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
  std::vector<Level> levels;
  int64_t start = 0;
  for (size_t i = 0; i < spatial_shapes.size(); i += 2) {
    const int64_t height = spatial_shapes[i], width = spatial_shapes[i + 1];
    STD_TORCH_CHECK(height >= 0 && width >= 0, "focus_ops: spatial_shapes has a negative size: ", list(spatial_shapes));
    STD_TORCH_CHECK(height <= kLargest && width <= kLargest && height * width <= kLargest - start, "focus_ops: spatial_shapes ",
                    list(spatial_shapes), " has more than 2^31 - 1 positions");
    levels.push_back({height, width, start});
    start += height * width;
  }
  return levels;
}

}  // namespace

ScalarType real_type(ScalarType stored) { return stored == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

Arguments checked(const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& positions,
                  const Tensor& weights, const std::optional<Tensor>& reference) {
  const char* positions_name = reference ? "offsets" : "locations";
  STD_TORCH_CHECK(value.dim() == 4, "focus_ops: value has shape ", list(sizes_of(value)),
                  ", needed is [batch, sum of areas, heads, channels of a head]");
  STD_TORCH_CHECK(positions.dim() == 6, "focus_ops: ", positions_name, " has shape ", list(sizes_of(positions)),
                  ", needed is [batch, queries, heads, levels, points, 2]");
  Geometry g{value.size(0), value.size(1), value.size(2), value.size(3), positions.size(1), positions.size(4),
             levels_of(spatial_shapes)};
  const int64_t area = g.levels.empty() ? 0 : g.levels.back().start + g.levels.back().height * g.levels.back().width;
  STD_TORCH_CHECK(area == g.length, "focus_ops: value of shape ", list(sizes_of(value)), " has ", g.length,
                  " positions, but spatial_shapes ", list(spatial_shapes), " has ", area);
  need_shape(positions_name, positions, {g.batch, g.queries, g.heads, g.level_count(), g.points, 2},
             "batch, queries, heads, levels, points, xy");
  need_shape(reference ? "logits" : "weights", weights, {g.batch, g.queries, g.heads, g.level_count(), g.points},
             "batch, queries, heads, levels, points");
  const ScalarType real = real_type(value.scalar_type());
  // What a network predicts may come in the half type of the value; sums are in float all the same.
  const bool predicted = reference && positions.scalar_type() == value.scalar_type() && weights.scalar_type() == value.scalar_type();
  need_like(positions_name, positions, value, predicted ? value.scalar_type() : real);
  need_like(reference ? "logits" : "weights", weights, value, predicted ? value.scalar_type() : real);

  std::optional<Tensor> points;
  if (reference) {
    const bool shared = reference->dim() > 0 && reference->size(0) == 1;
    need_shape("reference_points", *reference, {shared ? 1 : g.batch, g.queries, g.level_count(), 2},
               "batch or 1, queries, levels, xy");
    need_like("reference_points", *reference, value, real);
    points = torch::stable::contiguous(*reference);
  }
  return {std::move(g), torch::stable::contiguous(value), torch::stable::contiguous(positions),
          torch::stable::contiguous(weights), std::move(points)};
}

Tensor checked_gradient(const Arguments& arguments, const Tensor& grad_output) {
  const Geometry& g = arguments.geometry;
  need_shape("grad_output", grad_output, {g.batch, g.queries, g.heads * g.channels}, "batch, queries, heads * channels");
  STD_TORCH_CHECK(grad_output.device() == arguments.value.device(), "focus_ops: grad_output lies on another device than value");
  STD_TORCH_CHECK(grad_output.scalar_type() == arguments.value.scalar_type(),
                  "focus_ops: grad_output and value must have the same type");
  return torch::stable::contiguous(grad_output);
}

}  // namespace focus_ops
