// train_layout.cpp - in which order every value holds its channels, and every layer reads them.
//
// A sum and what it adds, and what a channel-wise convolution reads and writes, have one order: a family.
// Groups of a spatial convolution want their places (layout.h); those of the first 1x1 convolution behind a
// channel-wise one would like theirs, because its lanes then run over groups. 1x1 convolutions and dense ones
// read and write any order, best the one in which they number their outputs themselves. So do blocks whose
// groups have one input channel each (as where L doubles): their outputs follow. What reads a value whose family has
// another order than it needs converts it, a row at a time.
//
// planner.cpp, for inference, comes to the same orders in networks of IGCV1's blocks and of regular ones. It need not let
// sums tie values together, as it moves what is added by a step of its own, and so takes others for IGCV2, IGCV3 and
// behind the projections of L100M2.
#include <string>

#include "train.h"

namespace igc {
namespace {

class Families {
 public:
  explicit Families(const TrainPlan& plan) : members_(plan.values.size()) {
    for (size_t v = 0; v < plan.values.size(); v++) {
      family_.push_back((int)v);
      members_[v] = {(int)v};
      label_.push_back(permuted_labels(plan.values[v].shape.channels, 1));
    }
    layouts_.resize(plan.values.size());
  }

  // Channel c of value a is to lie where channel label[c] of b does. Whether it can.
  bool tie(int a, int b, const Labels& label) {
    const int from = family_[b], to = family_[a];
    if (from == to) return chained(label, label_[b]) == label_[a];
    // From b's channels to a's to those of a's family; other members of b's family by way of b.
    const Labels on = chained(inverse(label_[b]), chained(inverse(label), label_[a]));
    for (int v : members_[from]) {
      label_[v] = chained(label_[v], on);
      family_[v] = to;
      members_[to].push_back(v);
    }
    members_[from].clear();
    return true;
  }

  bool open(int v) const { return layouts_[family_[v]].positions == 0; }
  // Whether the family has this order, now if it had none.
  bool demand(int v, const Layout& layout) {
    if (open(v)) give(v, layout);
    return of(v).channel_at == layout.channel_at;
  }
  void give(int v, const Layout& layout) { layouts_[family_[v]] = relabeled(layout, label_[v]); }
  Layout of(int v) const { return relabeled(layouts_[family_[v]], inverse(label_[v])); }

