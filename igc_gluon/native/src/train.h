// train.h - a network body made ready for training.
//
// Every layer keeps u, the result of its convolution before batch normalization, of the whole batch: batch
// statistics are known only when the last image is through. The value max(0, a u + b) is never stored: who
// reads it computes it while it copies rows into a tile with a border. Only sums with a shortcut are stored,
// by their first reader.
#pragma once
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "../include/igc_train.h"
#include "convolution.h"
#include "kernels/train_kernels.h"
#include "net.h"

namespace igc {

// Packed weights that are made anew every step.
struct Repacked {
  Packing packing;
  Packed packed;
  int first,
      second;  // parameters: weight number n is number n of the first, from `count` on n - count of the second
  size_t count;
  size_t floats() const { return packing.weights.size(); }
};

// All that a plan reads.
class TrainWeights {
 public:
  // Lives as long as this.
  const Repacked* add(Packing packing, int first, size_t count, int second);
  void pack(const float* const* parameters, int team);
  size_t bytes() const;

 private:
  std::deque<Repacked> all_;
};

// By which kernels a convolution goes: conv.cpp, pointwise.cpp, or those for runs of 4 channels in registers.
enum class StageWork { Conv, Pointwise, Fours };

// Part of the convolution that leads back to the inputs of one parity of row and column (one part at stride
// 1).
struct BackPart {
  ConvPlan conv;
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
  const Repacked* weights = nullptr;
  std::vector<BackPart> conv_back;
  PointwisePlan pointwise_back;
  const Repacked* back_weights = nullptr;  // of fours
  int parameter = 0;                       // index of its weight
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
  bool pool = false;  // max pooling, the only stage
  int tile_rows = 1;
  bool keeps_middle = false;  // whether the first result is stored for backward, not computed again

  int running = 0;    // index of its moving mean; then variance
  int own_value = 0;  // that it makes
  int value = 0;      // whose gradient is that of its normalized result: its own one or a sum
  size_t u = 0,
         kept = 0;  // places of u, and of the first convolution's result: batch x rows x columns x positions
  // Backward: whether this layer is the last, or the first, that contributes to the gradient of its input.
  bool last_of_input = false, first_of_input = false;
  bool stores_input = false;  // forward: the first reader of a sum stores it

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
  size_t stored = 0;         // its place
  int gradient = -1;         // buffer of its gradient
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

// What there is to know of a network; nothing in it changes when it runs.
struct TrainPlan {
  const Kernels* kernels = nullptr;
  const TrainKernels* train = nullptr;  // null: checked only, which is enough for inference
  std::vector<igc_op> ops;
  std::vector<Shape> shapes;  // of all tensors
  bool maps = false;          // whether the output is the last value as it is, not its mean
  std::vector<TrainLayer> layers;
  std::vector<TrainValue> values;
  std::vector<size_t> parameter_sizes, moving_sizes;
  std::vector<int> image_positions;  // where the channels of the image lie
  // Places in the memory of a pass, in floats of an image: those of buffers for gradients here, others beside what is there.
  std::vector<size_t> gradients;
  size_t memory_floats = 0;  // of an image, in all
  size_t x_floats = 0, d_floats = 0, middle_floats = 0, du_floats = 0, back_floats = 0, sum_floats = 0,
         packed_floats = 0, converted_floats = 0;
};

// What a pass leaves of a layer, by position: value = a * u + b; backward du = ka * dz + kb * u + kc.
struct LayerState {
  Floats a, b, mean, gamma, ka, kb, kc;
  std::vector<double> variance;
};

// Made when it is needed, kept while it is large enough.
struct TrainWorkspace {
  int64_t capacity = 0, batch = 0;
  bool ready_for_backward = false;
  Floats memory;  // `capacity` images of each place
  std::vector<LayerState> layers;
  std::vector<TrainScratch> scratch;
  std::vector<TrainSlice> slices;
};

struct TrainNet {
  std::unique_ptr<const TrainPlan> plan;
  TrainWeights weights;
  TrainWorkspace workspace;
};

// Ops for inference (igc.h) of what is normalized. `numbers`: the parameters of training in order, then the moving
// statistics; gets the scales and biases that these are folded to (fold.cpp). shapes: of all tensors.
std::vector<igc_op> folded(const std::vector<igc_op>& ops, const std::vector<Shape>& shapes,
                           std::vector<float>& numbers);

// Of one row, of one image.
inline ptrdiff_t row_floats(const Shape& shape, const Layout& layout) {
  return (ptrdiff_t)shape.width * layout.positions;
}
inline ptrdiff_t image_floats(const Shape& shape, const Layout& layout) {
  return shape.height * row_floats(shape, layout);
}

// Inference with the parameters of training, for images of any size: folded and packed once, as long as the parameters
// stay the same. A plan and its workspaces for each size, of which those not used for longest are freed.
class Inference {
 public:
  void run(const TrainPlan& plan, const float* x, int64_t batch, int height, int width,
           const float* const* parameters, const float* const* running, float* y, int threads);
  size_t bytes() const;

 private:
  void fold(const TrainPlan& plan, const float* const* parameters, const float* const* running);
  Net& net_of(const TrainPlan& plan, int height, int width);

  std::vector<float> numbers_;  // what it was folded with, then what that gave
  std::vector<igc_op> ops_;     // whose parameters lie there
  Weights weights_;
  std::list<std::unique_ptr<Net>> nets_;  // the last one used first
};

// What there is to know of a network without kernels: enough for inference. Raises BadArgument where the ops do not
// fit together or are of a form that has no kernels.
std::unique_ptr<TrainPlan> check_training(const igc_op* ops, int64_t n_ops, const Shape& input);
// The same, made ready for forward and backward passes.
TrainNet plan_training(const Kernels& kernels, const igc_op* ops, int64_t n_ops, const Shape& input);
// `in`: layout of its input; `to`: of its input's gradient, in whole vectors.
void plan_layer(const Kernels& kernels, TrainWeights& weights, TrainLayer& layer, const Layout& in,
                const Layout& to);
// What a layer's first convolution wants of its input's order.
// Inputs: groups of one input channel each, in any order, which its outputs follow.
enum class Order { Any, Groups, Singles, Inputs };
Order order_of(const TrainLayer& layer);
Layout groups_layout(const TrainLayer& layer, int channels);  // for Order::Groups, and best for Inputs
// Order::Inputs: its input's layout as groups of one channel, if there is such a view.
std::optional<Layout> single_inputs(const Layout& in);
// Gives every value its layout, and every layer that of its input (train_layout.cpp). Raises BadArgument.
void choose_layouts(TrainPlan& plan);
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
