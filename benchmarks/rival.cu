// What our CUDA kernels are measured against: deformable attention in the straightforward way, one thread per output channel, as
// kernels of the first implementations work. float32; shapes in device memory; each thread reads four pixels of one channel per
// sample. The backward pass adds to the value's gradient with one atomic per channel and corner, and reduces the gradients of
// locations and weights over the channels of a head in shared memory. Written to be a fair rival, not a bad one.
#include <cuda_runtime.h>

#include <cstdint>

namespace {

struct Sizes {
  int batch, length, heads, channels, levels, queries, points;
};

struct Sample {
  int64_t offset[4];
  bool inside[4];
  float share[4], left, right, top, bottom;
};

__device__ bool locate(float x, float y, int height, int width, int64_t stride, Sample& s) {
  if (!(x > -1 && y > -1 && x < width && y < height)) return false;
  const int column = floorf(x), row = floorf(y);
  s.right = x - column, s.bottom = y - row, s.left = 1 - s.right, s.top = 1 - s.bottom;
  for (int corner = 0; corner < 4; ++corner) {
    const int r = row + corner / 2, c = column + corner % 2;
    s.inside[corner] = r >= 0 && r < height && c >= 0 && c < width;
    s.offset[corner] = (static_cast<int64_t>(r) * width + c) * stride;
    s.share[corner] = (corner / 2 ? s.bottom : s.top) * (corner % 2 ? s.right : s.left);
  }
  return true;
}

__global__ void forward(const float* value, const int64_t* shapes, const int64_t* starts, const float* locations,
                        const float* weights, float* output, Sizes n) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread >= static_cast<int64_t>(n.batch) * n.queries * n.heads * n.channels) return;
  const int channel = thread % n.channels, head = thread / n.channels % n.heads;
  const int64_t row = thread / n.channels, batch = row / n.heads / n.queries, stride = n.heads * n.channels;
  float sum = 0;
  for (int l = 0; l < n.levels; ++l) {
    const int height = shapes[2 * l], width = shapes[2 * l + 1];
    const float* pixels = value + (batch * n.length + starts[l]) * stride + head * n.channels + channel;
    for (int p = 0; p < n.points; ++p) {
      const int64_t i = (row * n.levels + l) * n.points + p;
      Sample s;
      if (!locate(locations[2 * i] * width - 0.5f, locations[2 * i + 1] * height - 0.5f, height, width, stride, s)) continue;
      float sampled = 0;
      for (int corner = 0; corner < 4; ++corner)
        if (s.inside[corner]) sampled += s.share[corner] * pixels[s.offset[corner]];
      sum += weights[i] * sampled;
    }
  }
  output[thread] = sum;
}

// One block per query and head, one thread per channel.
__global__ void backward(const float* grad_output, const float* value, const int64_t* shapes, const int64_t* starts,
                         const float* locations, const float* weights, float* grad_value, float* grad_locations,
                         float* grad_weights, Sizes n) {
  extern __shared__ float shared[];
  const int channel = threadIdx.x;
  const int64_t row = blockIdx.x, batch = row / n.heads / n.queries, stride = n.heads * n.channels;
  const int head = row % n.heads;
  const float gradient = grad_output[row * n.channels + channel];
  for (int l = 0; l < n.levels; ++l) {
    const int height = shapes[2 * l], width = shapes[2 * l + 1];
    const int64_t first = (batch * n.length + starts[l]) * stride + head * n.channels + channel;
    for (int p = 0; p < n.points; ++p) {
      const int64_t i = (row * n.levels + l) * n.points + p;
      float by_weight = 0, by_x = 0, by_y = 0;
      Sample s;
      if (locate(locations[2 * i] * width - 0.5f, locations[2 * i + 1] * height - 0.5f, height, width, stride, s)) {
        float pixel[4];
        for (int corner = 0; corner < 4; ++corner) {
          pixel[corner] = s.inside[corner] ? value[first + s.offset[corner]] : 0;
          by_weight += s.share[corner] * pixel[corner] * gradient;
          if (s.inside[corner]) atomicAdd(grad_value + first + s.offset[corner], s.share[corner] * weights[i] * gradient);
        }
        by_x = weights[i] * width * gradient * (s.top * (pixel[1] - pixel[0]) + s.bottom * (pixel[3] - pixel[2]));
        by_y = weights[i] * height * gradient * (s.left * (pixel[2] - pixel[0]) + s.right * (pixel[3] - pixel[1]));
      }
      float *weight_sums = shared, *x_sums = shared + n.channels, *y_sums = shared + 2 * n.channels;
      weight_sums[channel] = by_weight, x_sums[channel] = by_x, y_sums[channel] = by_y;
      __syncthreads();
      for (int half = n.channels / 2; half > 0; half /= 2) {  // the numbers of channels measured are powers of two
        if (channel < half) {
          weight_sums[channel] += weight_sums[channel + half];
          x_sums[channel] += x_sums[channel + half];
          y_sums[channel] += y_sums[channel + half];
        }
        __syncthreads();
      }
      if (channel == 0) {
        grad_weights[i] = weight_sums[0];
        grad_locations[2 * i] = x_sums[0];
        grad_locations[2 * i + 1] = y_sums[0];
      }
      __syncthreads();
    }
  }
}

}  // namespace

extern "C" void rival_forward(const float* value, const int64_t* shapes, const int64_t* starts, const float* locations,
                              const float* weights, float* output, int batch, int length, int heads, int channels, int levels,
                              int queries, int points, void* stream) {
  const int64_t threads = static_cast<int64_t>(batch) * queries * heads * channels;
  forward<<<(threads + 1023) / 1024, 1024, 0, static_cast<cudaStream_t>(stream)>>>(
      value, shapes, starts, locations, weights, output, {batch, length, heads, channels, levels, queries, points});
}

extern "C" void rival_backward(const float* grad_output, const float* value, const int64_t* shapes, const int64_t* starts,
                               const float* locations, const float* weights, float* grad_value, float* grad_locations,
                               float* grad_weights, int batch, int length, int heads, int channels, int levels, int queries,
                               int points, void* stream) {
  backward<<<batch * queries * heads, channels, 3 * channels * sizeof(float), static_cast<cudaStream_t>(stream)>>>(
      grad_output, value, shapes, starts, locations, weights, grad_value, grad_locations, grad_weights,
      {batch, length, heads, channels, levels, queries, points});
}