 private:
  std::vector<int> family_;
  std::vector<std::vector<int>> members_;
  std::vector<Labels> label_;    // in its family's numbering, of each channel of a value
  std::vector<Layout> layouts_;  // in the family's numbering
};

// Families of values; `follows` gets the layers whose input cannot have the order of what they make. Returns -1, or the
// layer whose result cannot have the order in which it is computed.
int settle(const TrainPlan& plan, bool results_first, Families& families, std::vector<bool>& follows) {
  for (size_t v = 1; v < plan.values.size(); v++) {
    const TrainValue& value = plan.values[v];
    const Labels same = permuted_labels(value.shape.channels, 1);
    if (value.shortcut_layer >= 0) families.tie((int)v, plan.layers[value.shortcut_layer].own_value, same);
    if (value.shortcut_value >= 0) families.tie((int)v, value.shortcut_value, same);
  }
  for (size_t i = 0; i < plan.layers.size(); i++) {
    const TrainLayer& layer = plan.layers[i];
    if (layer.pool || (order_of(layer) == Order::Singles && !layer.several()))
      follows[i] = !families.tie(layer.lead().input, layer.own_value, value_labels(layer));
  }
  for (int pass = results_first ? 0 : 1; pass < 2; pass++)
    for (const TrainLayer& layer : plan.layers) {
      if (order_of(layer) != Order::Groups) continue;
      if (pass > 0) families.demand(layer.lead().input, groups_layout(layer, layer.in.channels));
      const Layout own = groups_layout(layer, layer.out.channels);
      if (!layer.several() && !families.demand(layer.own_value, relabeled(own, value_labels(layer))))
        return layer.own_value - 1;
    }
  return -1;
}

// The order in which a layer reads its input, whose own order is `value`.
Layout input_of(const TrainPlan& plan, const TrainLayer& layer, bool follows, const Layout& value) {
  if (follows) return relabeled(plan.values[layer.own_value].layout, inverse(value_labels(layer)));
  const Order order = order_of(layer);
  if (order != Order::Groups && (order != Order::Inputs || single_inputs(value))) return value;
  const Layout groups = groups_layout(layer, layer.in.channels);
  return order == Order::Groups && groups.channel_at == value.channel_at ? value : groups;
}

void choose_input(const TrainPlan& plan, TrainLayer& layer, bool follows) {
  const Layout& value = plan.values[layer.lead().input].layout;
  layer.input = input_of(plan, layer, follows, value);
  if (layer.input.channel_at == value.channel_at) return;
  layer.from_value = sources(value, layer.input, layer.in.channels);
  layer.to_value = sources(layer.input, value, layer.in.channels);
  layer.to_value.resize((value.positions + 15) / 16 * 16, -1);
}

}  // namespace

void choose_layouts(TrainPlan& plan) {
  const int n_values = (int)plan.values.size();
  std::vector<bool> follows(plan.layers.size());
  Families families(plan);
  if (settle(plan, false, families, follows) >= 0) {
    families = Families(plan);
    const int layer = settle(plan, true, families, follows);
    if (layer >= 0)
      throw BadArgument("layer " + std::to_string(layer) +
                        ": there is no order of channels in which its result can be added");
  }
  for (const TrainLayer& layer : plan.layers)
    if (order_of(layer) == Order::Inputs && families.open(layer.lead().input))
      families.give(layer.lead().input, groups_layout(layer, layer.in.channels));
  for (const TrainLayer& layer : plan.layers) {
    if (order_of(layer) != Order::Singles || !layer.several() || !families.open(layer.lead().input)) continue;
    const TrainStage& second = layer.stages[1];
    const int groups = second.op.groups, members = second.inputs / groups;
    if (groups < kManyGroups || members == 1) continue;
    const Layout lanes = Layout::interleaved(groups, members);
    if (2 * lanes.positions <= 3 * Layout::plain(second.inputs).positions)
      families.give(layer.lead().input,
                    relabeled(lanes, inverse(permuted_labels(second.inputs, layer.lead().permute))));
  }
  for (const TrainLayer& layer : plan.layers) {
    if (layer.last().groups > 1 && layer.last().kernel_h == 1 && families.open(layer.own_value))
      families.give(layer.own_value, relabeled(Layout::plain(layer.out.channels), value_labels(layer)));
  }
  for (int v = n_values - 1; v >= 0; v--) {
    if (!families.open(v)) continue;
    // Only single floats of the image are read by a dense convolution: three channels need no padding to 16.
    bool dense = v == 0;
    for (int reader : plan.values[v].readers) {
      const TrainLayer& layer = plan.layers[reader];
      dense = dense && order_of(layer) == Order::Any && !layer.pool && layer.lead().groups == 1 &&
              (layer.lead().kernel_h > 1 || layer.several());
    }
    families.give(v, Layout::plain(plan.values[v].shape.channels, !dense));
  }
  for (int v = 0; v < n_values; v++) plan.values[v].layout = families.of(v);
  for (size_t i = 0; i < plan.layers.size(); i++) choose_input(plan, plan.layers[i], follows[i]);
}

Labels normalized_labels(const TrainLayer& layer) {
  return permuted_labels(layer.out.channels, layer.last().permute);
}

Labels value_labels(const TrainLayer& layer) {
  return chained(normalized_labels(layer), permuted_labels(layer.out.channels, layer.last().reorder));
}

}  // namespace igc
