// train_plan.cpp - from a list of layers to layouts, packing maps and the order of gradients.
#include <algorithm>
#include <string>

#include "train.h"

namespace igc {
namespace {

constexpr int kInRegisters = 4;
constexpr size_t kMostWeights = (size_t)1 << 24;  // numbers of weights must be exact as floats
// Multiply-adds for each result of a primary convolution from which on it is cheaper kept than computed again: a
// float written, fetched and read against as many multiply-adds as take that long.
constexpr int kKeepFrom = 64;
constexpr int kMostChannels = 1 << 16, kMostPixels = 1 << 12, kMostLayers = 1 << 14, kMostKernel = 31;

void require(bool condition, int64_t layer, const char* what) {
  if (!condition) throw BadArgument("layer " + std::to_string(layer) + ": " + what);
}

std::vector<int> inverse(const std::vector<int>& labels) {
  std::vector<int> result(labels.size());
  for (size_t i = 0; i < labels.size(); i++) result[labels[i]] = (int)i;
  return result;
}

// first, first + 1, ...: numbers of weights, from 1 on because 0 is no weight.
std::vector<float> numbers(size_t count, size_t first = 1) {
  std::vector<float> result(count);
  for (size_t i = 0; i < count; i++) result[i] = (float)(first + i);
  return result;
}

Filter filter_of(int outputs, int inputs, int groups, int kernel_h, int kernel_w, const float* weights) {
  Filter filter;
  filter.outputs = outputs;
  filter.inputs = inputs;
  filter.groups = groups;
  filter.kernel_h = kernel_h;
  filter.kernel_w = kernel_w;
  filter.weights = weights;
  return filter;
}

// Taps of one dimension that lead to inputs of one parity: input y = stride * i + parity meets output i + shift[t]
// through tap[t], shifts ascending.
struct ParityTaps {
  std::vector<int> tap;
  int first_shift = 0;
};

ParityTaps parity_taps(int kernel, int pad, int stride, int parity) {
  ParityTaps taps;
  for (int k = kernel - 1; k >= 0; k--) {
    const int twice = parity + pad - k;
    if (((twice % stride) + stride) % stride) continue;
    if (taps.tap.empty()) taps.first_shift = twice >= 0 ? twice / stride : -((-twice) / stride);
    taps.tap.push_back(k);
  }
  return taps;
}

// Weights (outputs, inputs / groups, k, k), numbered, turned round: (inputs, outputs / groups, taps, taps).
std::vector<float> turned(const std::vector<float>& w, int outputs, int inputs, int groups, int kernel, const std::vector<int>& rows,
                          const std::vector<int>& columns) {
  const int per_in = inputs / groups, per_out = outputs / groups;
  std::vector<float> result;
  result.reserve((size_t)inputs * per_out * rows.size() * columns.size());
  for (int i = 0; i < inputs; i++)
    for (int o = 0; o < per_out; o++)
      for (int dy : rows)
        for (int dx : columns)
          result.push_back(w[(((size_t)(i / per_in * per_out + o) * per_in + i % per_in) * kernel + dy) * kernel + dx]);
  return result;
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
    for (int i = 0; i < n_; i++) plan_layer(i);
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
      require(s.input >= 0 && s.input <= i, i, "its input must be an earlier value");
      require(s.residual >= -1 && s.residual <= i && s.residual != 0, i, "its residual must be the value of an earlier layer");
      const TrainShape in = net_.values[s.input].shape;
      require(s.channels >= 1 && s.channels <= kMostChannels, i, "channels must be 1 to 65536");
      require(s.groups >= 1 && in.channels % s.groups == 0 && s.channels % s.groups == 0, i, "groups must divide the input and the output channels");
      require(s.secondary >= 0 && (s.secondary == 0 || s.channels % s.secondary == 0), i, "secondary must divide the channels");
      require(s.kernel >= 1 && s.kernel % 2 == 1 && s.kernel <= kMostKernel, i, "kernel must be odd, 1 to 31");
      require(s.stride == 1 || s.stride == 2, i, "stride must be 1 or 2");
      require(s.epsilon > 0 && s.momentum >= 0 && s.momentum <= 1, i, "epsilon must be positive, momentum 0 to 1");
      require(s.relu == 1 || (s.relu == 0 && s.residual < 0 && i + 1 < n_), i, "only a shortcut has no ReLU");
      require(net_.values[s.input].producer < 0 || specs_[s.input - 1].relu, i, "its input must have a ReLU");
      layer.spec = s;
      layer.in = in;
      layer.out = {s.channels, (in.height - 1) / s.stride + 1, (in.width - 1) / s.stride + 1};
      layer.block = s.secondary > 0;
      layer.pointwise = s.kernel == 1 && !layer.block;
      layer.value = i + 1;
      value.shape = layer.out;
      value.producer = i;
      net_.values[s.input].readers.push_back(i);
      if (s.residual >= 0) {
        const TrainValue& other = net_.values[s.residual];
        require(other.shape.channels == layer.out.channels && other.shape.height == layer.out.height &&
                    other.shape.width == layer.out.width, i, "its residual has another shape than its output");
        value.sum = true;
        if (specs_[s.residual - 1].relu) {
          value.shortcut_value = s.residual;
          net_.values[s.residual].sums.push_back(i + 1);
        } else {
          value.shortcut_layer = s.residual - 1;
          require(net_.layers[s.residual - 1].value == s.residual, i, "a shortcut can be added once");
          net_.layers[s.residual - 1].value = i + 1;
        }
      }
      layer.weight_size = (size_t)s.channels * (in.channels / s.groups) * s.kernel * s.kernel;
      layer.secondary_size = layer.block ? (size_t)s.channels * (s.channels / s.secondary) : 0;
      require(layer.weight_size + layer.secondary_size < kMostWeights, i, "has more than 2^24 weights");
      layer.parameter = (int)net_.parameter_sizes.size();
      net_.parameter_sizes.push_back(layer.weight_size);
      if (layer.block) net_.parameter_sizes.push_back(layer.secondary_size);
      net_.parameter_sizes.insert(net_.parameter_sizes.end(), 2, (size_t)s.channels);
    }
    for (int v = 1; v <= n_; v++) {
      const bool read = v == n_ || !net_.values[v].readers.empty();
      require(specs_[v - 1].relu ? read : net_.values[v].readers.empty() && net_.layers[v - 1].value != v, v - 1,
              "nothing uses its value");
      // A sum is stored by its first reader, which must come before what adds it on as it is.
      require(net_.values[v].sums.size() <= 1, v - 1, "is added twice");
      for (int sum : net_.values[v].sums)
        require(!net_.values[v].readers.empty() && net_.values[v].readers[0] < sum - 1, v - 1, "is added before it is convolved");
    }
  }

