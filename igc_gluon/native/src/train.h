// train.h - a network body made ready for training.
//
// Every layer keeps u, the result of its convolution before batch normalization, of the whole batch: batch
// statistics are known only when the last image is through. The value max(0, a u + b) is never stored: who
// reads it computes it while it copies rows into a tile with a border. Only sums with a shortcut are stored,
// by their first reader.
#pragma once
#include <array>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "../include/igc_train.h"
#include "convolution.h"
#include "kernels/train_kernels.h"
#include "net.h"

namespace igc {

// Packed weights of a plan that are made anew every step.
struct Repacked {
  Packing packing;
  Packed packed;
  Repacked() = default;
  explicit Repacked(Packing p) : packing(std::move(p)), packed(packing) {}
  template <class Plan>
  Repacked(Plan& plan, Packing p) : Repacked(std::move(p)) {
    plan.weights = packed.weights.get();
    plan.bias = packed.bias.get();
  }
  // Weight number n is first[n], or second[n - count] from `count` on.
  void pack(const float* first, size_t count, const float* second);
  size_t floats() const { return packing.weights.size(); }
  size_t bytes() const { return packed.bytes + floats() * sizeof(int32_t); }
};

// By which kernels a convolution goes: conv.cpp, pointwise.cpp, or those for runs of 4 channels in registers.
enum class StageWork { Conv, Pointwise, Fours };

// Part of the convolution that leads back to the inputs of one parity of row and column (one part at stride
// 1).
struct BackPart {
  ConvPlan conv;
  Repacked weights;
  int row, column, rows, columns;
};

// One convolution, and what leads gradients back through it.
struct TrainStage {
  igc_op op;
  int inputs = 0;  // channels
  Layout in, out;  // labeled as its inputs and outputs are numbered
  StageWork work = StageWork::Conv;
  ConvPlan conv;
  PointwisePlan pointwise;
  Repacked weights;
  std::vector<BackPart> conv_back;
  PointwisePlan pointwise_back;
  Repacked back_weights;  // of pointwise_back, or of fours
  int parameter = 0;      // index of its weight
  size_t weight_size = 0;
  size_t offset = 0;  // of the gradient of its packed weights in a slice's
};

// Convolutions in a row, of which the first may be spatial, then batch normalization.
struct TrainLayer {
  std::vector<TrainStage> stages;
  Shape in, out;
  Layout
      input;  // in which it reads its input: the value's own order, or, where that does not serve it, another one
  // Where it is another: of each position here, and of the value (of its gradient in whole vectors), the position
  // there, -1: padding. Else empty.
  std::vector<int> from_value, to_value;
  Layout layout;  // of u
  // Where the second convolution's kernel has L <= 4, it is done in the first one's registers. `stages` then
  // serve backward only.
  ConvPlan whole;
  Repacked whole_weights;
  bool pool = false;  // max pooling, the only stage
  int tile_rows = 1;
  bool keeps_middle = false;  // whether the first result is stored for backward, not computed again

  int running = 0;    // index of its moving mean; then variance
  int own_value = 0;  // that it makes
  int value = 0;      // whose gradient is that of its normalized result: its own one or a sum
  // Backward: whether this layer is the last, or the first, that contributes to the gradient of its input.
  bool last_of_input = false, first_of_input = false;
  bool stores_input = false;  // forward: the first reader of a sum stores it

  // By position: value = a * u + b; backward du = ka * dz + kb * u + kc.
  Floats a, b, mean, gamma, ka, kb, kc;
  std::vector<double> variance;
  float* u = nullptr;     // batch x rows x columns x positions
  float* kept = nullptr;  // the first convolution's result, likewise

