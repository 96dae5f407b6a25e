// train_layer.cpp - one layer made ready: plans for its convolutions and for those that lead gradients back,
// and the maps that pack their weights.
#include <algorithm>

#include "train.h"

namespace igc {
namespace {

// Multiply-adds for each result of a primary convolution from which on it is cheaper kept than computed
// again: a float written, fetched and read against as many multiply-adds as take that long.
constexpr int kKeepFrom = 64;

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

// Taps of one dimension that lead to inputs of one parity: input y = stride * i + parity meets output i +
// shift[t] through tap[t], shifts ascending.
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
std::vector<float> turned(const std::vector<float>& w, int outputs, int inputs, int groups, int kernel,
                          const std::vector<int>& rows, const std::vector<int>& columns) {
  const int per_in = inputs / groups, per_out = outputs / groups;
  std::vector<float> result;
  result.reserve((size_t)inputs * per_out * rows.size() * columns.size());
  for (int i = 0; i < inputs; i++)
    for (int o = 0; o < per_out; o++)
      for (int dy : rows)
        for (int dx : columns)
          result.push_back(
              w[(((size_t)(i / per_in * per_out + o) * per_in + i % per_in) * kernel + dy) * kernel + dx]);
  return result;
}

class LayerPlanner {
 public:
  LayerPlanner(const Kernels& kernels, TrainLayer& layer, const Layout& in, const Layout& to)
      : kernels_(kernels), layer_(layer), spec_(layer.spec), in_(in), to_(to) {}

  void plan() {
    const igc_layer& s = spec_;
    TrainLayer& layer = layer_;
    if (layer.pool) return plan_pool();
    const int width = layer.out.width;
    const bool any_order = takes_any_order(s, layer.in.channels);
    layer.from = any_order ? *as_groups(in_, 1, kInRegisters) : in_;
    layer.back_to = any_order ? *as_groups(to_, 1, kInRegisters) : to_;
    const std::vector<float> w = numbers(layer.weight_size);
    const Filter filter = filter_of(s.channels, layer.in.channels, s.groups, s.kernel, s.kernel, w.data());
    if (layer.pointwise) {
      layer.mix = plan_mix(kernels_, layer.mix_weights.arena, filter, in_, layer.layout, s.stride, width);
      const std::vector<float> back = turned(w, s.channels, layer.in.channels, s.groups, 1, {0}, {0});
      layer.mix_back = plan_mix(kernels_, layer.mix_back_weights.arena,
                                filter_of(layer.in.channels, s.channels, s.groups, 1, 1, back.data()),
                                layer.layout, to_, 1, width);
    } else {
      layer.middle = any_order                     ? with_members(layer.from, s.channels / s.groups)
                     : layer.block || is_grouped(s) ? groups_layout(s, s.channels)
                                                    : layer.layout;
      layer.conv =
          any_conv(layer.conv_weights.arena, filter, layer.from, layer.middle, s.groups, s.stride, width);
      layer.conv.pad_h = layer.conv.pad_w = s.kernel / 2;
      if (layer.block) plan_secondary(filter, width);
      plan_conv_back(w);
    }
    for (Packed* packed : {&layer.conv_weights, &layer.whole_weights, &layer.mix_weights,
                           &layer.mix_back_weights, &layer.conv_back_weights, &layer.fours_weights})
      packed->learn();
    for (Floats* f : {&layer.a, &layer.b, &layer.mean, &layer.gamma, &layer.ka, &layer.kb, &layer.kc})
      *f = make_floats(layer.layout.positions);
    layer.variance.assign(layer.layout.positions, 0);
    layer.keeps_middle = layer.block && s.kernel * s.kernel * (layer.in.channels / s.groups) >= kKeepFrom;
    choose_tile();
  }

 private:
  // Its result is its value: a normalisation that changes nothing.
  void plan_pool() {
    for (Floats* f : {&layer_.a, &layer_.b, &layer_.mean, &layer_.gamma, &layer_.ka, &layer_.kb, &layer_.kc})
      *f = make_floats(layer_.layout.positions);
    std::fill_n(layer_.a.get(), layer_.layout.positions, 1.0f);
    choose_tile();
  }

  ConvPlan any_conv(Arena& arena, const Filter& filter, const Layout& in, const Layout& out, int groups,
                    int stride, int width) {
    return groups > 1 ? plan_group_conv(kernels_, arena, filter, nullptr, in, out, stride, width)
                      : plan_dense_conv(kernels_, arena, filter, in, out, stride, width);
  }