  static int narrowest(const igc_layer& s) { return s.secondary > 0 && s.groups > 1 ? 4 : 1; }
  bool grouped(const igc_layer& s) const { return s.groups > 1 && !(s.kernel == 1 && s.secondary == 0); }

  void choose_layouts() {
    for (int v = n_; v >= 0; v--) {
      TrainValue& value = net_.values[v];
      const int channels = value.shape.channels;
      const igc_layer* wish = nullptr;
      for (int reader : value.readers)
        if (grouped(specs_[reader])) {
          require(!wish || (wish->groups == specs_[reader].groups && narrowest(*wish) == narrowest(specs_[reader])), reader,
                  "readers of one value must have equal groups");
          wish = &specs_[reader];
        }
      int like = value.sums.empty() ? -1 : value.sums.back();
      if (v > 0 && net_.layers[v - 1].value != v) like = net_.layers[v - 1].value;
      if (wish) value.layout = Layout::interleaved(wish->groups, channels / wish->groups, narrowest(*wish));
      else if (like > 0) value.layout = net_.values[like].layout;
      else if (v > 0 && grouped(specs_[v - 1])) value.layout = groups_layout(specs_[v - 1]);
      else value.layout = Layout::plain(channels, v > 0 || std::any_of(value.readers.begin(), value.readers.end(), [&](int r) { return net_.layers[r].pointwise; }));
      for (int sum : value.sums) check_same(value.layout, net_.values[sum].layout, sum - 1);
      if (v > 0 && net_.layers[v - 1].value != v) check_same(value.layout, net_.values[like].layout, v - 1);
      if (v > 0 && !specs_[v - 1].secondary && grouped(specs_[v - 1]))
        require(value.layout.channel_at == groups_layout(specs_[v - 1]).channel_at, v - 1, "its output has another order of channels than its groups");
    }
  }

