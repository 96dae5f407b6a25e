// planner.cpp - from a list of ops to steps over interleaved storages.
//
// A backward pass collects the layout that the consumers of each tensor would like; a forward pass gives
// every tensor its layout, packs weights for it and emits steps. Dense and 1x1 convolutions can write any
// order of channels, so they follow the wish; group convolutions and IGC blocks hand the order of their
// groups on; where neither fits, a Convert step moves channels. Two ops become one step where a group
// convolution with a kernel above 1x1 only feeds a 1x1 convolution (IGCV2 and IGCV3 blocks), as inside an IGC
// block.
#include "planner.h"

#include <algorithm>
#include <type_traits>

namespace igc {
Planner::Planner(Plan& plan, Weights& shared, const igc_op* ops, int64_t n_ops, const float* numbers,
                 const Precision& precision, std::vector<Shape> shapes)
    : plan_(plan),
      shared_(shared),
      kernels_(*plan.kernels),
      ops_(ops),
      n_ops_(n_ops),
      numbers_(numbers),
      precision_(precision),
      shapes_(std::move(shapes)),
      tensors_(n_ops + 1),
      readers_(n_ops + 1),
      wish_(n_ops + 1) {}

void Planner::plan() {
  choose_reduced();
  collect_wishes();
  const Shape in = shapes_[0];
  // Only single floats of the input are read by a dense convolution: three channels need no padding to 16.
  bool dense = !wish_[0];
  for (int64_t reader : readers_[0])
    dense = dense && ops_[reader].kind == IGC_CONV && ops_[reader].groups == 1 &&
            !is_pointwise(ops_[reader]) && ops_[reader].residual != 0 && !plan_.reduced_ops[reader];
  define(0, wish_[0] ? *wish_[0] : Layout::plain(in.channels, !dense || readers_[0].empty()));
  plan_.input = tensors_[0].storage;
  for (int64_t i = 0; i < n_ops_; i++)
    if (!postponed(i)) plan_op(i, nullptr);
  finish();
}

bool Planner::is_channelwise(const igc_op& op) const {
  return op.kind == IGC_CONV && op.groups > 1 && op.groups == op.channels &&
         op.groups == shape(op.input).channels;
}

void Planner::collect_wishes() {
  for (int64_t i = n_ops_ - 1; i >= 0; i--) {
    const igc_op& op = ops_[i];
    readers_[op.input].push_back(i);
    if (op.residual >= 0 && op.residual != op.input) readers_[op.residual].push_back(i);
    std::optional<Layout>& wish = wish_[op.input];
    const int members = shape(op.input).channels / std::max(op.groups, 1);
    if (op.kind == IGC_BLOCK)
      wish = on_amx(i) && op.groups > 1 ? amx_layout(op.groups, members)
                                        : Layout::interleaved(op.groups, members, narrowest(op));
    else if (wish)
      continue;
    else if (is_channelwise(op) || op.kind == IGC_MAX_POOL)
      wish = wish_[i + 1];
    else if (op.kind == IGC_PERMUTE && wish_[i + 1])
      wish = relabeled(*wish_[i + 1], inverse(permuted_labels(shape(op.input).channels, op.groups)));
    else if (op.kind == IGC_CONV && op.groups > 1 && (!is_pointwise(op) || op.groups >= kManyGroups))
      wish = on_amx(i) ? amx_layout(op.groups, members) : Layout::interleaved(op.groups, members);
  }
}

// A convolution that only serves as residual can write the order of what it is added to: it waits for that.
bool Planner::postponed(int64_t i) const {
  const igc_op& op = ops_[i];
  if (op.kind != IGC_CONV || (op.groups > 1 && !is_pointwise(op)) || op.residual >= 0 ||
      readers_[i + 1].size() != 1)
    return false;
  const igc_op& reader = ops_[readers_[i + 1][0]];
  return reader.residual == i + 1 && reader.input != i + 1;
}

// Whether a convolution that reads `layout` is carried out group by group, lanes over groups (conv.cpp).
bool Planner::goes_by_groups(const igc_op& op, const Layout& layout) const {
  if (op.groups == 1 || !is_pointwise(op)) return op.groups > 1;
  const int members = shape(op.input).channels / op.groups;
  return op.groups >= kManyGroups && members > 1 && as_groups(layout, members, 1);
}

// Whether the group convolution i, which writes `layout`, can be computed row by row inside the step of the
// 1x1 convolution that reads it, through any number of permutations.
bool Planner::feeds_pointwise(int64_t i, Layout layout) const {
  if (ops_[i].kind != IGC_CONV || ops_[i].groups == 1 || ops_[i].residual >= 0) return false;
  for (int64_t tensor = i + 1; readers_[tensor].size() == 1;) {
    const int64_t next = readers_[tensor][0];
    const igc_op& reader = ops_[next];
    if (reader.residual == tensor) return false;
    if (reader.kind != IGC_PERMUTE)
      return is_pointwise(reader) && reader.stride == 1 && !postponed(next) &&
             !goes_by_groups(reader, layout);
    layout = relabeled(layout, permuted_labels(shape(tensor).channels, reader.groups));
    tensor = next + 1;
  }
  return false;
}

int Planner::new_storage(const Layout& layout, Shape s) {
  Storage storage;
  storage.layout = layout;
  storage.height = s.height;
  storage.width = s.width;
  if ((int64_t)layout.positions * (s.height + 512) * (s.width + 512) > ((int64_t)1 << 31))
    throw BadArgument("a tensor of one image would take more than 2^31 floats");
  plan_.storages.push_back(storage);
  return (int)plan_.storages.size() - 1;
}

void Planner::define(int64_t tensor, const Layout& layout) {
  tensors_[tensor] = Tensor();
  tensors_[tensor].planned = true;
  tensors_[tensor].layout = layout;
  tensors_[tensor].storage = new_storage(layout, shape(tensor));
}

// The order in which a group convolution or a block reads its input: the present one where that serves it.
Layout Planner::groups_of(const igc_op& op) const {
  const int members = shape(op.input).channels / op.groups;
  const std::optional<Layout> present = as_groups(tensors_[op.input].layout, members, narrowest(op));
  return present ? *present : Layout::interleaved(op.groups, members, narrowest(op));
}

Filter Planner::filter_of(const igc_op& op) const { return igc::filter_of(op, shape(op.input).channels); }

Filter Planner::secondary_of(const igc_op& op) const {
  return {op.channels, op.channels, op.channels / op.groups, 1, 1, op.groups};
}

// Good until the next call.
Parameters Planner::parameters_of(const igc_op& op) {
  Parameters result = {parameter(op.weight), parameter(op.scale), parameter(op.bias)};
  if (op.kind == IGC_BLOCK && op.groups == 1) {  // the secondary's partitions hold one channel each: factors
    factors_.assign(parameter(op.weight2), parameter(op.weight2) + op.channels);
    for (int c = 0; result.scale && c < op.channels; c++) factors_[c] *= result.scale[c];
    result.scale = factors_.data();
  }
  return result;
}

Parameters Planner::mixing_of(const igc_op& op) const {
  return {parameter(op.weight2), parameter(op.scale), parameter(op.bias)};
}

// What packed weights depend on, beside the op and the layouts.
void append(std::vector<int32_t>& key, const ConvPlan& plan) {
  for (const ConvPlan::Block& b : plan.blocks)
    key.insert(key.end(), {b.w, b.vectors, b.x_offset, b.y_offset, b.inputs});
}
void append(std::vector<int32_t>& key, const PointwisePlan& plan) {
  for (const PointwisePlan::Block& b : plan.blocks) key.insert(key.end(), {b.split, b.n, b.offset[0]});
}

template <class Part>
void Planner::pack(Part& part, const igc_op& op, const Filter& filter, const Parameters& parameters,
                   const Layout& in, const Layout& out, const Filter* secondary, const Parameters& mixing) {
  std::vector<int32_t> key = {(int32_t)(&op - ops_), std::is_same_v<Part, PointwisePlan>};
  append(key, part);
  for (const Layout* layout : {&in, &out}) {
    key.push_back(layout->positions);
    key.insert(key.end(), layout->channel_at.begin(), layout->channel_at.end());
  }
  const auto packed = shared_.get(key, [&] {
    return gathered(packing_of(part, filter, in, out, secondary), filter, parameters, secondary, mixing);
  });
  part.weights = packed->weights.get();
  part.bias = packed->bias.get();
  plan_.packed.push_back(packed);
}

// The storage and layout of `tensor` with positions as in `layout`; a Convert step if it has others.
int Planner::converted(int64_t tensor, const Layout& layout) {
  as_floats(tensor);
  const Tensor& from = tensors_[tensor];
  if (from.layout.positions == layout.positions && from.layout.channel_at == layout.channel_at)
    return from.storage;
  Step step = {};
  step.work = Work::Convert;
  step.input = from.storage;
  step.output = new_storage(layout, shape(tensor));
  step.source = sources(from.layout, layout, shape(tensor).channels);
  return emit(std::move(step));
}

int Planner::emit(Step step) {
  const int output = step.output;
  plan_.steps.push_back(std::move(step));
  return output;
}

void Planner::find_lifetimes() {
  const auto uses = [&](int storage, int step) {
    if (storage < 0) return;
    Storage& s = plan_.storages[storage];
    s.first_step = s.last_step < 0 ? step : std::min(s.first_step, step);
    s.last_step = std::max(s.last_step, step);
  };
  const int n = (int)plan_.steps.size();
  uses(plan_.input, 0);
  for (int i = 0; i < n; i++)
    for (int storage : {plan_.steps[i].input, plan_.steps[i].residual, plan_.steps[i].output})
      uses(storage, i);
  uses(plan_.output, n);
}

void Planner::widen_halo(int storage, int h, int w) {
  Storage& s = plan_.storages[storage];
  s.halo_h = std::max(s.halo_h, h);
  s.halo_w = std::max(s.halo_w, w);
}

void Planner::plan_op(int64_t i, const Forced* forced) {
  const igc_op& op = ops_[i];
  Tensor& in = tensors_[op.input];
  const int64_t result = i + 1;
  if (op.kind == IGC_PERMUTE) {
    tensors_[result] = in;
    tensors_[result].layout = relabeled(in.layout, permuted_labels(shape(op.input).channels, op.groups));
    return;
  }
  if (is_convolution(op)) return plan_convolution(i, forced);
  Step step = {};
  step.work = op.kind == IGC_MAX_POOL ? Work::MaxPool : Work::MeanPool;
  step.pool = op;
  step.input = as_floats(op.input);
  const Layout layout = in.layout;
  define(result, layout);
  step.output = tensors_[result].storage;
  emit(std::move(step));
}

// What the 1x1 convolution `op`, or a dense one, writes: where it costs no more vectors, each group of
// outputs begins with a vector (two groups of 12: 32 positions as well as 24 in a row), so that vectors
// share their inputs.
Layout Planner::free_layout(int64_t i, const Filter& filter, const Forced* forced) const {
  if (forced) return forced->layout;
  const int channels = ops_[i].channels, groups = ops_[i].groups, each = channels / groups;
  if (groups > 1 && filter.inputs == channels) {
    // Groups that lie together can stay where they are. A wish that scatters them may cost many times the
    // work.
    const Layout& in = tensors_[ops_[i].input].layout;
    Layout same = in;
    std::vector<int> seen(groups);
    for (int& c : same.channel_at)
      if (c >= 0) {
        const int group = filter.group_of_input(c);
        c = group * each + seen[group]++;
      }
    const Layout& other = wish_[i + 1] ? *wish_[i + 1] : Layout::plain(channels);
    if (same.positions % 16 == 0 &&
        2 * pointwise_work(kernels_, filter, in, same) < pointwise_work(kernels_, filter, in, other))
      return same;
  }
  if (wish_[i + 1]) return *wish_[i + 1];
  Layout layout = Layout::plain(channels);
  const int aligned = (each + 15) / 16 * 16;
  if (aligned * groups > layout.positions) return layout;
  layout = Layout::plain(aligned * groups);
  for (int p = 0; p < layout.positions; p++)
    layout.channel_at[p] = p % aligned < each ? p / aligned * each + p % aligned : -1;
  return layout;
}

void Planner::plan_convolution(int64_t i, const Forced* forced) {
  const igc_op& op = ops_[i];
  const Shape out_shape = shape(i + 1);
  plan_.multiply_adds += (int64_t)out_shape.height * out_shape.width * op.channels *
                         ((int64_t)shape(op.input).channels / op.groups * op.kernel_h * op.kernel_w +
                          (op.kind == IGC_BLOCK ? op.groups : 0));
  if (plan_.reduced_ops[i]) return plan_reduced(i, forced);
  const Filter filter = filter_of(op);
  const int width = out_shape.width;
  Step step = {};
  Layout out;
  if (goes_by_groups(op, tensors_[op.input].layout)) {
    const Layout in = groups_of(op);
    step.input = converted(op.input, in);
    out = with_members(in, op.channels / op.groups);
    plan_groups(step, op, in, out, width);
  } else if (is_pointwise(op)) {
    const int64_t conv = tensors_[op.input].pending;
    step.input = conv < 0 ? as_floats(op.input) : -1;
    out = free_layout(i, filter, forced);
    const Layout& in = tensors_[op.input].layout;
    step.work = Work::Pointwise;
    step.pointwise = plan_pointwise(kernels_, filter, in, out, op.stride, width);
    pack(step.pointwise, op, filter, parameters_of(op), in, out);
    step.pointwise.activation = op.activation;
    if (conv >= 0) {  // the step of the convolution that was put aside takes this one in
      Step both = std::move(pending_[conv]);
      pending_.erase(conv);
      both.pointwise = std::move(step.pointwise);
      both.work = Work::ConvPointwise;
      both.middle_pixel = pixel_stride(tensors_[op.input].layout.positions);
      step = std::move(both);
    }
  } else {
    step.input = as_floats(op.input);
    out = free_layout(i, filter, forced);
    const Layout& in = tensors_[op.input].layout;
    step.work = Work::Conv;
    step.conv = plan_dense_conv(kernels_, filter, in, out, op.stride, width);
    pack(step.conv, op, filter, parameters_of(op), in, out);
    step.conv.activation = op.activation;
  }
  if (step.work != Work::Pointwise && !is_pointwise(op)) {
    step.conv.pad_h = op.pad_h;
    step.conv.pad_w = op.pad_w;
    widen_halo(step.input, op.pad_h, op.pad_w);
  }
  if (step.work == Work::Conv && feeds_pointwise(i, out)) {
    tensors_[i + 1].planned = true;
    tensors_[i + 1].layout = out;
    tensors_[i + 1].pending = i;
    pending_[i] = std::move(step);
    return;
  }
  if (op.residual >= 0) {
    const Forced order = {out};
    if (!tensors_[op.residual].planned) plan_op(op.residual - 1, &order);
    step.residual = converted(op.residual, out);
  }
  define(i + 1, out);
  step.output = tensors_[i + 1].storage;
  if (step.work == Work::ConvPointwise || step.work == Work::Conv) choose_tile(step, out_shape);
  emit(std::move(step));
}

// A group convolution or an IGC block between layouts with the same chunks.
void Planner::plan_groups(Step& step, const igc_op& op, const Layout& in, const Layout& out, int width) {
  const bool block = op.kind == IGC_BLOCK;
  const Filter filter = filter_of(op), secondary = secondary_of(op);
  const Parameters parameters = parameters_of(op), mixing = mixing_of(op);
  const bool in_registers = block && out.chunks.size() == 1 && out.chunks[0].width == kInRegisters;
  step.conv = plan_group_conv(kernels_, filter, in_registers, in, out, op.stride, width);
  pack(step.conv, op, filter, block ? unscaled(parameters) : parameters, in, out,
       in_registers ? &secondary : nullptr, mixing);
  if (block && !in_registers) {
    step.work = Work::ConvPointwise;
    step.pointwise = plan_pointwise(kernels_, secondary, out, out, 1, width);
    pack(step.pointwise, op, secondary, mixing, out, out);
    step.pointwise.activation = op.activation;
    step.middle_pixel = pixel_stride(out.positions);
  } else {
    step.work = Work::Conv;
    step.conv.activation = op.activation;
  }
}

// Rows that a step works on at a time, so that what its blocks share stays in cache. ConvPointwise: a scratch of about 32
// KB, so that what the convolution writes is read from L1; large weights are worth more rows, which share one pass
// over them. A convolution alone: what its blocks read and write. Weights above 2 MB are worth the whole image.
void Planner::choose_tile(Step& step, Shape out) {
  size_t rows;
  if (step.work == Work::ConvPointwise) {
    const size_t row = (size_t)out.width * step.middle_pixel * sizeof(float);
    rows = 32768 / row;
    if (step.conv.weight_bytes > 16384) rows = std::max(rows, 49152 / row);
    if (step.conv.weight_bytes > 200000 || step.pointwise.weight_bytes > 200000)
      rows = std::max(rows, 400000 / row);
  } else {
    const Storage &x = plan_.storages[step.input], &y = plan_.storages[step.output];
    rows = kBeyondL2 /
           (sizeof(float) * ((size_t)step.conv.stride * x.width * x.pixel() + (size_t)y.width * y.pixel()));
  }
  if (step.conv.weight_bytes + step.pointwise.weight_bytes > 4 * kBeyondL2) rows = out.height;
  rows = std::clamp<size_t>(rows, 1, out.height);
  const size_t tiles = (out.height + rows - 1) / rows;
  step.tile_rows = (int)((out.height + tiles - 1) / tiles);
  if (step.work == Work::ConvPointwise)
    plan_.scratch_floats =
        std::max(plan_.scratch_floats, (size_t)step.tile_rows * out.width * step.middle_pixel);
}

void Planner::finish() {
  as_floats(n_ops_);
  const Tensor& last = tensors_[n_ops_];
  plan_.output = last.storage;
  plan_.output_layout = last.layout;
  make_words_in_blocks();
  find_lifetimes();
  assign_buffers(plan_);
}

std::unique_ptr<const Plan> plan_net(const Kernels& kernels, const igc_op* ops, int64_t n_ops,
                                     const float* numbers, int64_t n_numbers, int channels, int height,
                                     int width, Weights& shared, const Precision& precision) {
  std::vector<Shape> shapes = check_inference(ops, n_ops, numbers, n_numbers, {channels, height, width});
  check_precision(ops, n_ops, precision);
  auto plan = std::make_unique<Plan>();
  plan->kernels = &kernels;
  plan->precision = precision.kind;
  plan->channels = channels;
  plan->height = height;
  plan->width = width;
  plan->out_channels = shapes.back().channels;
  Planner(*plan, shared, ops, n_ops, numbers, precision, std::move(shapes)).plan();
  return plan;
}

}  // namespace igc