  void plan_secondary(const Filter& primary, int width) {
    const igc_layer& s = spec_;
    TrainLayer& layer = layer_;
    const std::vector<float> w = numbers(layer.secondary_size);
    // The permutations only rename channels: those of the middle as the first one leaves them, those of u as
    // the second one finds them.
    const Layout from = relabelled(layer.middle, branches_interleaved(s.channels, s.groups));
    const Layout to = relabelled(layer.layout, inverse(branches_interleaved(s.channels, s.secondary)));
    const Filter filter = filter_of(s.channels, s.channels, s.secondary, 1, 1, w.data());
    const std::vector<float> back = turned(w, s.channels, s.channels, s.secondary, 1, {0}, {0});
    const Filter filter_back = filter_of(s.channels, s.channels, s.secondary, 1, 1, back.data());
    layer.fours = s.secondary == s.channels / s.groups && s.groups > 1 && layer.middle.chunks.size() == 1 &&
                  layer.middle.chunks[0].width == kInRegisters &&
                  layer.middle.channel_at == layer.layout.channel_at;
    if (!layer.fours) {
      layer.mix = plan_mix(kernels_, layer.mix_weights.arena, filter, from, to, 1, width);
      layer.mix_back = plan_mix(kernels_, layer.mix_back_weights.arena, filter_back, to, from, 1, width);
      return;
    }
    // The planner for secondaries in registers counts channels as before and after both permutations.
    const std::vector<float> both = numbers(layer.secondary_size, layer.weight_size + 1);
    Filter mixing = filter_of(s.channels, s.channels, s.secondary, 1, 1, both.data());
    mixing.primary = s.groups;
    layer.whole = plan_group_conv(kernels_, layer.whole_weights.arena, primary, &mixing, layer.from,
                                  layer.layout, s.stride, width);
    layer.whole.pad_h = layer.whole.pad_w = s.kernel / 2;
    layer.fours_forward = pack_fours(layer.mix_weights.arena, filter, from, to);
    layer.fours_back = pack_fours(layer.fours_weights.arena, filter_back, to, from);
  }

  // [vector][4][16]: lane j of vector q takes input position j / 4 * 4 + k with weight [q][k][j].
  static float* pack_fours(Arena& arena, const Filter& filter, const Layout& from, const Layout& to) {
    float* result = arena.take((size_t)to.positions * 4);
    for (int p = 0; p < to.positions; p++)
      for (int k = 0; k < 4; k++)
        result[p / 16 * 64 + k * 16 + p % 16] =
            filter.at(to.channel_at[p], from.channel_at[p / 4 * 4 + k], 0, 0);
    return result;
  }

  void plan_conv_back(const std::vector<float>& w) {
    const igc_layer& s = spec_;
    TrainLayer& layer = layer_;
    for (int row = 0; row < s.stride && row < layer.in.height; row++)
      for (int column = 0; column < s.stride && column < layer.in.width; column++) {
        const ParityTaps down = parity_taps(s.kernel, s.kernel / 2, s.stride, row),
                         across = parity_taps(s.kernel, s.kernel / 2, s.stride, column);
        BackPart part;
        part.row = row;
        part.column = column;
        part.rows = (layer.in.height - row + s.stride - 1) / s.stride;
        part.columns = (layer.in.width - column + s.stride - 1) / s.stride;
        if (!down.tap.empty() && !across.tap.empty()) {
          const std::vector<float> t =
              turned(w, s.channels, layer.in.channels, s.groups, s.kernel, down.tap, across.tap);
          part.conv = any_conv(layer.conv_back_weights.arena,
                               filter_of(layer.in.channels, s.channels, s.groups, (int)down.tap.size(),
                                         (int)across.tap.size(), t.data()),
                               layer.middle, layer.back_to, s.groups, 1, part.columns);
          part.conv.pad_h = -down.first_shift;
          part.conv.pad_w = -across.first_shift;
        }
        layer.conv_back.push_back(std::move(part));
      }
  }

  // About 6 KB of rows, so that they stay in L1 through all passes; where weights are large, more rows share
  // them.
  void choose_tile() {
    TrainLayer& layer = layer_;
    const size_t row = (size_t)layer.out.width * layer.layout.positions * sizeof(float);
    size_t rows = 6144 / row;
    if (layer.conv.weight_bytes > 16384) rows = std::max(rows, 16384 / row);
    layer.tile_rows = (int)std::clamp<size_t>(rows, 1, layer.out.height);
  }

  const Kernels& kernels_;
  TrainLayer& layer_;
  const igc_layer& spec_;
  const Layout& in_;  // of the input
  const Layout& to_;  // of the input's gradient
};

// The secondary wants runs of 4 channels. With L = 1 it is only a factor for each channel.
int narrowest(const igc_layer& layer) { return layer.secondary > 0 && layer.groups > 1 ? 4 : 1; }

}  // namespace

bool is_grouped(const igc_layer& layer) {
  return layer.groups > 1 && (layer.kernel > 1 || layer.secondary > 0);
}

bool takes_any_order(const igc_layer& layer, int in_channels) {
  return layer.secondary > 0 && layer.groups > 1 && layer.groups == in_channels;
}

Layout groups_layout(const igc_layer& layer, int channels) {
  return Layout::interleaved(layer.groups, channels / layer.groups, narrowest(layer));
}

void plan_layer(const Kernels& kernels, TrainLayer& layer, const Layout& in, const Layout& to) {
  LayerPlanner(kernels, layer, in, to).plan();
}

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

}  // namespace igc
