// planner_int8.cpp - which ops of a calibrated network run on bytes, and their steps (see planner.cpp, int8.h).
//
// A tensor that an op on bytes reads is written as bytes; whoever needs it otherwise gets it by a step of its
// own (as_floats, as_bytes, as_quads). Weights, scales and bias are prepared for the tensors' scales here.
#include <algorithm>

#include "isa.h"
#include "planner.h"

namespace igc {
namespace {

// Sums of products of bytes must fit into 32 bits: 2^31 / (255 * 127) = 66000.
constexpr int64_t kMostProducts = 60000;

}  // namespace

void Planner::choose_int8() {
  plan_.int8_ops.assign(n_ops_, 0);
  middle_.assign(n_ops_, nullptr);
  plan_.int8 = ranges_ ? int8_kernels(kernels_) : nullptr;
  if (!plan_.int8) return;
  const float* middle = ranges_ + 2 * (n_ops_ + 1);
  for (int64_t i = 0; i < n_ops_; i++) {
    const igc_op& op = ops_[i];
    if (op.kind == IGC_BLOCK) {
      middle_[i] = middle;
      middle += op.channels;
    }
    plan_.int8_ops[i] = is_convolution(op) && pays_in_int8(op);
  }
}

// By shape alone. Time in float32 over time on bytes, on 2 cores of a Xeon with AVX-512 and VNNI, in chains of
// equal ops, maps of 16x16:
//
//   IGC block                   members    2       3       M=8, L=4      M=16
//     L = 4                               1.3     1.8      2.3            2.9       (M = 1: 0.96)
//     L = 8, 16, 24                       1.3-1.4 1.6      2.3
//     L = 100                             2.1                                       (M = 1: 1.5; L = 24: 1.2)
//   dense 3x3                   4 inputs: 3.3, 16: 3.3
//   3x3 in groups               4 members: 2.1 to 2.8; 2: 1.0; channel-wise: 0.5
//   1x1                         4 members: 1.4 to 2.1; 8: 1.4 to 1.5; 64: 2.7
//
// A word of four members is wasted on one or two. After pooling there is one pixel: nothing to gain. The
// image, of three channels, is left as it is.
bool Planner::pays_in_int8(const igc_op& op) const {
  const int64_t members = shape(op.input).channels / op.groups;
  if (members * op.kernel_h * op.kernel_w > kMostProducts || op.groups > kMostProducts) return false;
  if (shape(op.input).height * shape(op.input).width == 1) return false;
  return op.kind == IGC_BLOCK ? members >= 2 || op.groups > kInRegisters : members >= 4;
}

// Whether an op on bytes reads the tensor, through any number of permutations.
bool Planner::read_as_bytes(int64_t tensor) const {
  for (int64_t reader : readers_[tensor])
    if (ops_[reader].kind == IGC_PERMUTE ? read_as_bytes(reader + 1) : plan_.int8_ops[reader] != 0)
      return true;
  return false;
}

Scale Planner::scale_of(int64_t tensor) const {
  while (tensor > 0 && ops_[tensor - 1].kind == IGC_PERMUTE) tensor = ops_[tensor - 1].input;
  float low = ranges_[2 * tensor], high = ranges_[2 * tensor + 1];
  const int activation =
      tensor > 0 && is_convolution(ops_[tensor - 1]) ? ops_[tensor - 1].activation : IGC_LINEAR;
  if (activation != IGC_LINEAR) low = 0;
  if (activation == IGC_RELU6) high = std::min(high, 6.0f);  // then saturation clips at 6 or below
  return Scale::of(low, high);
}

int Planner::new_bytes(int64_t tensor, const Layout& order) {
  const int storage = new_storage(order, shape(tensor));
  plan_.storages[storage].bytes = true;
  plan_.storages[storage].zero = (uint8_t)scale_of(tensor).zero;
  return storage;
}

int Planner::as_floats(int64_t tensor) {
  Tensor& t = tensors_[tensor];
  if (t.storage >= 0 || t.pending >= 0) return t.storage;
  Step step = {};
  step.work = Work::Dequantise;
  step.input = as_bytes(tensor);
  step.residual = -1;
  step.scale = scale_of(tensor);
  step.output = new_storage(t.layout, shape(tensor));
  return t.storage = emit(std::move(step));
}

int Planner::as_bytes(int64_t tensor) {
  Tensor& t = tensors_[tensor];
  if (t.bytes >= 0) return t.bytes;
  if (t.storage < 0) return t.bytes = reordered(tensor, t.quads, t.layout);
  Step step = {};
  step.work = Work::Quantise;
  step.input = t.storage;
  step.residual = -1;
  step.scale = scale_of(tensor);
  step.output = new_bytes(tensor, t.layout);
  return t.bytes = emit(std::move(step));
}

int Planner::as_quads(int64_t tensor) {
  Tensor& t = tensors_[tensor];
  if (t.quads < 0) t.quads = quads_of(tensor, t.layout);
  return t.quads;
}

// Quads of the groups of `layout`, in whose order the tensor is.
int Planner::quads_of(int64_t tensor, const Layout& layout) {
  const Layout order = igc::as_quads(layout);
  const int bytes = as_bytes(tensor);
  if (order.channel_at == layout.channel_at) return bytes;
  Step step = {};
  step.work = Work::MakeQuads;
  step.input = bytes;
  step.residual = -1;
  step.from = layout;
  step.to = order;
  step.output = new_bytes(tensor, order);
  return emit(std::move(step));
}

// Bytes of the tensor, moved to `order`.
int Planner::reordered(int64_t tensor, int storage, const Layout& order) {
  const Tensor& t = tensors_[tensor];
  Step step = {};
  step.work = Work::Reorder;
  step.input = storage;
  step.residual = -1;
  const Layout present = storage == t.quads && storage != t.bytes ? igc::as_quads(t.layout) : t.layout;
  const std::vector<int> where = positions_of(present, shape(tensor).channels);
  for (int c : order.channel_at) step.source.push_back(c < 0 ? -1 : where[c]);
  step.output = new_bytes(tensor, order);
  return emit(std::move(step));
}

// Bytes of the tensor in the order of `layout`, or as its quads.
int Planner::bytes_in(int64_t tensor, const Layout& layout, bool quads) {
  const Layout& own = tensors_[tensor].layout;
  if (own.positions == layout.positions && own.channel_at == layout.channel_at) {
    if (!quads) return as_bytes(tensor);
    // One order may be seen as groups of several sizes.
    return own.members == layout.members ? as_quads(tensor) : quads_of(tensor, layout);
  }
  const int from = tensors_[tensor].quads >= 0 ? tensors_[tensor].quads : as_bytes(tensor);
  return reordered(tensor, from, quads ? igc::as_quads(layout) : layout);
}

void Planner::plan_int8(int64_t i, const Forced* forced) {
  const igc_op& op = ops_[i];
  const Shape out_shape = shape(i + 1);
  const int width = out_shape.width;
  const Filter filter = filter_of(op);
  const Scale own = scale_of(i + 1);
  const Scale residual_scale = op.residual >= 0 ? scale_of(op.residual) : Scale();
  Target target;
  target.floats = forced ? !forced->bytes : !read_as_bytes(i + 1);
  target.scale = own;
  target.activation = op.activation;
  target.residual = op.residual >= 0 ? &residual_scale : nullptr;
  Step step = {};
  step.residual = -1;
  Layout out;
  bool quads = false;  // whether results leave the kernel as quads
  const bool by_groups = goes_by_groups(op, tensors_[op.input].layout);
  if (by_groups) {
    const int members = filter.inputs / op.groups;
    std::optional<Layout> in = as_groups(tensors_[op.input].layout, members, narrowest(op));
    if (!in) in = Layout::interleaved(op.groups, members, narrowest(op));
    step.input = bytes_in(op.input, *in, true);
    out = with_members(*in, op.channels / op.groups);
    plan_int8_groups(step, i, *in, out, target);
    quads = step.int8_conv.r_quads;
  } else {
    // Every byte is read: any order will do.
    const int64_t conv = tensors_[op.input].pending;
    Layout in = tensors_[op.input].layout;
    if (conv < 0 && tensors_[op.input].bytes < 0 && tensors_[op.input].quads >= 0) {
      step.input = as_quads(op.input);
      in = igc::as_quads(in);
    } else if (conv < 0) {
      step.input = as_bytes(op.input);
    }
    out = free_layout(i, filter, forced);
    quads = forced && forced->quads;
    const Layout order = quads ? igc::as_quads(out) : out;
    const Scale in_scale = scale_of(op.input);
    const Quantised weights(filter, parameters_of(op), [&](int) { return in_scale.step; }, in_scale.zero);
    if (is_pointwise(op)) {
      step.work = Work::Int8Pointwise;
      step.int8_pointwise =
          plan_int8_pointwise(*plan_.int8, plan_.arena, weights, in, order, op.stride, width, target);
      if (conv >= 0) {
        Step both = std::move(pending_[conv]);
        pending_.erase(conv);
        both.int8_pointwise = std::move(step.int8_pointwise);
        both.work = Work::ConvInt8Pointwise;
        both.scale = in_scale;
        both.byte_pixel = in.positions / 4;
        both.middle_pixel = pixel_stride(in.positions);
        step = std::move(both);
      }
    } else {
      step.work = Work::Int8Conv;
      step.int8_conv = plan_int8_conv(*plan_.int8, plan_.arena, weights, nullptr, {}, in, order, true,
                                      op.stride, width, target);
    }
  }
  if (!is_pointwise(op)) {
    step.int8_conv.pad_h = op.pad_h;
    step.int8_conv.pad_w = op.pad_w;
    widen_halo(step.input, op.pad_h, op.pad_w);
  }
  if (op.residual >= 0) {
    const Forced order = {out, true, quads};
    if (!tensors_[op.residual].planned) plan_op(op.residual - 1, &order);
    step.residual = bytes_in(op.residual, out, quads);
  }
  if (target.floats) {
    define(i + 1, out);
    step.output = tensors_[i + 1].storage;
  } else {
    Tensor& t = tensors_[i + 1];
    t.planned = true;
    t.layout = out;
    step.output = new_bytes(i + 1, quads ? igc::as_quads(out) : out);
    (quads ? t.quads : t.bytes) = step.output;
  }
  if (step.work == Work::Int8ConvPointwise || step.work == Work::ConvInt8Pointwise)
    choose_int8_tile(step, out_shape);
  emit(std::move(step));
}

// A group convolution or an IGC block between layouts with the same chunks.
void Planner::plan_int8_groups(Step& step, int64_t i, const Layout& in, const Layout& out,
                               const Target& target) {
  const igc_op& op = ops_[i];
  const bool block = op.kind == IGC_BLOCK;
  const int width = shape(i + 1).width;
  const Scale in_scale = scale_of(op.input);
  const auto input_step = [&](int) { return in_scale.step; };
  // Vectors of narrow chunks hold whole quads.
  const bool quads = out.chunks.size() == 1 && out.chunks[0].width <= kInRegisters;
  const Layout from = igc::as_quads(in);
  const Filter secondary = secondary_of(op);
  const Parameters parameters = parameters_of(op), mixing = mixing_of(op);
  const Quantised primary(filter_of(op), block ? unscaled(parameters) : parameters, input_step,
                          in_scale.zero);
  if (!block || quads) {
    step.work = Work::Int8Conv;
    step.int8_conv = plan_int8_conv(*plan_.int8, plan_.arena, primary, block ? &secondary : nullptr, mixing,
                                    from, out, false, op.stride, width, target);
    step.int8_conv.y_quads = quads && !target.floats;
    step.int8_conv.r_quads = quads;
    return;
  }
  // Middle values are signed, and nothing has normalised them: a step for each channel.
  std::vector<float> steps;
  for (int c = 0; c < op.channels; c++) steps.push_back(Scale::of(-middle_[i][c], middle_[i][c]).step);
  Target middle;
  middle.scale.zero = 128;
  middle.steps = steps.data();
  step.work = Work::Int8ConvPointwise;
  step.int8_conv = plan_int8_conv(*plan_.int8, plan_.arena, primary, nullptr, {}, from, out, false, op.stride,
                                  width, middle);
  step.int8_pointwise = plan_int8_pointwise(
      *plan_.int8, plan_.arena,
      Quantised(secondary, mixing, [&](int c) { return steps[c]; }, 128), out, out, 1, width, target);
  step.byte_pixel = out.positions / 4;
}

// Blocks whose result is only read as quads make those row by row, while the rows are in L1.
void Planner::make_quads_in_blocks() {
  std::vector<Step>& steps = plan_.steps;
  for (size_t i = 0; i < steps.size(); i++) {
    if (steps[i].work != Work::MakeQuads) continue;
    const int natural = steps[i].input;
    const auto reads = [&](const Step& s) { return s.input == natural || s.residual == natural; };
    const auto writer =
        std::find_if(steps.begin(), steps.end(), [&](const Step& s) { return s.output == natural; });
    if (writer == steps.end() || writer->work != Work::Int8ConvPointwise ||
        std::count_if(steps.begin(), steps.end(), reads) > 1)
      continue;
    writer->output = steps[i].output;
    writer->from = steps[i].from;
    writer->to = steps[i].to;
    writer->middle_pixel = steps[i].from.positions / 4;
    const Storage& out = plan_.storages[writer->output];
    choose_int8_tile(*writer, {0, out.height, out.width});
    steps.erase(steps.begin() + (std::ptrdiff_t)i--);
  }
}

// Rows of the scratch: as choose_tile, in bytes.
void Planner::choose_int8_tile(Step& step, Shape out) {
  const size_t row = (size_t)out.width * (step.byte_pixel + step.middle_pixel) * sizeof(float);
  const size_t rows = (step.int8_conv.weight_bytes + step.conv.weight_bytes > 16384 ? 49152 : 24576) / row;
  step.tile_rows = (int)std::clamp<size_t>(rows, 1, out.height);
  plan_.scratch_floats = std::max(plan_.scratch_floats, step.tile_rows * row / sizeof(float) + 16);
}

}  // namespace igc
