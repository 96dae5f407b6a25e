// reduced_convolution.cpp - rounds weights to bytes or bfloat16, and packs them for kernels/reduced.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "pointwise_plan.h"
#include "reduced.h"

namespace igc {
namespace {

// No range is so small that its reciprocal overflows; none of a made-up file makes more than a wrong result.
constexpr float kLeastStep = 1e-30f;

float step_of(float largest, float levels) {
  const float step = largest / levels;
  return step > kLeastStep ? step : kLeastStep;  // also where it is NaN
}

// Where the elements of weights go, one after another.
class WeightWriter {
 public:
  WeightWriter(Arena& arena, Element element, size_t words)
      : begin_(reinterpret_cast<uint8_t*>(arena.take(words))), at_(begin_), bytes_(bytes_of(element)) {}
  const uint8_t* begin() const { return begin_; }
  void put(uint16_t element) {
    const uint8_t parts[2] = {(uint8_t)element, (uint8_t)(element >> 8)};
    at_ = std::copy(parts, parts + bytes_, at_);
  }

 private:
  uint8_t *begin_, *at_;
  int bytes_;
};

}  // namespace

Scale Scale::of(float low, float high) {
  if (low >= 0) return {step_of(high, 255), 0};
  return {std::max(step_of(-low, 128), step_of(high, 127)), 128};
}

uint16_t to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::fpclassify(value) == FP_SUBNORMAL) bits &= 0x80000000u;
  if (std::isnan(value)) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

Layout as_words(const Layout& layout, int members_of_word) {
  Layout words = layout;
  words.positions = 0;
  words.channel_at.clear();
  for (Chunk& chunk : words.chunks) {
    const Chunk from = chunk;
    chunk.offset = words.positions;
    for (int first = 0; first < layout.members; first += members_of_word)
      for (int lane = 0; lane < chunk.width; lane++)
        for (int m = first; m < first + members_of_word; m++)
          words.channel_at.push_back(m < layout.members ? layout.channel(from.offset + m * from.width + lane)
                                                        : -1);
    words.positions = (int)words.channel_at.size();
  }
  while (words.positions % 16) {
    words.channel_at.push_back(-1);
    words.positions++;
  }
  return words;
}

ReducedFilter::ReducedFilter(Element element, const Filter& filter, const Parameters& parameters,
                             const std::function<float(int)>& input_step, int zero)
    : filter_(filter),
      parameters_(parameters),
      elements_(filter.size()),
      step_(filter.outputs, 1.0f),
      surplus_(filter.outputs) {
  if (element == Element::Byte)
    quantize(input_step, zero);
  else
    for (int32_t n = 0; n < filter.size(); n++) elements_[n] = to_bfloat16(parameters.weight(filter, n));
}

void ReducedFilter::quantize(const std::function<float(int)>& input_step, int zero) {
  std::vector<float> input_steps, largest(filter_.outputs);
  for (int i = 0; i < filter_.inputs; i++) input_steps.push_back(input_step(i));
  const auto value = [&](int32_t n) {
    return parameters_.weight(filter_, n) * input_steps[filter_.input_of(n)];
  };
  for (int32_t n = 0; n < filter_.size(); n++) {
    float& here = largest[filter_.output_of(n)];
    here = std::max(here, std::abs(value(n)));
  }
  for (int o = 0; o < filter_.outputs; o++) step_[o] = step_of(largest[o], 127);
  std::vector<int64_t> sum(filter_.outputs);
  for (int32_t n = 0; n < filter_.size(); n++) {
    const int o = filter_.output_of(n);
    const float q = std::nearbyint(value(n) / step_[o]);
    const int8_t byte = (int8_t)(q > -127 ? (q < 127 ? q : 127) : -127);  // NaN: -127
    elements_[n] = (uint8_t)byte;
    sum[o] += byte;
  }
  for (int o = 0; o < filter_.outputs; o++) surplus_[o] = (float)(sum[o] * zero);
}

float Target::start(int channel) const {
  if (channel < 0) return 0;
  return (residual ? -residual->step * (float)residual->zero * unit(channel) : 0.0f) +
         (floats ? 0.0f : (float)scale.zero);
}