  static Layout groups_layout(const igc_layer& s) { return Layout::interleaved(s.groups, s.channels / s.groups, narrowest(s)); }

  void check_same(const Layout& a, const Layout& b, int layer) {
    require(a.channel_at == b.channel_at, layer, "its residual has another order of channels");
  }

  void plan_layer(int i) {
    TrainLayer& layer = net_.layers[i];
    const igc_layer& s = layer.spec;
    const Kernels& kernels = *net_.kernels;
    const Layout& in = net_.values[s.input].layout;
    const int width = layer.out.width, pad = s.kernel / 2;
    layer.layout = net_.values[i + 1].layout;
    const std::vector<float> w = numbers(layer.weight_size);
    const Filter filter = filter_of(s.channels, layer.in.channels, s.groups, s.kernel, s.kernel, w.data());
    if (layer.pointwise) {
      layer.mix = plan_mix(kernels, layer.mix_weights.arena, filter, in, layer.layout, s.stride, width);
      const std::vector<float> back = turned(w, s.channels, layer.in.channels, s.groups, 1, {0}, {0});
      const Layout& to = input_gradient_layout(s.input);
      layer.mix_back = plan_mix(kernels, layer.mix_back_weights.arena, filter_of(layer.in.channels, s.channels, s.groups, 1, 1, back.data()),
                                layer.layout, to, 1, width);
    } else {
      layer.middle = layer.block || grouped(s) ? groups_layout(s) : layer.layout;
      layer.conv = any_conv(layer.conv_weights.arena, filter, in, layer.middle, s.groups, s.stride, width);
      layer.conv.pad_h = layer.conv.pad_w = pad;
      if (layer.block) plan_secondary(layer, filter, in, width);
      plan_conv_back(layer, w);
    }
    for (Packed* packed : {&layer.conv_weights, &layer.whole_weights, &layer.mix_weights, &layer.mix_back_weights,
                           &layer.conv_back_weights, &layer.fours_weights})
      packed->learn();
    for (Floats* f : {&layer.a, &layer.b, &layer.mean, &layer.gamma, &layer.ka, &layer.kb, &layer.kc})
      *f = make_floats(layer.layout.positions);
    layer.variance.assign(layer.layout.positions, 0);
    layer.keeps_middle = layer.block && s.kernel * s.kernel * (layer.in.channels / s.groups) >= kKeepFrom;
    choose_tile(layer);
  }

  // The gradient of the image is written in whole vectors.
  const Layout& input_gradient_layout(int value) {
    if (value > 0) return net_.values[value].layout;
    if (image_layout_.positions == 0)
      image_layout_ = net_.values[0].layout.positions % 16 ? Layout::plain(net_.input.channels) : net_.values[0].layout;
    return image_layout_;
  }

  ConvPlan any_conv(Arena& arena, const Filter& filter, const Layout& in, const Layout& out, int groups, int stride, int width) {
    return groups > 1 ? plan_group_conv(*net_.kernels, arena, filter, nullptr, in, out, stride, width)
                      : plan_dense_conv(*net_.kernels, arena, filter, in, out, stride, width);
  }

