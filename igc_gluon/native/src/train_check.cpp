// train_check.cpp - reads a list of layers: whether they fit together, which of them make one, what is added where.
#include <string>

#include "train.h"

namespace igc {
namespace {

constexpr size_t kMostWeights = (size_t)1 << 30;  // of a convolution: those of two are numbered together
constexpr int kMostChannels = 1 << 16, kMostPixels = 1 << 12, kMostLayers = 1 << 14, kMostKernel = 31;

void require(bool condition, int64_t layer, const char* what) {
  if (!condition) throw BadArgument("layer " + std::to_string(layer) + ": " + what);
}

class TrainChecker {
 public:
  TrainChecker(TrainNet& net, const igc_layer* specs, int64_t n) : net_(net), specs_(specs), n_((int)n) {}

  void check() {
    net_.values.resize(n_ + 1);
    net_.values[0].shape = net_.input;
    std::vector<TrainStage> stages;  // of the layer that is not complete yet
    for (int i = 0; i < n_; i++) {
      const igc_layer& s = specs_[i];
      check_numbers(i);
      const Shape in = net_.values[s.input].shape;
      TrainValue& value = net_.values[i + 1];
      value.shape = {s.channels, (in.height - 1) / s.stride + 1, (in.width - 1) / s.stride + 1};
      const bool pool = s.kind == IGC_MAX_POOL;
      require(stages.empty() || (!pool && s.input == i && s.kernel == 1 && s.stride == 1), i,
              "a layer without normalization must be followed by a 1x1 convolution of it with stride 1");
      require(stages.empty() || s.residual != i, i, "what is not normalized cannot be added");
      TrainStage stage;
      stage.spec = s;
      stage.inputs = in.channels;
      stage.weight_size = pool ? 0 : (size_t)s.channels * (in.channels / s.groups) * s.kernel * s.kernel;
      require(stage.weight_size <= kMostWeights, i, "has more than 2^30 weights");
      stage.parameter = (int)net_.parameter_sizes.size();
      if (!pool) net_.parameter_sizes.push_back(stage.weight_size);
      if (stages.empty()) net_.values[s.input].readers.push_back((int)net_.layers.size());
      stages.push_back(std::move(stage));
      value.inner = !s.normalized && !pool;
      if (value.inner) continue;
      if (s.normalized) net_.parameter_sizes.insert(net_.parameter_sizes.end(), 2, (size_t)s.channels);
      value.producer = (int)net_.layers.size();
      TrainLayer layer;
      layer.stages = std::move(stages);
      stages.clear();
      layer.in = net_.values[layer.lead().input].shape;
      layer.out = value.shape;
      layer.pool = pool;
      layer.running = net_.moving_statistics;
      layer.own_value = layer.value = i + 1;
      if (s.normalized) net_.moving_statistics += 2;
      net_.layers.push_back(std::move(layer));
    }
    require(stages.empty(), n_ - 1, "the last layer must be normalized");
    for (int v = 1; v <= n_; v++)
      if (!net_.values[v].inner && specs_[v - 1].residual >= 0) check_sum(v, specs_[v - 1].residual);
    for (int v = 1; v <= n_; v++) {
      const TrainValue& value = net_.values[v];
      if (value.inner) continue;
      require(v == n_ || !value.readers.empty() || layer_of(v).value != v, v - 1, "nothing uses its value");
      // A sum is stored by its first reader, which must come before what adds it on as it is.
      require(value.sums.size() <= 1, v - 1, "is added twice");
      for (int sum : value.sums)
        require(!value.readers.empty() && value.readers[0] < net_.values[sum].producer, v - 1,
                "is added before it is convolved");
    }
  }

 private:
  void check_numbers(int i) {
    const igc_layer& s = specs_[i];
    require(s.kind == IGC_CONV || s.kind == IGC_MAX_POOL, i, "unknown kind");
    require(s.input >= 0 && s.input <= i, i, "its input must be an earlier value");
    require(s.residual >= -1 && s.residual <= i && s.residual != 0, i,
            "its residual must be the value of an earlier layer");
    require(s.input == i || !net_.values[s.input].inner, i, "its input is not normalized");
    const int in = net_.values[s.input].shape.channels;
    require(s.channels >= 1 && s.channels <= kMostChannels, i, "channels must be 1 to 65536");
    require(s.kind == IGC_CONV || (s.channels == in && s.groups == 1 && s.permute == 1 && !s.normalized), i,
            "max pooling keeps the channels and has no groups, permutation or normalization");
    require(s.groups >= 1 && in % s.groups == 0 && s.channels % s.groups == 0, i,
            "groups must divide the input and the output channels");
    require(s.kernel >= 1 && s.kernel % 2 == 1 && s.kernel <= kMostKernel, i, "kernel must be odd, 1 to 31");
    require(s.stride == 1 || s.stride == 2, i, "stride must be 1 or 2");
    for (int branches : {s.permute, s.reorder})
      require(branches >= 1 && s.channels % branches == 0, i, "permute and reorder must divide the channels");
    require(s.activation >= IGC_LINEAR && s.activation <= IGC_RELU6, i, "unknown activation");
    require(s.residual < 0 || s.activation != IGC_RELU6, i, "there is no kernel for a sum with a ReLU6");
    require(s.normalized == 0 || s.normalized == 1, i, "normalized must be 0 or 1");
    require(s.normalized || (s.residual < 0 && s.activation == IGC_LINEAR && s.reorder == 1), i,
            "a layer without normalization has no sum, activation or reorder");
    require(s.epsilon > 0 && s.momentum >= 0 && s.momentum <= 1, i,
            "epsilon must be positive, momentum 0 to 1");
  }

  TrainLayer& layer_of(int v) { return net_.layers[net_.values[v].producer]; }

  // Value v is a sum with value r. What nothing else reads is added as it is normalized and never stored: a
  // shortcut.
  void check_sum(int v, int r) {
    TrainValue &other = net_.values[r], &value = net_.values[v];
    require(!other.inner, v - 1, "what is not normalized cannot be added");
    require(other.shape == value.shape, v - 1, "its residual has another shape than its output");
    value.sum = true;
    if (!other.readers.empty()) {
      value.shortcut_value = r;
      other.sums.push_back(v);
      return;
    }
    require(specs_[r - 1].activation == IGC_LINEAR && specs_[r - 1].residual < 0, v - 1,
            "nothing convolves its residual, which must then be a layer without activation or sum");
    require(layer_of(r).value == r, v - 1, "a shortcut can be added once");
    value.shortcut_layer = other.producer;
    layer_of(r).value = v;
  }

  TrainNet& net_;
  const igc_layer* specs_;
  const int n_;
};

void check_sizes(const igc_layer* layers, int64_t n_layers, int channels, int height, int width) {
  if (!layers || n_layers < 1 || n_layers > kMostLayers)
    throw BadArgument("a network needs 1 to 16384 layers");
  if (channels < 1 || channels > kMostChannels || height < 1 || height > kMostPixels || width < 1 ||
      width > kMostPixels)
    throw BadArgument("the image needs 1 to 65536 channels and 1 to 4096 rows and columns");
}

}  // namespace

std::unique_ptr<TrainNet> check_training(const igc_layer* layers, int64_t n_layers, int channels, int height,
                                         int width) {
  check_sizes(layers, n_layers, channels, height, width);
  auto net = std::make_unique<TrainNet>();
  net->input = {channels, height, width};
  TrainChecker(*net, layers, n_layers).check();
  choose_layouts(*net);
  return net;
}

}  // namespace igc