Epilogue Target::epilogue() const {
  Epilogue epilogue;
  const float infinite = std::numeric_limits<float>::infinity();
  epilogue.floats = floats;
  epilogue.lowest = activation == kLinear ? -infinite : 0.0f;
  epilogue.highest = activation == kRelu6 ? 6.0f : infinite;
  epilogue.residual_scale = residual ? residual->step * unit(0) : 0.0f;
  return epilogue;
}

// How many words of a pixel hold channels, up to the last one that does.
static int words_used(const Layout& layout, int run) {
  int last = layout.positions - 1;
  while (last > 0 && layout.channel_at[last] < 0) last--;
  return last / run + 1;
}

ReducedConv plan_reduced_conv(const ReducedKernels& kernels, Arena& arena, const ReducedFilter& filter,
                              const Filter* secondary, const Parameters& mixing, const Layout& in,
                              const Layout& out, bool dense, int stride, int width, const Target& target) {
  struct Part {
    int w, x_offset, words, y_offset, vectors;
  };
  const int run = per_word(kernels.element);
  std::vector<Part> parts;
  if (dense)
    parts.push_back({1, 0, words_used(in, run), 0, out.positions / 16});
  else
    for (size_t i = 0; i < in.chunks.size(); i++)
      parts.push_back({in.chunks[i].width, in.chunks[i].offset, (in.members + run - 1) / run,
                       out.chunks[i].offset, (out.chunks[i].width * out.members + 15) / 16});
  const Filter& f = filter.filter();
  ReducedConv plan;
  plan.kernel_h = f.kernel_h;
  plan.kernel_w = f.kernel_w;
  plan.stride = stride;
  plan.epilogue = target.epilogue();
  for (const Part& part : parts)
    for (int done = 0, count; done < part.vectors; done += count) {
      count = balanced(part.vectors - done, kernels.conv_vectors);
      const int base = part.y_offset + done * 16, lanes = count * 16;
      float *bias = arena.take(lanes), *scale = arena.take(lanes), *factors = nullptr;
      for (int j = 0; j < lanes; j++) {
        const int c = out.channel(base + j);
        if (c < 0) continue;
        const float unit = target.unit(c);
        scale[j] = filter.step(c) * unit;
        bias[j] = target.start(c) + filter.bias(c) * unit;
      }
      if (secondary) {
        factors = arena.take(4 * lanes);
        for (int j = 0; j < lanes; j++) {
          const int c = out.channel(base + j);
          if (c < 0) continue;
          double constant = mixing.bias_of(c);
          for (int k = 0; k < 4; k++) {
            const int middle = out.channel(base + j / 4 * 4 + k);
            const float factor =
                mixing.weight(*secondary, secondary->number(c, middle, 0, 0)) * filter.step(middle);
            factors[j / 16 * 64 + k * 16 + j % 16] = factor * target.unit(c);
            constant -= (double)factor * filter.surplus(middle);
          }
          bias[j] = target.start(c) + (float)constant * target.unit(c);
        }
      }
      const size_t words = (size_t)f.kernel_h * f.kernel_w * part.words * lanes;
      WeightWriter weights(arena, kernels.element, words);
      plan.weight_bytes += 4 * words;
      plan.blocks.push_back({kernels.conv(part.w, count, f.kernel_w, stride, secondary != nullptr, width),
                             part.x_offset, base, part.words, weights.begin(), scale, bias, factors});
      for (int dy = 0; dy < f.kernel_h; dy++)
        for (int word = 0; word < part.words; word++)
          for (int dx = 0; dx < f.kernel_w; dx++)
            for (int j = 0; j < lanes; j++)
              for (int b = 0; b < run; b++) {
                const int at = part.x_offset + (word * part.w + j % part.w) * run + b;
                weights.put(filter.at(f.number(out.channel(base + j), in.channel(at), dy, dx)));
              }
    }
  return plan;
}

