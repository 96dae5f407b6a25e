// train.h - a network body made ready for training.
//
// Every layer keeps u, the result of its convolution before batch normalisation, of the whole batch: batch
// statistics are known only when the last image is through. The value max(0, a u + b) is never stored: who
// reads it computes it while it copies rows into a tile with a border. Only sums with a shortcut are stored,
// by their first reader.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "../include/igc_train.h"
#include "convolution.h"
#include "kernels/train.h"
#include "net.h"

namespace igc {

constexpr int kInRegisters = 4;  // L of a secondary that is done in registers; such runs others want too

// Packed weights that are made anew every step. They are planned once with the number of each weight in place
// of its value; from that comes the map that packs weights and unpacks gradients.
class Packed {
 public:
  Arena arena;
  void learn();
  // Weight number n is first[n], or second[n - count] from `count` on.
  void pack(const float* first, size_t count, const float* second);
  size_t floats() const { return source_.size(); }
  size_t offset_of(const float* piece) const;  // of an array of the arena, within the packed weights
  const std::vector<int32_t>& source() const { return source_; }

 private:
  struct Piece {
    float* at;
    size_t begin, size;
  };
  std::vector<Piece> pieces_;
  std::vector<int32_t> source_;  // -1: stays zero
};

struct TrainShape {
  int channels = 0, height = 0, width = 0;
};

// Part of the convolution that leads back to the inputs of one parity of row and column (one part at stride
// 1).
struct BackPart {
  ConvPlan conv;
  int row, column, rows, columns;
};

struct TrainLayer {
  igc_layer spec;
  TrainShape in, out;
  Layout middle, layout;  // of the primary convolution's result and of u
  bool block = false, fours = false, pointwise = false, pool = false;

  // The input's layout and that of its gradient, as the primary convolution counts groups in them.
  Layout from, back_to;

  // Forward. A block with L <= 4 has its secondary in registers (whole); then `conv` serves backward only.
  ConvPlan conv, whole;
  MixPlan mix;
  Packed conv_weights, whole_weights, mix_weights;
  // Backward: data gradients of mix and conv, and of the secondary of L <= 4.
  MixPlan mix_back;
  std::vector<BackPart> conv_back;
  Packed mix_back_weights, conv_back_weights, fours_weights;
  const float *fours_forward = nullptr, *fours_back = nullptr;
  int tile_rows = 1;
  bool keeps_middle = false;  // whether `middle` is stored for backward, not computed again

  int parameter = 0;   // index of its weight; then secondary, gamma, beta
  int statistics = 0;  // index of its moving mean; then its moving variance
  size_t weight_size = 0, secondary_size = 0;
  int value = 0;        // whose gradient is that of this layer's normalised result
  bool last_of_input;   // backward: no other layer contributes to the gradient of its input after this one
  bool first_of_input;  // backward: none has before
  bool stores_input;    // forward: the first reader of a sum stores it

  // By position: value = a * u + b; backward du = ka * dz + kb * u + kc.
  Floats a, b, mean, gamma, ka, kb, kc;
  std::vector<double> variance;
  float* u = nullptr;     // batch x rows x columns x positions
  float* kept = nullptr;  // the primary convolution's result, likewise
};

struct TrainValue {
  TrainShape shape;
  Layout layout;
  int producer = -1;        // layer, -1: the image
  int shortcut_layer = -1;  // of a sum: the layer whose normalised result is added, or
  int shortcut_value = -1;  // the value
  bool sum = false;
  std::vector<int> readers;  // layers that convolve it, in order
  std::vector<int> sums;     // the sum that adds it as it is, if there is one
  bool kept = false;         // stored by its first reader: sums and what they add
  float* stored = nullptr;
  int gradient = -1;  // buffer of its gradient
};

// What one thread works in.
struct TrainScratch {
  Floats x, d;        // tiles with a border: the input, the gradient of the primary convolution's result
  Floats middle, du;  // some rows of the primary convolution's result, of the gradient of u
  Floats result;      // some rows of the gradient of the input
  Floats sums;        // of one tile: 3 x positions
};

// A run of images that one thread works off: sums over it are added up in the order of the slices.
struct TrainSlice {
  std::vector<double> sum, dot, dot2;  // forward: of u - shift, of its square
  Floats shift, weights;
};

struct TrainNet {
  const Kernels* kernels = nullptr;
  const TrainKernels* train = nullptr;
  TrainShape input;
  std::vector<TrainLayer> layers;
  std::vector<TrainValue> values;
  std::vector<size_t> parameter_sizes;
  std::vector<int> statistics_sizes;
  std::vector<int> image_positions;     // where the channels of the image lie
  int gradients = 0;                    // buffers
  std::vector<size_t> gradient_floats;  // of each, per image
  size_t x_floats = 0, d_floats = 0, middle_floats = 0, back_floats = 0, sum_floats = 0, packed_floats = 0;

  // Made when they are needed, kept while they are large enough.
  int64_t capacity = 0, batch = 0;
  bool ready_for_backward = false;
  Floats memory;
  std::vector<float*> gradient_memory;
  std::vector<TrainScratch> scratch;
  std::vector<TrainSlice> slices;
  // Inference: the network folded, and the parameters it was folded with.
  std::unique_ptr<Net> folded;
  std::vector<float> folded_with;
};

// Raises BadArgument where the layers do not fit together or are of a form that has no kernels.
std::unique_ptr<TrainNet> plan_training(const Kernels& kernels, const igc_layer* layers, int64_t n_layers,
                                        int channels, int height, int width);
void check_training(const igc_layer* layers, int64_t n_layers, int channels, int height, int width);
// `in`: layout of its input; `to`: of its input's gradient, in whole vectors.
void plan_layer(const Kernels& kernels, TrainLayer& layer, const Layout& in, const Layout& to);
bool is_grouped(const igc_layer& layer);  // whether its convolution wants groups in their places
// Whether it is a block with groups of one input channel each, which may lie in any order.
bool takes_any_order(const igc_layer& layer, int in_channels);
Layout groups_layout(const igc_layer& layer, int channels);
const TrainKernels& train_kernels_of(const Kernels& kernels);
std::vector<int> branches_interleaved(int channels, int branches);  // new label of each channel

void train_forward(TrainNet& net, const float* x, int64_t batch, const float* const* parameters,
                   float* const* running, float* y, int threads);
void train_backward(TrainNet& net, const float* x, const float* dy, float* const* gradients, float* dx,
                    int threads);
void train_infer(TrainNet& net, const float* x, int64_t batch, const float* const* parameters,
                 const float* const* running, float* y, int threads);

}  // namespace igc
