// train_layer.cpp - one layer made ready: plans for its convolutions and for those that lead gradients back.
#include <algorithm>

#include "check.h"
#include "train.h"

namespace igc {
namespace {

// Multiply-adds for each result of a primary convolution from which on it is cheaper kept than computed
// again: a float written, fetched and read against as many multiply-adds as take that long.
constexpr int kKeepFrom = 64;

constexpr size_t kLargestTile = 512 << 10;  // bytes, so that it stays in L2

Filter filter_of(const TrainStage& stage) { return igc::filter_of(stage.op, stage.inputs); }

// What leads gradients back through these taps.
Filter turned(const TrainStage& stage, const std::vector<int>& rows, const std::vector<int>& columns) {
  const igc_op& s = stage.op;
  return {stage.inputs, s.channels, s.groups, (int)rows.size(), (int)columns.size(), 0,
          s.kernel_h,   rows,       columns};
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

// Every position as a channel by itself, in whole vectors: for channel-wise convolutions.
Layout as_singles(const Layout& layout) {
  Layout singles = Layout::interleaved(layout.positions, 1, 16);
  std::copy(layout.channel_at.begin(), layout.channel_at.end(), singles.channel_at.begin());
  std::fill(singles.channel_at.begin() + layout.positions, singles.channel_at.end(), -1);
  return singles;
}

class LayerPlanner {
 public:
  LayerPlanner(const Kernels& kernels, TrainWeights& weights, TrainLayer& layer, const Layout& in,
               const Layout& to)
      : kernels_(kernels), weights_(weights), layer_(layer), in_(in), to_(to), width_(layer.out.width) {}

  void plan() {
    TrainLayer& layer = layer_;
    if (layer.pool) return choose_tile();
    const Layout last = relabeled(layer.layout, inverse(normalized_labels(layer)));
    plan_lead(last);
    for (size_t k = 1; k < layer.stages.size(); k++) {
      TrainStage& stage = layer.stages[k];
      const TrainStage& before = layer.stages[k - 1];
      stage.in = relabeled(before.out, permuted_labels(stage.inputs, before.op.permute));
      if (k + 1 == layer.stages.size()) {
        stage.out = last;
        if (k == 1 && fits_in_registers())
          plan_fours(stage);
        else
          plan_pointwise_stage(stage);
      } else if (goes_by_groups(stage)) {
        stage.out = with_members(stage.in, stage.op.channels / stage.op.groups);
        plan_conv(stage, stage.in);
      } else {
        stage.out = free_layout(stage, layer.stages[k + 1]);
        plan_pointwise_stage(stage);
      }
    }
    size_t packed = 0;
    for (TrainStage& stage : layer.stages) {
      stage.offset = packed;
      packed += stage.weights->floats();
    }
    const igc_op& s = layer.lead();
    layer.keeps_middle =
        layer.several() && s.kernel_h * s.kernel_h * (layer.in.channels / s.groups) >= kKeepFrom;
    choose_tile();
  }

 private:
  // Weights of a stage for a plan of its own. second: the parameter behind the stage's.
  template <class Plan>
  const Repacked* packed(Plan& plan, const TrainStage& stage, Packing packing, int second = -1) {
    const Repacked* const weights = weights_.add(std::move(packing), stage.parameter, stage.weight_size,
                                                 std::max(second, stage.parameter));
    plan.weights = weights->packed.weights.get();
    plan.bias = weights->packed.bias.get();
    return weights;
  }

  void plan_lead(const Layout& last) {
    TrainLayer& layer = layer_;
    TrainStage& stage = layer.stages[0];
    stage.in = in_;
    stage.out = last;
    if (order_of(layer) == Order::Singles) {
      stage.in = as_singles(in_);
      stage.out = as_singles(layer.several() ? in_ : last);
      plan_conv(stage, as_singles(to_));
      if (layer.several()) stage.out = in_;  // whose chunks tell the next whether it may go by groups
      return;
    }
    if (order_of(layer) == Order::Inputs) {
      stage.in = *single_inputs(in_);
      stage.out = with_members(stage.in, stage.op.channels / stage.op.groups);
      return plan_conv(stage, *single_inputs(to_));
    }
    if (order_of(layer) == Order::Groups) {
      stage.in = groups_layout(layer, layer.in.channels);
      stage.out = groups_layout(layer, stage.op.channels);
    } else if (layer.several()) {
      stage.out = Layout::plain(stage.op.channels);
    } else if (stage.op.kernel_h == 1) {
      return plan_pointwise_stage(stage);
    }
    plan_conv(stage, to_);
  }

  // The secondary of an IGC block with L = 4 or less.
  bool fits_in_registers() const {
    const TrainStage& first = layer_.stages[0];
    return order_of(layer_) == Order::Groups && make_block(first.op, layer_.last()) &&
           first.out.chunks.size() == 1 && first.out.chunks[0].width == kInRegisters &&
           first.out.channel_at == layer_.layout.channel_at;
  }

  static bool goes_by_groups(const TrainStage& stage) {
    const int members = stage.inputs / stage.op.groups;
    return stage.op.groups > 1 && members > 1 && as_groups(stage.in, members, 1);
  }

  // Where the 1x1 convolution `stage` may write any order: the one in which it and the next cost least.
  Layout free_layout(const TrainStage& stage, const TrainStage& next) const {
    const igc_op &s = stage.op, &n = next.op;
    const Labels label = permuted_labels(s.channels, s.permute);
    const Layout own = Layout::plain(s.channels),
                 lanes = Layout::interleaved(n.groups, next.inputs / n.groups),
                 others[] = {relabeled(own, inverse(label)), relabeled(lanes, inverse(label))};
    Layout best = own;
    size_t least = cost(stage, next, own, label);
    for (const Layout& layout : others) {
      const size_t here = cost(stage, next, layout, label);
      if (here < least) {
        least = here;
        best = layout;
      }
    }
    // Chunks tell the next stage whether it may go by groups.
    if (relabeled(others[1], label).channel_at == relabeled(best, label).channel_at) best = others[1];
    return best;
  }

  size_t cost(const TrainStage& stage, const TrainStage& next, const Layout& between,
              const Labels& label) const {
    return pointwise_work(kernels_, filter_of(stage), stage.in, between) +
           pointwise_work(kernels_, filter_of(next), relabeled(between, label),
                          Layout::plain(next.op.channels));
  }

  ConvPlan any_conv(const Filter& filter, const Layout& in, const Layout& out, int stride, int width) {
    return filter.groups > 1 ? plan_group_conv(kernels_, filter, false, in, out, stride, width)
                             : plan_dense_conv(kernels_, filter, in, out, stride, width);
  }

  // `to`: layout of the gradient of its input.
  void plan_conv(TrainStage& stage, const Layout& to) {
    const igc_op& s = stage.op;
    stage.work = StageWork::Conv;
    const Filter filter = filter_of(stage);
    stage.conv = any_conv(filter, stage.in, stage.out, s.stride, width_);
    stage.weights = packed(stage.conv, stage, packing_of(stage.conv, filter, stage.in, stage.out));
    stage.conv.pad_h = stage.conv.pad_w = s.pad_h;
    plan_conv_back(stage, to);
  }

  void plan_pointwise_stage(TrainStage& stage) {
    const Filter filter = filter_of(stage), back = turned(stage, {0}, {0});
    const Layout& to = &stage == &layer_.stages[0] ? to_ : stage.in;
    stage.work = StageWork::Pointwise;
    stage.pointwise = plan_pointwise(kernels_, filter, stage.in, stage.out, stage.op.stride, width_);
    stage.weights = packed(stage.pointwise, stage, packing_of(stage.pointwise, filter, stage.in, stage.out));
    stage.pointwise_back = plan_pointwise(kernels_, back, stage.out, to, 1, width_);
    packed(stage.pointwise_back, stage, packing_of(stage.pointwise_back, back, stage.out, to));
  }

  void plan_fours(TrainStage& stage) {
    const TrainStage& primary = layer_.stages[0];
    stage.work = StageWork::Fours;
    // The planner for secondaries in registers counts channels as before and after both permutations.
    Filter mixing = filter_of(stage);
    mixing.primary = primary.op.groups;
    const Filter filter = filter_of(primary);
    layer_.whole =
        plan_group_conv(kernels_, filter, true, primary.in, primary.out, primary.op.stride, width_);
    packed(layer_.whole, primary, packing_of(layer_.whole, filter, primary.in, primary.out, &mixing),
           stage.parameter);
    layer_.whole.pad_h = layer_.whole.pad_w = primary.op.pad_h;
    stage.weights = weights_.add(packing_of_fours(filter_of(stage), stage.in, stage.out), stage.parameter,
                                 stage.weight_size, stage.parameter);
    stage.back_weights = weights_.add(packing_of_fours(turned(stage, {0}, {0}), stage.out, stage.in),
                                      stage.parameter, stage.weight_size, stage.parameter);
  }

  // [vector][4][16]: lane j of vector q takes input position j / 4 * 4 + k with weight [q][k][j].
  static Packing packing_of_fours(const Filter& filter, const Layout& from, const Layout& to) {
    Packing packing;
    for (int q = 0; q < to.positions; q += 16)
      for (int k = 0; k < 4; k++)
        for (int p = q; p < q + 16; p++)
          packing.weights.push_back(filter.number(to.channel_at[p], from.channel_at[p / 4 * 4 + k], 0, 0));
    return packing;
  }

  void plan_conv_back(TrainStage& stage, const Layout& to) {
    const igc_op& s = stage.op;
    const Shape in = &stage == &layer_.stages[0] ? layer_.in : layer_.out;
    for (int row = 0; row < s.stride && row < in.height; row++)
      for (int column = 0; column < s.stride && column < in.width; column++) {
        const ParityTaps down = parity_taps(s.kernel_h, s.pad_h, s.stride, row),
                         across = parity_taps(s.kernel_h, s.pad_h, s.stride, column);
        BackPart part;
        part.row = row;
        part.column = column;
        part.rows = (in.height - row + s.stride - 1) / s.stride;
        part.columns = (in.width - column + s.stride - 1) / s.stride;
        if (!down.tap.empty() && !across.tap.empty()) {
          const Filter filter = turned(stage, down.tap, across.tap);
          part.conv = any_conv(filter, stage.out, to, 1, part.columns);
          packed(part.conv, stage, packing_of(part.conv, filter, stage.out, to));
          part.conv.pad_h = -down.first_shift;
          part.conv.pad_w = -across.first_shift;
        }
        stage.conv_back.push_back(std::move(part));
      }
  }

  // About 6 KB of rows, so that they stay in L1 through all passes; where weights are large, more rows share
  // them. Those of 1x1 convolutions are read, and their gradients read and written, once for every tile: large
  // ones make tiles as large as an eighth of them, of equal size.
  void choose_tile() {
    TrainLayer& layer = layer_;
    const size_t row = (size_t)layer.out.width * layer.layout.positions * sizeof(float);
    size_t mixing = 0;
    for (const TrainStage& stage : layer.stages) mixing += stage.pointwise.weight_bytes;
    const size_t bytes = std::max<size_t>(layer.stages[0].conv.weight_bytes > 16384 ? 16384 : 6144,
                                          std::min(mixing / 8, kLargestTile));
    const int height = layer.out.height, rows = (int)std::clamp<size_t>(bytes / row, 1, height),
              tiles = (height + rows - 1) / rows;
    layer.tile_rows = (height + tiles - 1) / tiles;
  }

  const Kernels& kernels_;
  TrainWeights& weights_;
  TrainLayer& layer_;
  const Layout& in_;  // of the input
  const Layout& to_;  // of the input's gradient
  const int width_;
};

}  // namespace

Order order_of(const TrainLayer& layer) {
  const igc_op& s = layer.lead();
  if (layer.pool || s.groups == 1 || (s.kernel_h == 1 && !layer.several())) return Order::Any;
  if (s.groups < layer.in.channels) return Order::Groups;
  return s.groups == s.channels ? Order::Singles : layer.several() ? Order::Inputs : Order::Groups;
}

std::optional<Layout> single_inputs(const Layout& in) { return as_groups(in, 1, kInRegisters); }

Layout groups_layout(const TrainLayer& layer, int channels) {
  // A 1x1 convolution behind it wants runs of 4.
  return Layout::interleaved(layer.lead().groups, channels / layer.lead().groups, layer.several() ? 4 : 1);
}

void plan_layer(const Kernels& kernels, TrainWeights& weights, TrainLayer& layer, const Layout& in,
                const Layout& to) {
  LayerPlanner(kernels, weights, layer, in, to).plan();
}

}  // namespace igc
