// train_plan.cpp - checks a list of layers and decides what is common to them: layouts, and who waits for
// whom on the way back.
#include <algorithm>
#include <string>

#include "train.h"

namespace igc {
namespace {

constexpr size_t kMostWeights = (size_t)1 << 24;  // numbers of weights must be exact as floats
constexpr int kMostChannels = 1 << 16, kMostPixels = 1 << 12, kMostLayers = 1 << 14, kMostKernel = 31;

void require(bool condition, int64_t layer, const char* what) {
  if (!condition) throw BadArgument("layer " + std::to_string(layer) + ": " + what);
}

class TrainPlanner {
 public:
  TrainPlanner(TrainNet& net, const igc_layer* specs, int64_t n) : net_(net), specs_(specs), n_((int)n) {}

  void check_all() {
    check();
    choose_layouts();
  }

  void plan() {
    check_all();
    for (int i = 0; i < n_; i++) {
      TrainLayer& layer = net_.layers[i];
      layer.layout = net_.values[i + 1].layout;
      plan_layer(*net_.kernels, layer, net_.values[layer.spec.input].layout,
                 input_gradient_layout(layer.spec.input));
    }
    order_gradients();
    measure();
  }

 private:
  void check() {
    net_.values.resize(n_ + 1);
    net_.values[0].shape = net_.input;
    net_.layers.resize(n_);
    for (int i = 0; i < n_; i++) {
      const igc_layer& s = specs_[i];
      TrainLayer& layer = net_.layers[i];
      TrainValue& value = net_.values[i + 1];
      require(s.kind == IGC_CONV, i, "unknown kind");
      require(s.input >= 0 && s.input <= i, i, "its input must be an earlier value");
      require(s.residual >= -1 && s.residual <= i && s.residual != 0, i,
              "its residual must be the value of an earlier layer");
      const TrainShape in = net_.values[s.input].shape;
      require(s.channels >= 1 && s.channels <= kMostChannels, i, "channels must be 1 to 65536");
      require(s.groups >= 1 && in.channels % s.groups == 0 && s.channels % s.groups == 0, i,
              "groups must divide the input and the output channels");
      require(s.secondary >= 0 && (s.secondary == 0 || s.channels % s.secondary == 0), i,
              "secondary must divide the channels");
      require(s.kernel >= 1 && s.kernel % 2 == 1 && s.kernel <= kMostKernel, i,
              "kernel must be odd, 1 to 31");
      require(s.stride == 1 || s.stride == 2, i, "stride must be 1 or 2");
      require(s.epsilon > 0 && s.momentum >= 0 && s.momentum <= 1, i,
              "epsilon must be positive, momentum 0 to 1");
      require(s.activation >= IGC_LINEAR && s.activation <= IGC_RELU6, i, "unknown activation");
      require(s.residual < 0 || s.activation != IGC_RELU6, i, "there is no kernel for a sum with a ReLU6");
      layer.spec = s;
      layer.in = in;
      layer.out = {s.channels, (in.height - 1) / s.stride + 1, (in.width - 1) / s.stride + 1};
      layer.block = s.secondary > 0;
      layer.pointwise = s.kernel == 1 && !layer.block;
      layer.value = i + 1;
      value.shape = layer.out;
      value.producer = i;
      net_.values[s.input].readers.push_back(i);
      layer.weight_size = (size_t)s.channels * (in.channels / s.groups) * s.kernel * s.kernel;
      layer.secondary_size = layer.block ? (size_t)s.channels * (s.channels / s.secondary) : 0;
      require(layer.weight_size + layer.secondary_size < kMostWeights, i, "has more than 2^24 weights");
      layer.parameter = (int)net_.parameter_sizes.size();
      net_.parameter_sizes.push_back(layer.weight_size);
      if (layer.block) net_.parameter_sizes.push_back(layer.secondary_size);
      net_.parameter_sizes.insert(net_.parameter_sizes.end(), 2, (size_t)s.channels);
    }
    for (int i = 0; i < n_; i++)
      if (specs_[i].residual >= 0) check_sum(i, specs_[i].residual);
    for (int v = 1; v <= n_; v++) {
      require(v == n_ || !net_.values[v].readers.empty() || net_.layers[v - 1].value != v, v - 1,
              "nothing uses its value");
      // A sum is stored by its first reader, which must come before what adds it on as it is.
      require(net_.values[v].sums.size() <= 1, v - 1, "is added twice");
      for (int sum : net_.values[v].sums)
        require(!net_.values[v].readers.empty() && net_.values[v].readers[0] < sum - 1, v - 1,
                "is added before it is convolved");
    }
  }

