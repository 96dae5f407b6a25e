// net.h - a network for inference: weights, which all sizes of images share, a plan for one size (planner.cpp) and
// workspaces, in which it runs (run.cpp).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../include/igc.h"
#include "amx.h"
#include "convolution.h"

namespace igc {

struct BadArgument : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct NoSuchIsa : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool condition, const char* text) {
  if (!condition) throw BadArgument(text);
}

// What igc_net_create_in is asked for.
struct Precision {
  int32_t kind = IGC_FLOAT32;  // igc_precision
  const float* ranges = nullptr;
  int64_t n_ranges = 0;
};

// What a tensor is kept in. Tensors that differ by a permutation of channels share one.
struct Storage {
  Layout layout;  // as its producer labels it
  int height = 0, width = 0;
  int halo_h = 0, halo_w = 0;
  int first_step = 0, last_step = -1;  // in use from the step that writes it to the last one that reads it
  int buffer = -1;                     // storages that are not in use together share buffers
  Element element = Element::Float32;
  uint8_t zero = 0;  // the byte that stands for 0

  // Words of 32 bits from one pixel to the next.
  int pixel() const { return pixel_stride(layout.positions / per_word(element)); }
};

struct Buffer {
  int height, width, halo_h, halo_w, pixel;  // pixel: words from one to the next
  std::vector<bool> padding;                 // positions that stay zero, not of bytes
  uint8_t fill;                              // every byte, before the first step: the halo keeps it
  size_t floats() const { return (size_t)(height + 2 * halo_h) * (width + 2 * halo_w) * pixel; }
};

enum class Work {
  Conv,
  Pointwise,
  ConvPointwise,
  MaxPool,
  MeanPool,
  Convert,
  ReducedConv,
  ReducedPointwise,
  ReducedConvPointwise,
  ConvReducedPointwise,  // a convolution of floats before a product of reduced elements
  AmxBlock,              // an IGC block whose primary runs on AMX
  Reduce,                // floats to bytes or bfloat16
  Widen,                 // and back
  MakeWords,
  Reorder  // reduced elements
};

// One pass over the rows of its output. ConvPointwise and its kin keep the result of the convolution in a scratch
// of some rows.
struct Step {
  Work work;
  int input = -1, output = -1, residual = -1;  // storages; residual -1: none
  ConvPlan conv;
  PointwisePlan pointwise;
  igc_op pool = {};
  ReducedConv reduced_conv;
  ReducedPointwise reduced_pointwise;
  AmxConv amx;  // if it has blocks, in place of reduced_pointwise or, where there is none, reduced_conv
  AmxMix mix;
  std::vector<int> source;  // Convert, Reorder: the input position for each output position
  int middle_pixel = 0;     // ConvPointwise, ConvReducedPointwise: floats of the scratch from one to the next
  int reduced_pixel =
      0;  // ReducedConvPointwise, ConvReducedPointwise: words in the scratch from one to the next
  int tile_rows = 1;
  Scale scale;      // of the bytes that are made or read
  Layout from, to;  // MakeWords, and ReducedConvPointwise that ends so: then its results, before, have
                    // middle_pixel words in the scratch
};

// Packed weights of a network's ops, for all of its plans: each is packed once and lives as long as a plan uses it.
class Weights {
 public:
  // What was packed for the same key, or what `pack` makes. One thread at a time.
  template <class Pack>
  std::shared_ptr<const Packed> get(const std::vector<int32_t>& key, Pack pack) {
    const auto known = packed_.find(key);
    std::shared_ptr<const Packed> result = known == packed_.end() ? nullptr : known->second.lock();
    if (result) return result;
    for (auto it = packed_.begin(); it != packed_.end();)
      it = it->second.expired() ? packed_.erase(it) : std::next(it);
    result = std::make_shared<const Packed>(pack());
    packed_[key] = result;
    return result;
  }
  size_t bytes() const;

 private:
  std::map<std::vector<int32_t>, std::weak_ptr<const Packed>> packed_;
};

// Nothing in it changes when it runs.
struct Plan {
  const Kernels* kernels;
  int32_t precision = IGC_FLOAT32;          // igc_precision
  const ReducedKernels* reduced = nullptr;  // null: all in float32
  const AmxKernels* amx = nullptr;          // or null
  std::vector<uint8_t> reduced_ops;         // of each op, the igc_unit that computes it
  std::vector<std::shared_ptr<const Packed>> packed;
  Arena arena;  // what is packed for reduced elements
  std::vector<Storage> storages;
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  int input = -1, output = -1;  // storages
  Layout output_layout;         // with the labels of the last tensor
  int channels, height, width;  // of the input
  int out_channels = 0;
  int64_t multiply_adds = 0;
  size_t scratch_floats = 0;

  size_t bytes() const;  // without what is packed in float32
  size_t buffer_floats() const;
};

// Memory for one image.
struct Workspace {
  std::vector<Floats> buffers;
  std::vector<Floats> scratch;  // one for each thread that works on the image
};

// A plan and its workspaces, which are kept for the next call. By several threads at once.
struct Net {
  explicit Net(std::unique_ptr<const Plan> p) : plan(std::move(p)) {}
  const std::unique_ptr<const Plan> plan;
  std::vector<std::unique_ptr<Workspace>> idle;  // under fork_safe_mutex()

  size_t bytes() const;  // as Plan::bytes(). Not while it runs
};

inline PoolTask pool_task(const igc_op& op, Plane x, const Shape& in, Plane y, int width, int positions) {
  return {x.at,  x.row,     x.pixel,     y.at,        y.row,     y.pixel,  in.height, in.width,
          width, positions, op.kernel_h, op.kernel_w, op.stride, op.pad_h, op.pad_w};
}

// Pixels in another order of channels: position p takes source[p], -1: zero.
inline void reorder(const float* from, ptrdiff_t from_pixel, const std::vector<int>& source, float* to,
                    ptrdiff_t to_pixel, ptrdiff_t pixels) {
  for (ptrdiff_t i = 0; i < pixels; i++, from += from_pixel, to += to_pixel)
    for (size_t p = 0; p < source.size(); p++) to[p] = source[p] < 0 ? 0 : from[source[p]];
}

// Gives every storage its buffer (buffers.cpp).
void assign_buffers(Plan& plan);

// Raises BadArgument. `numbers` and ranges are not needed afterwards. shared: of the same ops,
// numbers and kernels.
std::unique_ptr<const Plan> plan_net(const Kernels& kernels, const igc_op* ops, int64_t n_ops,
                                     const float* numbers, int64_t n_numbers, int channels, int height,
                                     int width, Weights& shared, const Precision& precision = {});

// Rows of the steps on reduced elements, and of those that convert to and from them (reduced_run.cpp). `positions`: of x.
void run_reduced_rows(const ReducedKernels& kernels, const Step& step, Plane x, Plane y, Plane residual,
                      int width, int begin, int end, float* scratch);
void convert_rows(const ReducedKernels& kernels, const Step& step, int positions, Plane x, Plane y, int width,
                  int begin, int end);

// Raises BadArgument where the arguments do not fit.
void run_net(Net* net, const float* x, int64_t batch, float* y, int threads);

}  // namespace igc
