// net.h - a planned network: what igc_net_create makes of a list of ops, and what igc_net_run carries out.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "../include/igc.h"
#include "convolution.h"

namespace igc {

struct BadArgument : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a tensor is kept in. Tensors that differ by a permutation of channels share one.
struct Storage {
  Layout layout;  // as its producer labels it
  int height = 0, width = 0;
  int halo_h = 0, halo_w = 0;
  int first_step = 0, last_step = 0;  // in use from the step that writes it to the last one that reads it
  int buffer = -1;                    // storages that are not in use together share buffers
};

struct Buffer {
  int height, width, halo_h, halo_w, pixel;  // pixel: floats from one to the next
  std::vector<bool> padding;                 // positions that stay zero
  size_t floats() const { return (size_t)(height + 2 * halo_h) * (width + 2 * halo_w) * pixel; }
};

enum class Work { Conv, Mix, ConvMix, MaxPool, MeanPool, Convert };

// One pass over the rows of its output. ConvMix keeps the result of the convolution in a scratch of some
// rows.
struct Step {
  Work work;
  int input, output, residual;  // storages; residual -1: none
  ConvPlan conv;
  MixPlan mix;
  igc_op pool = {};
  std::vector<int> source;  // Convert: the input position for each output position
  int middle_pixel = 0;     // ConvMix: floats from one to the next
  int tile_rows = 1;
};

struct Net {
  const Kernels* kernels;
  Arena arena;
  std::vector<Storage> storages;
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  int input = -1, output = -1;  // storages
  Layout output_layout;         // with the labels of the last tensor
  int channels, height, width;  // of the input
  int out_channels = 0;
  int64_t multiply_adds = 0;
  size_t scratch_floats = 0;

  // Private memory for one image. Kept for the next call.
  struct Context {
    std::vector<Floats> buffers;
    std::vector<Floats> scratch;  // one for each thread that works on the image
  };
  std::mutex mutex;
  std::vector<std::unique_ptr<Context>> idle;
};

// Gives every storage its buffer (buffers.cpp).
void assign_buffers(Net& net);

// Raises BadArgument. `weights` is not needed afterwards.
std::unique_ptr<Net> plan_net(const Kernels& kernels, const igc_op* ops, int64_t n_ops, const float* weights,
                              int64_t n_weights, int channels, int height, int width);

void run_net(Net& net, const float* x, int64_t batch, float* y, int threads);

}  // namespace igc