ReducedPointwise plan_reduced_pointwise(const ReducedKernels& kernels, Arena& arena,
                                        const ReducedFilter& filter, const Layout& in, const Layout& out,
                                        int stride, int width, const Target& target) {
  const Filter& f = filter.filter();
  const int run = per_word(kernels.element);
  ReducedPointwise plan;
  plan.stride = stride;
  plan.epilogue = target.epilogue();
  const std::vector<Unit> units = sorted_units(f, out, kernels.pointwise_units);
  for (size_t done = 0; done < units.size();) {
    const int count = units_of_block(units, done, kernels.pointwise_units), split = units[done].split;
    const std::vector<Segment> segments = find_segments(f, in, units[done].groups, run * split);
    const size_t first = plan.inputs.size();
    for (const Segment& segment : segments)
      for (int k = segment.offset; k < segment.offset + segment.length; k += run * split)
        plan.inputs.push_back(k * bytes_of(kernels.element));
    const int steps = (int)(plan.inputs.size() - first);
    const size_t words = (size_t)steps * count * 16;
    WeightWriter weights(arena, kernels.element, words);
    float *scale = arena.take(count * 16), *bias = arena.take(count * 16);
    plan.weight_bytes += 4 * words;
    ReducedPointwise::Block block = {
        kernels.pointwise(split, count, width), (int)first, steps, {}, weights.begin(), scale, bias};
    for (int n = 0; n < count; n++) {
      block.offset[n] = units[done + n].offset;
      // Units 0 and 1 of a block of halves end in one vector.
      const int lanes = split == 2 && count > 1 && n == 0 ? 16 : 16 / split;
      for (int j = 0; j < 16; j++) {
        const int c = out.channel(block.offset[n] + j % lanes);
        if (c < 0) continue;
        scale[n * 16 + j] = filter.step(c) * target.unit(c);
        bias[n * 16 + j] = target.start(c) + filter.bias(c) * target.unit(c);
      }
    }
    for (int i = 0; i < steps; i++)
      for (int n = 0; n < count; n++)
        for (int j = 0; j < 16; j++)
          for (int b = 0; b < run; b++) {
            const int at = plan.inputs[first + i] / bytes_of(kernels.element) + j % split * run + b;
            weights.put(filter.at(f.number(out.channel(block.offset[n] + j / split), in.channel(at), 0, 0)));
          }
    plan.blocks.push_back(block);
    done += count;
  }
  return plan;
}

void run_reduced_conv(Element element, const ReducedConv& plan, Plane x, Plane y, Plane residual, int width,
                      int begin, int end) {
  const BytePlane from(x), to(y), added(residual);
  ReducedConvTask task = {};
  static_cast<OutputRows&>(task) = output_rows(to, added, width, plan.epilogue);
  task.x_row = plan.stride * from.row;
  task.x_line = from.row;
  task.x_step = plan.stride * from.pixel;
  task.x_tap = from.pixel;
  task.kernel_h = plan.kernel_h;
  task.kernel_w = plan.kernel_w;
  task.y_words = plan.y_words;
  task.r_words = plan.r_words;
  const uint8_t* corner = from.at - plan.pad_h * from.row - plan.pad_w * from.pixel;
  const int size = bytes_of(element), y_size = plan.epilogue.floats ? 4 : size;
  for (const ReducedConv::Block& block : plan.blocks) {
    task.x = corner + block.x_offset * size;
    task.words = block.words;
    task.weights = block.weights;
    task.scale = block.scale;
    task.bias = block.bias;
    task.secondary = block.secondary;
    task.y = to.at + block.y_offset * y_size;
    task.residual = added.at ? added.at + block.y_offset * size : nullptr;
    block.kernel(task, begin, end);
  }
}

void run_reduced_pointwise(const ReducedPointwise& plan, Plane x, Plane y, Plane residual, int width,
                           int begin, int end) {
  const BytePlane from(x), to(y), added(residual);
  ReducedPointwiseTask task = {};
  static_cast<OutputRows&>(task) = output_rows(to, added, width, plan.epilogue);
  task.x = from.at;
  task.x_row = plan.stride * from.row;
  task.x_pixel = plan.stride * from.pixel;
  for (const ReducedPointwise::Block& block : plan.blocks) {
    task.inputs = plan.inputs.data() + block.first;
    task.steps = block.steps;
    task.weights = block.weights;
    task.scale = block.scale;
    task.bias = block.bias;
    std::copy(block.offset, block.offset + 4, task.offset);
    block.kernel(task, begin, end);
  }
}

}  // namespace igc