  void plan_secondary(TrainLayer& layer, const Filter& primary, const Layout& in, int width) {
    const igc_layer& s = layer.spec;
    const Kernels& kernels = *net_.kernels;
    const std::vector<float> w = numbers(layer.secondary_size);
    // The permutations only rename channels: those of the middle as the first one leaves them, those of u as the
    // second one finds them.
    const Layout from = relabelled(layer.middle, branches_interleaved(s.channels, s.groups));
    const Layout to = relabelled(layer.layout, inverse(branches_interleaved(s.channels, s.secondary)));
    const Filter filter = filter_of(s.channels, s.channels, s.secondary, 1, 1, w.data());
    const std::vector<float> back = turned(w, s.channels, s.channels, s.secondary, 1, {0}, {0});
    const Filter filter_back = filter_of(s.channels, s.channels, s.secondary, 1, 1, back.data());
    layer.fours = s.secondary == s.channels / s.groups && s.groups > 1 && layer.middle.chunks.size() == 1 &&
                  layer.middle.chunks[0].width == kInRegisters && layer.middle.channel_at == layer.layout.channel_at;
    if (!layer.fours) {
      layer.mix = plan_mix(kernels, layer.mix_weights.arena, filter, from, to, 1, width);
      layer.mix_back = plan_mix(kernels, layer.mix_back_weights.arena, filter_back, to, from, 1, width);
      return;
    }
    // The planner for secondaries in registers counts channels as before and after both permutations.
    const std::vector<float> both = numbers(layer.secondary_size, layer.weight_size + 1);
    Filter mixing = filter_of(s.channels, s.channels, s.secondary, 1, 1, both.data());
    mixing.primary = s.groups;
    layer.whole = plan_group_conv(kernels, layer.whole_weights.arena, primary, &mixing, in, layer.layout, s.stride, width);
    layer.whole.pad_h = layer.whole.pad_w = s.kernel / 2;
    layer.fours_forward = pack_fours(layer.mix_weights.arena, filter, from, to);
    layer.fours_back = pack_fours(layer.fours_weights.arena, filter_back, to, from);
  }

  // [vector][4][16]: lane j of vector q takes input position j / 4 * 4 + k with weight [q][k][j].
  static float* pack_fours(Arena& arena, const Filter& filter, const Layout& from, const Layout& to) {
    float* result = arena.take((size_t)to.positions * 4);
    for (int p = 0; p < to.positions; p++)
      for (int k = 0; k < 4; k++)
        result[p / 16 * 64 + k * 16 + p % 16] = filter.at(to.channel_at[p], from.channel_at[p / 4 * 4 + k], 0, 0);
    return result;
  }

  void plan_conv_back(TrainLayer& layer, const std::vector<float>& w) {
    const igc_layer& s = layer.spec;
    const Layout& to = input_gradient_layout(s.input);
    for (int row = 0; row < s.stride && row < layer.in.height; row++)
      for (int column = 0; column < s.stride && column < layer.in.width; column++) {
        const ParityTaps down = parity_taps(s.kernel, s.kernel / 2, s.stride, row), across = parity_taps(s.kernel, s.kernel / 2, s.stride, column);
        BackPart part;
        part.row = row;
        part.column = column;
        part.rows = (layer.in.height - row + s.stride - 1) / s.stride;
        part.columns = (layer.in.width - column + s.stride - 1) / s.stride;
        if (!down.tap.empty() && !across.tap.empty()) {
          const std::vector<float> t = turned(w, s.channels, layer.in.channels, s.groups, s.kernel, down.tap, across.tap);
          part.conv = any_conv(layer.conv_back_weights.arena,
                               filter_of(layer.in.channels, s.channels, s.groups, (int)down.tap.size(), (int)across.tap.size(), t.data()),
                               layer.middle, to, s.groups, 1, part.columns);
          part.conv.pad_h = -down.first_shift;
          part.conv.pad_w = -across.first_shift;
        }
        layer.conv_back.push_back(std::move(part));
      }
  }