  // Layer i adds value v. What nothing else reads is added as it is normalised and never stored: a shortcut.
  void check_sum(int i, int v) {
    TrainValue &other = net_.values[v], &value = net_.values[i + 1];
    require(other.shape.channels == value.shape.channels && other.shape.height == value.shape.height &&
                other.shape.width == value.shape.width,
            i, "its residual has another shape than its output");
    value.sum = true;
    if (!other.readers.empty()) {
      value.shortcut_value = v;
      other.sums.push_back(i + 1);
      return;
    }
    const igc_layer& shortcut = specs_[v - 1];
    require(shortcut.activation == IGC_LINEAR && shortcut.residual < 0, i,
            "nothing convolves its residual, which must then be a layer without activation or sum");
    require(net_.layers[v - 1].value == v, i, "a shortcut can be added once");
    value.shortcut_layer = v - 1;
    net_.layers[v - 1].value = i + 1;
  }

  void choose_layouts() {
    for (int v = n_; v >= 0; v--) {
      TrainValue& value = net_.values[v];
      const int channels = value.shape.channels;
      const igc_layer* wish = nullptr;
      for (int reader : value.readers)
        if (is_grouped(specs_[reader])) {
          require(!wish || groups_layout(*wish, channels).channel_at ==
                               groups_layout(specs_[reader], channels).channel_at,
                  reader, "readers of one value must have equal groups");
          wish = &specs_[reader];
        }
      int like = value.sums.empty() ? -1 : value.sums.back();
      if (v > 0 && net_.layers[v - 1].value != v) like = net_.layers[v - 1].value;
      if (wish)
        value.layout = groups_layout(*wish, channels);
      else if (like > 0)
        value.layout = net_.values[like].layout;
      else if (v > 0 && is_grouped(specs_[v - 1]))
        value.layout = groups_layout(specs_[v - 1], channels);
      else
        value.layout =
            Layout::plain(channels, v > 0 || std::any_of(value.readers.begin(), value.readers.end(),
                                                         [&](int r) { return net_.layers[r].pointwise; }));
      for (int sum : value.sums) check_same(value.layout, net_.values[sum].layout, sum - 1);
      if (v > 0 && net_.layers[v - 1].value != v) check_same(value.layout, net_.values[like].layout, v - 1);
      if (v > 0 && !specs_[v - 1].secondary && is_grouped(specs_[v - 1]))
        require(value.layout.channel_at == groups_layout(specs_[v - 1], channels).channel_at, v - 1,
                "its output has another order of channels than its groups");
    }
  }

  void check_same(const Layout& a, const Layout& b, int layer) {
    require(a.channel_at == b.channel_at, layer, "its residual has another order of channels");
  }

  // The gradient of the image is written in whole vectors.
  const Layout& input_gradient_layout(int value) {
    if (value > 0) return net_.values[value].layout;
    if (image_layout_.positions == 0)
      image_layout_ =
          net_.values[0].layout.positions % 16 ? Layout::plain(net_.input.channels) : net_.values[0].layout;
    return image_layout_;
  }