  const igc_op& lead() const { return stages.front().op; }
  const igc_op& last() const { return stages.back().op; }
  int gamma_parameter() const { return stages.back().parameter + 1; }
  bool several() const { return stages.size() > 1; }
  bool converts() const { return !from_value.empty(); }
  bool in_registers() const { return stages.back().work == StageWork::Fours && !keeps_middle; }
};

struct TrainValue {
  Shape shape;
  Layout layout;
  int producer = -1;        // layer, -1: the image
  bool inner = false;       // between the convolutions of a layer: not kept
  int shortcut_layer = -1;  // of a sum: the layer whose normalized result is added, or
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
  Floats middle, du;  // some rows of the results of convolutions but the last, of the gradients of them and u
  Floats result;      // some rows of the gradient of the input
  Floats converted;   // a row of the input, or some of its gradient, in the value's order
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
  std::vector<igc_op> ops;
  std::vector<Shape> shapes;  // of all tensors
  bool maps = false;          // whether the output is the last value as it is, not its mean
  std::vector<TrainLayer> layers;
  std::vector<TrainValue> values;
  std::vector<size_t> parameter_sizes;
  std::vector<size_t> moving_sizes;
  std::vector<int> image_positions;     // where the channels of the image lie
  int gradients = 0;                    // buffers
  std::vector<size_t> gradient_floats;  // of each, per image
  size_t x_floats = 0, d_floats = 0, middle_floats = 0, du_floats = 0, back_floats = 0, sum_floats = 0,
         packed_floats = 0, converted_floats = 0;

  // Made when they are needed, kept while they are large enough.
  int64_t capacity = 0, batch = 0;
  size_t memory_floats = 0;
  bool ready_for_backward = false;
  Floats memory;
  std::vector<float*> gradient_memory;
  std::vector<TrainScratch> scratch;
  std::vector<TrainSlice> slices;
};

// Ops for inference (igc.h) of what is normalized. `numbers`: the parameters of training in order, then the moving
// statistics; gets the scales and biases that these are folded to (fold.cpp). shapes: of all tensors.
std::vector<igc_op> folded(const std::vector<igc_op>& ops, const std::vector<Shape>& shapes,
                           std::vector<float>& numbers);

// Inference with the parameters of training, for images of any size: folded and packed once, as long as the parameters
// stay the same. A plan and its workspaces for each size, of which those not used for longest are freed.
class Inference {
 public:
  void run(const TrainNet& net, const float* x, int64_t batch, int height, int width,
           const float* const* parameters, const float* const* running, float* y, int threads);
  size_t bytes() const;

 private:
  void fold(const TrainNet& net, const float* const* parameters, const float* const* running);
  Net& net_of(const TrainNet& net, int height, int width);

  std::vector<float> numbers_;  // what it was folded with, then what that gave
  std::vector<igc_op> ops_;     // whose parameters lie there
  Weights weights_;
  std::list<std::unique_ptr<Net>> nets_;  // the last one used first
};

// What there is to know of a network without kernels: enough for inference. Raises BadArgument where the ops do not
// fit together or are of a form that has no kernels.
std::unique_ptr<TrainNet> check_training(const igc_op* ops, int64_t n_ops, const Shape& input);
// The same, made ready for forward and backward passes.
std::unique_ptr<TrainNet> plan_training(const Kernels& kernels, const igc_op* ops, int64_t n_ops,
                                        const Shape& input);
// `in`: layout of its input; `to`: of its input's gradient, in whole vectors.
void plan_layer(const Kernels& kernels, TrainLayer& layer, const Layout& in, const Layout& to);
// What a layer's first convolution wants of its input's order.
// Inputs: groups of one input channel each, in any order, which its outputs follow.
enum class Order { Any, Groups, Singles, Inputs };
Order order_of(const TrainLayer& layer);
Layout groups_layout(const TrainLayer& layer, int channels);  // for Order::Groups, and best for Inputs
// Order::Inputs: its input's layout as groups of one channel, if there is such a view.
std::optional<Layout> single_inputs(const Layout& in);
// Gives every value its layout, and every layer that of its input (train_layout.cpp). Raises BadArgument.
void choose_layouts(TrainNet& net);
// From the channels of a layer's last convolution to those of its normalization, and on to its value's.
Labels normalized_labels(const TrainLayer& layer);
Labels value_labels(const TrainLayer& layer);
const TrainKernels& train_kernels_of(const Kernels& kernels);

// What it holds now. Not while it runs.
size_t bytes_of(const TrainNet& net);

void train_forward(TrainNet& net, const float* x, int64_t batch, const float* const* parameters,
                   float* const* running, float* y, int threads);
void train_backward(TrainNet& net, const float* x, const float* dy, float* const* gradients, float* dx,
                    int threads);

}  // namespace igc