  // About 6 KB of rows, so that they stay in L1 through all passes; where weights are large, more rows share them.
  static void choose_tile(TrainLayer& layer) {
    const size_t row = (size_t)layer.out.width * layer.layout.positions * sizeof(float);
    size_t rows = 6144 / row;
    if (layer.conv.weight_bytes > 16384) rows = std::max(rows, 16384 / row);
    layer.tile_rows = (int)std::clamp<size_t>(rows, 1, layer.out.height);
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
      raise(net_.d_floats, (layer.out.height + halo) * (layer.out.width + halo) * (size_t)layer.layout.positions);
      raise(net_.middle_floats, (size_t)layer.tile_rows * layer.out.width * layer.layout.positions);
      raise(net_.back_floats, (size_t)layer.in.height * layer.in.width * in.positions);
      raise(net_.sum_floats, (size_t)std::max(layer.layout.positions, in.positions));
      raise(net_.packed_floats, layer.conv_weights.floats() + layer.mix_weights.floats());
    }
    if (net_.x_floats > ((size_t)1 << 31)) throw BadArgument("one image takes more than 2^31 floats");
  }

  TrainNet& net_;
  const igc_layer* specs_;
  const int n_;
  Layout image_layout_;
};

}  // namespace

void Packed::learn() {
  for (size_t i = 0; i < arena.arrays(); i++) {
    float* at = arena.array(i);
    const size_t size = arena.size(i);
    if (std::all_of(at, at + size, [](float v) { return v == 0; })) continue;  // biases
    pieces_.push_back({at, source_.size(), size});
    for (size_t k = 0; k < size; k++) {
      source_.push_back((int32_t)at[k] - 1);
      at[k] = 0;
    }
  }
}

void Packed::pack(const float* first, size_t count, const float* second) {
  for (const Piece& piece : pieces_)
    for (size_t k = 0; k < piece.size; k++) {
      const int32_t n = source_[piece.begin + k];
      if (n >= 0) piece.at[k] = (size_t)n < count ? first[n] : second[n - count];
    }
}

size_t Packed::offset_of(const float* at) const {
  for (const Piece& piece : pieces_)
    if (piece.at == at) return piece.begin;
  return (size_t)-1;  // an array of zeros has no gradient
}

std::vector<int> branches_interleaved(int channels, int branches) {
  std::vector<int> label(channels);
  const int per_branch = channels / branches;
  for (int c = 0; c < channels; c++) label[c] = c % per_branch * branches + c / per_branch;
  return label;
}

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
  if (!layers || n_layers < 1 || n_layers > kMostLayers) throw BadArgument("a network needs 1 to 16384 layers");
  if (channels < 1 || channels > kMostChannels || height < 1 || height > kMostPixels || width < 1 || width > kMostPixels)
    throw BadArgument("the image needs 1 to 65536 channels and 1 to 4096 rows and columns");
}

}  // namespace

void check_training(const igc_layer* layers, int64_t n_layers, int channels, int height, int width) {
  check_sizes(layers, n_layers, channels, height, width);
  TrainNet net;
  net.input = {channels, height, width};
  TrainPlanner(net, layers, n_layers).check_all();
}

std::unique_ptr<TrainNet> plan_training(const Kernels& kernels, const igc_layer* layers, int64_t n_layers, int channels,
                                        int height, int width) {
  check_sizes(layers, n_layers, channels, height, width);
  auto net = std::make_unique<TrainNet>();
  net->kernels = &kernels;
  net->train = &train_kernels_of(kernels);
  net->input = {channels, height, width};
  TrainPlanner(*net, layers, n_layers).plan();
  return net;
}

}  // namespace igc