  // Backward runs through the layers in reverse. The last layer to reach a value finishes its gradient.
  void order_gradients() {
    for (int i = n_ - 1; i >= 0; i--) {
      TrainLayer& layer = net_.layers[i];
      const std::vector<int>& readers = net_.values[layer.spec.input].readers;
      layer.first_of_input = readers.back() == i;
      layer.last_of_input = layer.stores_input = readers.front() == i;
    }
    for (TrainValue& value : net_.values) value.kept = value.sum || !value.sums.empty();
    // Buffers by liveness; a chain works in place where a finished row is never read again.
    std::vector<int> free;
    auto take = [&](int v) {
      const TrainValue& value = net_.values[v];
      const size_t size = (size_t)value.shape.height * value.shape.width * value.layout.positions;
      int buffer;
      if (free.empty()) {
        buffer = net_.gradients++;
        net_.gradient_floats.push_back(0);
      } else {
        buffer = free.back();
        free.pop_back();
      }
      net_.gradient_floats[buffer] = std::max(net_.gradient_floats[buffer], size);
      net_.values[v].gradient = buffer;
    };
    take(n_);
    for (int i = n_ - 1; i >= 0; i--) {
      const TrainLayer& layer = net_.layers[i];
      const TrainValue &value = net_.values[layer.value], &input = net_.values[layer.spec.input];
      const bool in_place = layer.spec.stride == 1 && input.layout.positions == value.layout.positions;
      // A sum that adds the input as it is, is read element by element by whoever finishes the input.
      const int sum = input.sums.empty() ? -1 : input.sums[0];
      if (sum > 0 && sum != layer.value && last_use(sum) == i) free.push_back(net_.values[sum].gradient);
      const bool done = last_use(layer.value) == i;
      if (done && in_place) free.push_back(value.gradient);
      if (layer.spec.input > 0 && input.gradient < 0) take(layer.spec.input);
      if (done && !in_place) free.push_back(value.gradient);
    }
  }

  // The last layer, going back, that reads the gradient of value v.
  int last_use(int v) const {
    int last = n_;
    for (int i = 0; i < n_; i++)
      if (net_.layers[i].value == v) last = std::min(last, i);
    const int shortcut = net_.values[v].shortcut_value;
    if (shortcut > 0) last = std::min(last, net_.values[shortcut].readers.front());
    return last;
  }

  void measure() {
    for (const TrainLayer& layer : net_.layers) {
      const Layout& in = input_gradient_layout(layer.spec.input);
      const size_t halo = layer.spec.kernel + 1;
      auto raise = [](size_t& to, size_t value) { to = std::max(to, value); };
      raise(net_.x_floats, (layer.in.height + halo) * (layer.in.width + halo) * (size_t)in.positions);
      raise(net_.d_floats,
            (layer.out.height + halo) * (layer.out.width + halo) * (size_t)layer.layout.positions);
      raise(net_.middle_floats, (size_t)layer.tile_rows * layer.out.width * layer.layout.positions);
      raise(net_.back_floats, (size_t)layer.in.height * layer.in.width * in.positions);
      raise(net_.sum_floats, (size_t)std::max(layer.layout.positions, in.positions));
      raise(net_.packed_floats, layer.conv_weights.floats() + layer.mix_weights.floats());
    }
    net_.image_positions = positions_of(net_.values[0].layout, net_.input.channels);
    if (net_.x_floats > ((size_t)1 << 31)) throw BadArgument("one image takes more than 2^31 floats");
  }

  TrainNet& net_;
  const igc_layer* specs_;
  const int n_;
  Layout image_layout_;
};

}  // namespace

const TrainKernels& train_kernels_of(const Kernels& kernels) {
#ifdef IGC_X86
  if (&kernels == &avx512::kernels) return avx512::train_kernels;
  if (&kernels == &avx2::kernels) return avx2::train_kernels;
#endif
  (void)kernels;
  return portable::train_kernels;
}

namespace {

void check_sizes(const igc_layer* layers, int64_t n_layers, int channels, int height, int width) {
  if (!layers || n_layers < 1 || n_layers > kMostLayers)
    throw BadArgument("a network needs 1 to 16384 layers");
  if (channels < 1 || channels > kMostChannels || height < 1 || height > kMostPixels || width < 1 ||
      width > kMostPixels)
    throw BadArgument("the image needs 1 to 65536 channels and 1 to 4096 rows and columns");
}

}  // namespace

void check_training(const igc_layer* layers, int64_t n_layers, int channels, int height, int width) {
  check_sizes(layers, n_layers, channels, height, width);
  TrainNet net;
  net.input = {channels, height, width};
  TrainPlanner(net, layers, n_layers).check_all();
}

std::unique_ptr<TrainNet> plan_training(const Kernels& kernels, const igc_layer* layers, int64_t n_layers,
                                        int channels, int height, int width) {
  check_sizes(layers, n_layers, channels, height, width);
  auto net = std::make_unique<TrainNet>();
  net->kernels = &kernels;
  net->train = &train_kernels_of(kernels);
  net->input = {channels, height, width};
  TrainPlanner(*net, layers, n_layers).plan();
  return net;
}

}  // namespace igc
