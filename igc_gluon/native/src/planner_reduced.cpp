// planner_reduced.cpp - which ops of a network run on bytes or bfloat16, and their steps (see planner.cpp, reduced.h).
//
// A tensor that a reduced op reads is written in its elements; whoever needs it otherwise gets it by a step of its
// own (as_floats, as_reduced, as_words). Weights, scales and bias are prepared for the tensors' scales here.
#include <algorithm>

#include "isa.h"
#include "planner.h"

namespace igc {
namespace {

// Sums of products of bytes must fit into 32 bits: 2^31 / (255 * 127) = 66000.
constexpr int64_t kMostProducts = 60000;

// Cycles, see pays_on_amx.
constexpr int64_t kTiles = 54, kFloats = 8, kBytes = 16, kSlowProducts = 32;
int64_t tiles_for(int64_t products, int width) {
  const int64_t across = (width + 15) / 16, pixels = (width + across - 1) / across;
  return products * kTiles * std::max<int64_t>(pixels, 8) / pixels;
}

}  // namespace

void Planner::choose_reduced() {
  plan_.reduced_ops.assign(n_ops_, 0);
  middle_.assign(n_ops_, nullptr);
  const ReducedUnits units = reduced_units(kernels_, precision_.kind);
  plan_.reduced = units.vectors;
  plan_.amx = units.amx;
  if (!plan_.reduced) return;
  const float* middle = precision_.ranges + 2 * (n_ops_ + 1);
  for (int64_t i = 0; i < n_ops_; i++) {
    const igc_op& op = ops_[i];
    if (op.kind == IGC_BLOCK && precision_.kind == IGC_INT8) {
      middle_[i] = middle;
      middle += op.channels;
    }
    if (!is_convolution(op)) continue;
    if (units.amx && pays_on_amx(op, units.fast))
      plan_.reduced_ops[i] = IGC_ON_AMX;
    else if (units.amx && secondary_pays_on_amx(op, units.fast))
      plan_.reduced_ops[i] = IGC_ON_BOTH;
    else if (units.fast && (in_bytes() ? pays_in_bytes(op) : pays_in_half(op)))
      plan_.reduced_ops[i] = IGC_ON_VECTORS;
  }
}

// By shape alone, from what instructions take on the Intel Xeon of 2023 on which AMX was studied: of the time in which a
// vector of 16 outputs of a tile of 16 pixels gets its products, in cycles,
//
//   54          a product of tiles with the loads and the epilogue that it needs (half of it for few pixels)
//   8           16 multiply-adds of vectors of float32, two at a time; VDPBF16PS where it is fast
//   16          16 VPDPBUSD
//   32          16 VDPBF16PS where it is slow
//
// which makes, of time on vectors over time on AMX:
//
//   half, beside float32       3x3: 8 members 1.8, 16: 3.6, 32: 4.7     1x1: 16: 2.4, 64: 4.7     3x3 of an image: 1.3
//   int8, beside VNNI          3x3: 8 members 1.8, 16: 3.6, 64: 4.7     1x1: 16: 1.2, 64: 4.7
//
// In an IGC block the secondary runs on vectors of float32 behind AMX.
bool Planner::pays_on_amx(const igc_op& op, bool fast_vectors) const {
  const Shape in = shape(op.input);
  const int64_t members = in.channels / op.groups, taps = op.kernel_h * op.kernel_w, run = this->run();
  const bool mixes = op.kind == IGC_BLOCK && op.groups > 1;
  if (in.height * in.width == 1) return false;
  if (op.groups > 1 && (members < 8 || (mixes && op.channels / op.groups < 8))) return false;
  if (in_bytes() && (members < 4 || members * taps > kMostProducts)) return false;
  const int64_t together = op.groups > 1 ? amx_groups((int)members) * members : members;
  const int64_t words = (together + run - 1) / run;
  const int64_t runs =
      words > 16 && op.groups > 1 ? op.kernel_w * ((words + 15) / 16) : (op.kernel_w * words + 15) / 16;
  const int width = (in.width + 2 * op.pad_w - op.kernel_w) / op.stride + 1;
  const int64_t on_tiles = tiles_for(op.kernel_h * runs, width);
  const int64_t alone = (members + run - 1) / run * taps;  // words of a vector
  const int64_t on_vectors = in_bytes() ? kBytes * alone : kFloats * (fast_vectors ? alone : members * taps);
  const bool reduces = mixes && op.groups > kInRegisters && (in_bytes() || fast_vectors);
  const int64_t mixing = mixes ? kFloats * op.groups : 0;
  return 5 * (on_vectors + (reduces ? mixing / 2 : mixing)) > 6 * (on_tiles + mixing);
}

// The secondary of a block with few members, whose primary stays on vectors of bytes or bfloat16, even on slow VDPBF16PS:
// of time on vectors (int8) or in float32 over that time, M = 2: half L = 100: 1.4, 400: 2.0; int8 L = 100: 1.5.
bool Planner::secondary_pays_on_amx(const igc_op& op, bool fast_vectors) const {
  const Shape in = shape(op.input);
  if (op.kind != IGC_BLOCK || op.groups < 32 || in.height * in.width == 1 ||
      (in_bytes() && !pays_in_bytes(op)))
    return false;
  const int64_t run = this->run(), members = in.channels / op.groups, out_members = op.channels / op.groups;
  const int64_t primary = (members + run - 1) / run * op.kernel_h * op.kernel_w;
  // Chunks of 16 groups hold 16 / run words of each m; so many of them are reached by a run of 16 words.
  const int64_t chunks = (op.groups + 15) / 16, reached = 1 + (16 - 16 / run) / (out_members * 16 / run);
  const int width = (in.width + 2 * op.pad_w - op.kernel_w) / op.stride + 1;
  const int64_t secondary = tiles_for((chunks + reached - 1) / reached, width);
  const bool fast = in_bytes() || fast_vectors;
  const int64_t on_vectors = primary * (in_bytes() ? kBytes : fast ? kFloats : kSlowProducts);
  const int64_t before = fast ? on_vectors + kFloats / 2 * op.groups
                              : kFloats * (members * op.kernel_h * op.kernel_w + op.groups);
  return 5 * before > 6 * (on_vectors + secondary);
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
bool Planner::pays_in_bytes(const igc_op& op) const {
  const int64_t members = shape(op.input).channels / op.groups;
  if (members * op.kernel_h * op.kernel_w > kMostProducts || op.groups > kMostProducts) return false;
  if (shape(op.input).height * shape(op.input).width == 1) return false;
  return op.kind == IGC_BLOCK ? members >= 2 || op.groups > kInRegisters : members >= 4;
}

// By shape alone. Time in float32 over time in half precision, on one core of an AMD EPYC (Zen 5), whose VDPBF16PS has
// twice the products of a multiply-add of float32, in chains of six equal ops, maps of 16x16:
//
//   IGC block                   members 1   2       3       4      8      16
//     L = 4, 8, 16, 24            0.85-1.02 1.1-1.2 1.0-1.2 1.2-1.3 1.3-1.4 1.3-1.6
//     L = 32                      1.1       1.3     1.2     1.4    1.5    1.7
//     L = 100                     1.4       1.4     1.4     1.6
//   dense 3x3                   8 inputs: 2.8, 16 to 64: 1.8 to 1.9
//   3x3 in groups               2 members: 1.0; 4: 1.3; 8 and 16: 1.4 to 1.5; channel-wise: 0.7
//   1x1                         2 members: 0.8; 4 and 8: 1.05 to 1.2; 16: 1.3; 24 to 128: 1.4 to 1.7
bool Planner::pays_in_half(const igc_op& op) const {
  const int64_t members = shape(op.input).channels / op.groups;
  if (shape(op.input).height * shape(op.input).width == 1) return false;
  if (op.kind == IGC_BLOCK) return members >= 2 || op.groups >= 32;
  return members >= (op.groups == 1 ? 2 : 4);
}

// Whether a reduced op reads the tensor, through any number of permutations.
bool Planner::is_reduced(int64_t tensor) const {
  for (int64_t reader : readers_[tensor])
    if (ops_[reader].kind == IGC_PERMUTE ? is_reduced(reader + 1) : plan_.reduced_ops[reader] != 0)
      return true;
  return false;
}

Scale Planner::scale_of(int64_t tensor) const {
  if (!in_bytes()) return {};
  while (tensor > 0 && ops_[tensor - 1].kind == IGC_PERMUTE) tensor = ops_[tensor - 1].input;
  float low = precision_.ranges[2 * tensor], high = precision_.ranges[2 * tensor + 1];
  const int activation =
      tensor > 0 && is_convolution(ops_[tensor - 1]) ? ops_[tensor - 1].activation : IGC_LINEAR;
  if (activation != IGC_LINEAR) low = 0;
  if (activation == IGC_RELU6) high = std::min(high, 6.0f);  // then saturation clips at 6 or below
  return Scale::of(low, high);
}

int Planner::new_reduced(int64_t tensor, const Layout& order) {
  const int storage = new_storage(order, shape(tensor));
  plan_.storages[storage].element = plan_.reduced->element;
  plan_.storages[storage].zero = (uint8_t)scale_of(tensor).zero;
  return storage;
}

int Planner::as_floats(int64_t tensor) {
  Tensor& t = tensors_[tensor];
  if (t.storage >= 0 || t.pending >= 0) return t.storage;
  Step step = {};
  step.work = Work::Widen;
  step.input = as_reduced(tensor);
  step.scale = scale_of(tensor);
  step.output = new_storage(t.layout, shape(tensor));
  return t.storage = emit(std::move(step));
}

int Planner::as_reduced(int64_t tensor) {
  Tensor& t = tensors_[tensor];
  if (t.reduced >= 0) return t.reduced;
  if (t.storage < 0) return t.reduced = reordered(tensor, t.words, t.layout);
  Step step = {};
  step.work = Work::Reduce;
  step.input = t.storage;
  step.scale = scale_of(tensor);
  step.output = new_reduced(tensor, t.layout);
  return t.reduced = emit(std::move(step));
}

int Planner::as_words(int64_t tensor) {
  Tensor& t = tensors_[tensor];
  if (t.words < 0) t.words = words_of(tensor, t.layout);
  return t.words;
}

// Words of the groups of `layout`, in whose order the tensor is.
int Planner::words_of(int64_t tensor, const Layout& layout) {
  const Layout order = igc::as_words(layout, run());
  const int reduced = as_reduced(tensor);
  if (order.channel_at == layout.channel_at) return reduced;
  Step step = {};
  step.work = Work::MakeWords;
  step.input = reduced;
  step.from = layout;
  step.to = order;
  step.output = new_reduced(tensor, order);
  return emit(std::move(step));
}

// The tensor, reduced, moved to `order`.
int Planner::reordered(int64_t tensor, int storage, const Layout& order) {
  const Tensor& t = tensors_[tensor];
  Step step = {};
  step.work = Work::Reorder;
  step.input = storage;
  const Layout present =
      storage == t.words && storage != t.reduced ? igc::as_words(t.layout, run()) : t.layout;
  step.source = sources(present, order, shape(tensor).channels);
  step.output = new_reduced(tensor, order);
  return emit(std::move(step));
}

// The tensor, reduced, in the order of `layout`, or as its words.
int Planner::reduced_in(int64_t tensor, const Layout& layout, bool words) {
  const Layout& own = tensors_[tensor].layout;
  if (own.positions == layout.positions && own.channel_at == layout.channel_at) {
    if (!words) return as_reduced(tensor);
    // One order may be seen as groups of several sizes.
    return own.members == layout.members ? as_words(tensor) : words_of(tensor, layout);
  }
  const int from = tensors_[tensor].words >= 0 ? tensors_[tensor].words : as_reduced(tensor);
  return reordered(tensor, from, words ? igc::as_words(layout, run()) : layout);
}

void Planner::plan_reduced(int64_t i, const Forced* forced) {
  const igc_op& op = ops_[i];
  const Shape out_shape = shape(i + 1);
  const int width = out_shape.width;
  const Filter filter = filter_of(op);
  const Scale own = scale_of(i + 1);
  const Scale residual_scale = op.residual >= 0 ? scale_of(op.residual) : Scale();
  Target target;
  target.floats = forced ? !forced->reduced : !is_reduced(i + 1);
  target.scale = own;
  target.activation = op.activation;
  target.residual = op.residual >= 0 ? &residual_scale : nullptr;
  Step step = {};
  Layout out;
  bool words = false;  // whether results leave the kernel as words
  const bool amx = on_amx(i), amx_block = amx && op.kind == IGC_BLOCK && op.groups > 1;
  const bool by_groups = !amx && goes_by_groups(op, tensors_[op.input].layout);
  if (amx_block) {
    out = amx_layout(op.groups, op.channels / op.groups);
    plan_amx_block(step, i, out, target);
  } else if (by_groups) {
    const Layout in = groups_of(op);
    step.input = reduced_in(op.input, in, true);
    out = with_members(in, op.channels / op.groups);
    plan_reduced_groups(step, i, in, out, target);
    words = step.reduced_conv.r_words;
  } else {
    // Every element is read: any order will do.
    const int64_t conv = tensors_[op.input].pending;
    out = free_layout(i, filter, forced);
    words = forced && forced->words;
    const Layout order = words ? igc::as_words(out, run()) : out;
    Layout in = tensors_[op.input].layout;
    if (conv < 0 && amx) {
      in = read_by_amx(step, i, order);
    } else if (conv < 0 && tensors_[op.input].reduced < 0 && tensors_[op.input].words >= 0) {
      step.input = as_words(op.input);
      in = igc::as_words(in, run());
    } else if (conv < 0) {
      step.input = as_reduced(op.input);
    }
    const Scale in_scale = scale_of(op.input);
    const ReducedFilter weights(
        plan_.reduced->element, filter, parameters_of(op), [&](int) { return in_scale.step; }, in_scale.zero);
    step.work = is_pointwise(op) ? Work::ReducedPointwise : Work::ReducedConv;
    if (amx) {
      const int pixel = conv < 0 ? plan_.storages[step.input].pixel() : in.positions / run();
      step.amx =
          plan_amx_conv(*plan_.amx, plan_.arena, weights, in, pixel, order, op.stride, width, target, false);
    } else if (is_pointwise(op)) {
      step.reduced_pointwise =
          plan_reduced_pointwise(*plan_.reduced, plan_.arena, weights, in, order, op.stride, width, target);
    } else {
      step.reduced_conv = plan_reduced_conv(*plan_.reduced, plan_.arena, weights, nullptr, {}, in, order,
                                            true, op.stride, width, target);
    }
    if (is_pointwise(op)) {
      if (conv >= 0) {
        Step both = std::move(pending_[conv]);
        pending_.erase(conv);
        both.reduced_pointwise = std::move(step.reduced_pointwise);
        both.amx = std::move(step.amx);
        both.work = Work::ConvReducedPointwise;
        both.scale = in_scale;
        both.reduced_pixel = in.positions / run();
        both.middle_pixel = pixel_stride(in.positions);
        step = std::move(both);
      }
    }
  }
  if (!is_pointwise(op)) {
    (amx ? step.amx.pad_h : step.reduced_conv.pad_h) = op.pad_h;
    (amx ? step.amx.pad_w : step.reduced_conv.pad_w) = op.pad_w;
    widen_halo(step.input, op.pad_h, op.pad_w);
  }
  if (op.residual >= 0) {
    const Forced order = {out, true, words};
    if (!tensors_[op.residual].planned) plan_op(op.residual - 1, &order);
    step.residual = reduced_in(op.residual, out, words);
  }
  if (target.floats) {
    define(i + 1, out);
    step.output = tensors_[i + 1].storage;
  } else {
    Tensor& t = tensors_[i + 1];
    t.planned = true;
    t.layout = out;
    step.output = new_reduced(i + 1, words ? igc::as_words(out, run()) : out);
    (words ? t.words : t.reduced) = step.output;
  }
  if (step.work == Work::ReducedConvPointwise || step.work == Work::ConvReducedPointwise)
    choose_reduced_tile(step, out_shape);
  else if (amx)
    choose_amx_tile(step, out_shape);
  emit(std::move(step));
}

// The order of the elements that a convolution on AMX reads, and step.input: as they lie, or, where groups are scattered
// so far that it would take many times the products, the order that suits it.
Layout Planner::read_by_amx(Step& step, int64_t i, const Layout& out) {
  const igc_op& op = ops_[i];
  const Tensor& t = tensors_[op.input];
  const bool as_words = t.reduced < 0 && t.words >= 0;
  const Layout in = as_words ? igc::as_words(t.layout, run()) : t.layout;
  const Filter filter = filter_of(op);
  const auto products = [&](const Layout& order) {
    return amx_products(plan_.reduced->element, filter, order, pixel_stride(order.positions / run()), out);
  };
  if (op.groups > 1) {
    const Layout other = amx_layout(op.groups, filter.inputs / op.groups);
    if (2 * products(in) > 3 * products(other)) {
      step.input = reduced_in(op.input, other, false);
      return other;
    }
  }
  step.input = as_words ? this->as_words(op.input) : as_reduced(op.input);
  return in;
}

void Planner::plan_amx_block(Step& step, int64_t i, const Layout& out, const Target& target) {
  const igc_op& op = ops_[i];
  const int width = shape(i + 1).width;
  const Scale in_scale = scale_of(op.input);
  const Layout in = read_by_amx(step, i, out);
  const ReducedFilter primary(
      plan_.reduced->element, filter_of(op), unscaled(parameters_of(op)), [&](int) { return in_scale.step; },
      in_scale.zero);
  Target sums;
  sums.floats = true;
  step.work = Work::AmxBlock;
  step.amx = plan_amx_conv(*plan_.amx, plan_.arena, primary, in, plan_.storages[step.input].pixel(), out,
                           op.stride, width, sums, true);
  step.mix = plan_amx_mix(*plan_.amx, plan_.arena, secondary_of(op), mixing_of(op), primary, out, target);
  step.middle_pixel = pixel_stride(out.positions);
}

// Rows of the scratch: what is copied, and the sums of an IGC block, stay in L1; where weights are large, they are not
// fetched again and again for a few rows.
void Planner::choose_amx_tile(Step& step, Shape out) {
  const size_t sums = (size_t)out.width * step.middle_pixel * sizeof(float);
  const auto bytes = [&](int rows) { return rows * sums + step.amx.slice_bytes(rows, out.width); };
  const size_t most = std::clamp<size_t>(step.amx.weight_bytes / 2, 24 << 10, 512 << 10);
  int rows = out.height;
  while (rows > 1 && bytes(rows) > most) rows--;
  const int tiles = (out.height + rows - 1) / rows;
  step.tile_rows = (out.height + tiles - 1) / tiles;
  plan_.scratch_floats = std::max(plan_.scratch_floats, bytes(step.tile_rows) / sizeof(float) + 16);
}

// A group convolution or an IGC block between layouts with the same chunks.
void Planner::plan_reduced_groups(Step& step, int64_t i, const Layout& in, const Layout& out,
                                  const Target& target) {
  const igc_op& op = ops_[i];
  const bool block = op.kind == IGC_BLOCK;
  const int width = shape(i + 1).width;
  const Scale in_scale = scale_of(op.input);
  const auto input_step = [&](int) { return in_scale.step; };
  const Element element = plan_.reduced->element;
  const int widest = out.chunks[0].width;
  const bool in_registers = block && out.chunks.size() == 1 && widest == kInRegisters;
  // Vectors of narrow chunks hold whole words.
  const bool words = (in_registers || !block) && out.chunks.size() == 1 && widest * run() <= 16;
  const Layout from = igc::as_words(in, run());
  const Filter secondary = secondary_of(op);
  const Parameters parameters = parameters_of(op), mixing = mixing_of(op);
  const ReducedFilter primary(element, filter_of(op), block ? unscaled(parameters) : parameters, input_step,
                              in_scale.zero);
  if (!block || in_registers) {
    step.work = Work::ReducedConv;
    step.reduced_conv =
        plan_reduced_conv(*plan_.reduced, plan_.arena, primary, in_registers ? &secondary : nullptr, mixing,
                          from, out, false, op.stride, width, target);
    step.reduced_conv.y_words = words && !target.floats;
    step.reduced_conv.r_words = words;
    return;
  }
  // Middle values are signed, and nothing has normalized them: of bytes a step for each channel.
  std::vector<float> steps(op.channels, 1.0f);
  Target middle;
  if (in_bytes()) {
    for (int c = 0; c < op.channels; c++) steps[c] = Scale::of(-middle_[i][c], middle_[i][c]).step;
    middle.scale.zero = 128;
    middle.steps = steps.data();
  }
  step.work = Work::ReducedConvPointwise;
  step.reduced_conv = plan_reduced_conv(*plan_.reduced, plan_.arena, primary, nullptr, {}, from, out, false,
                                        op.stride, width, middle);
  step.reduced_pixel = out.positions / run();
  const ReducedFilter products(
      element, secondary, mixing, [&](int c) { return steps[c]; }, middle.scale.zero);
  if (plan_.reduced_ops[i] == IGC_ON_BOTH)
    step.amx = plan_amx_conv(*plan_.amx, plan_.arena, products, out, step.reduced_pixel, out, 1, width,
                             target, false);
  else
    step.reduced_pointwise =
        plan_reduced_pointwise(*plan_.reduced, plan_.arena, products, out, out, 1, width, target);
}

// Blocks whose result is only read as words make those row by row, while the rows are in L1.
void Planner::make_words_in_blocks() {
  std::vector<Step>& steps = plan_.steps;
  for (size_t i = 0; i < steps.size(); i++) {
    if (steps[i].work != Work::MakeWords) continue;
    const int natural = steps[i].input;
    const auto reads = [&](const Step& s) { return s.input == natural || s.residual == natural; };
    const auto writer =
        std::find_if(steps.begin(), steps.end(), [&](const Step& s) { return s.output == natural; });
    if (writer == steps.end() || writer->work != Work::ReducedConvPointwise ||
        std::count_if(steps.begin(), steps.end(), reads) > 1)
      continue;
    writer->output = steps[i].output;
    writer->from = steps[i].from;
    writer->to = steps[i].to;
    writer->middle_pixel = steps[i].from.positions / run();
    const Storage& out = plan_.storages[writer->output];
    choose_reduced_tile(*writer, {0, out.height, out.width});
    steps.erase(steps.begin() + (std::ptrdiff_t)i--);
  }
}

// Rows of the scratch: as choose_tile, in bytes.
void Planner::choose_reduced_tile(Step& step, Shape out) {
  const size_t row = (size_t)out.width * (step.reduced_pixel + step.middle_pixel) * sizeof(float);
  const size_t rows = (step.reduced_conv.weight_bytes + step.conv.weight_bytes > 16384 ? 49152 : 24576) / row;
  step.tile_rows = (int)std::clamp<size_t>(rows, 1, out.height);
  plan_.scratch_floats = std::max(plan_.scratch_floats, step.tile_rows * row / sizeof(float) + 16);
}

}  // namespace igc
