// conv_plan.cpp - cuts a group convolution into blocks for conv.cpp and channelwise.cpp, and says where their
// weights lie.
#include <algorithm>

#include "convolution.h"

namespace igc {
namespace {

constexpr size_t kPassBytes = 128 << 10;

// The bias of passes before the secondary in registers.
const float kZeros[16 * 4] = {};

// One chunk of the layout: lane j of its output vectors belongs to group j % w, and so meets input position
// x_offset + m * w + j % w.
struct ChunkOfConv {
  int w, x_offset, inputs, y_offset, vectors;
};

// How many inputs one pass over the rows should take. The rows of taps and the weights of a pass should stay close
// from one row of outputs to the next; where that cannot be had with all inputs at once (many channels per group),
// a few passes add up in memory. Not where a row's last tile overlaps the one before: it would be added twice.
int inputs_per_pass(const Filter& filter, const ChunkOfConv& chunk, int vectors, int stride, int width,
                    int tile) {
  const size_t bytes = ((size_t)filter.kernel_h * (stride * width + filter.kernel_w) * chunk.w +
                        (size_t)filter.kernel_h * filter.kernel_w * vectors * 16) *
                       sizeof(float);
  if (width % tile) return chunk.inputs;
  const int passes = (int)((bytes * chunk.inputs + kPassBytes - 1) / kPassBytes);
  return std::max(4, (chunk.inputs + passes - 1) / passes);
}

void plan_chunk(ConvPlan& plan, const Kernels& kernels, const Filter& filter, const ChunkOfConv& chunk,
                int width) {
  const int most = kernels.conv_vectors(plan.kernel_w, plan.stride);
  size_t weights = 0, bias = 0;
  if (!plan.blocks.empty()) {
    weights = plan.blocks.back().weights + plan.blocks.back().floats;
    for (const ConvPlan::Block& block : plan.blocks) bias += block.first ? block.vectors * 16 : 0;
  }
  for (int done = 0, count; done < chunk.vectors; done += count) {
    count = balanced(chunk.vectors - done, most);
    int tile = 1;
    const bool channelwise = chunk.w == 16 && chunk.inputs == 1 && chunk.vectors == 1 && !plan.mixes &&
                             plan.kernel_h == 3 && plan.kernel_w == 3 && plan.stride <= 2;
    auto kernel = [&](bool mixes) {
      return channelwise ? kernels.channelwise(plan.stride, width)
                         : kernels.conv(chunk.w, count, plan.kernel_w, plan.stride, mixes, width, &tile);
    };
    kernel(false);
    const size_t lanes = count * 16, secondary = weights;
    if (plan.mixes) weights += 4 * lanes;
    const int pass = inputs_per_pass(filter, chunk, count, plan.stride, width, tile);
    for (int begin = 0; begin < chunk.inputs; begin += pass) {
      const int end = std::min(begin + pass, chunk.inputs);
      const bool last = end == chunk.inputs;
      const size_t size = plan.kernel_h * (end - begin) * plan.kernel_w * lanes;
      plan.weight_bytes += size * sizeof(float);
      plan.blocks.push_back({kernel(plan.mixes && last), chunk.w, count, chunk.x_offset + begin * chunk.w,
                             chunk.y_offset + done * 16, end - begin, begin == 0, last, weights, secondary,
                             size, plan.mixes && !last ? -1 : (ptrdiff_t)bias});
      weights += size;
    }
    bias += lanes;
  }
}

ConvPlan plan_for(const Filter& filter, bool mixes, int stride) {
  ConvPlan plan;
  plan.kernel_h = filter.kernel_h;
  plan.kernel_w = filter.kernel_w;
  plan.mixes = mixes;
  plan.stride = stride;
  return plan;
}

}  // namespace

ConvPlan plan_group_conv(const Kernels& kernels, const Filter& filter, bool mixes, const Layout& in,
                         const Layout& out, int stride, int width) {
  ConvPlan plan = plan_for(filter, mixes, stride);
  for (size_t i = 0; i < in.chunks.size(); i++) {
    const Chunk& from = in.chunks[i];
    const Chunk& to = out.chunks[i];
    const int vectors = (to.width * out.members + 15) / 16;
    plan_chunk(plan, kernels, filter, {from.width, from.offset, in.members, to.offset, vectors}, width);
  }
  return plan;
}

ConvPlan plan_dense_conv(const Kernels& kernels, const Filter& filter, const Layout& in, const Layout& out,
                         int stride, int width) {
  ConvPlan plan = plan_for(filter, false, stride);
  plan_chunk(plan, kernels, filter, {1, 0, in.positions, 0, out.positions / 16}, width);
  return plan;
}

Packing packing_of(const ConvPlan& plan, const Filter& filter, const Layout& in, const Layout& out,
                   const Filter* secondary) {
  Packing packing;
  for (const ConvPlan::Block& block : plan.blocks) {
    const int lanes = block.vectors * 16;
    const auto output = [&](int j) { return out.channel(block.y_offset + j); };
    if (block.first) {
      for (int j = 0; j < lanes; j++) packing.bias.push_back(output(j));
      for (int q = 0; plan.mixes && q < lanes; q += 16)
        for (int k = 0; k < 4; k++)
          for (int j = q; j < q + 16; j++) {
            const int32_t number = secondary->number(output(j), output(j / 4 * 4 + k), 0, 0);
            packing.weights.push_back(number < 0 ? -1 : filter.size() + number);
          }
    }
    for (int dy = 0; dy < plan.kernel_h; dy++)
      for (int m = 0; m < block.inputs; m++)
        for (int dx = 0; dx < plan.kernel_w; dx++)
          for (int j = 0; j < lanes; j++)
            packing.weights.push_back(
                filter.number(output(j), in.channel(block.x_offset + m * block.w + j % block.w), dy, dx));
  }
  return packing;
}

void run_conv(const ConvPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
              Prefetch* prefetch) {
  ConvTask task = {};
  task.x_row = plan.stride * x.row;
  task.x_line = x.row;
  task.x_step = plan.stride * x.pixel;
  task.x_tap = x.pixel;
  task.y_row = y.row;
  task.y_pixel = y.pixel;
  task.r_row = residual.row;
  task.r_pixel = residual.pixel;
  task.kernel_h = plan.kernel_h;
  task.kernel_w = plan.kernel_w;
  task.width = width;
  task.prefetch = prefetch;
  const float* corner = x.at - plan.pad_h * x.row - plan.pad_w * x.pixel;
  for (size_t i = 0; i < plan.blocks.size(); i++) {
    const ConvPlan::Block& block = plan.blocks[i];
    task.next = weights_after(plan, i);
    task.x = corner + block.x_offset;
    task.weights = plan.weights + block.weights;
    task.bias = block.bias < 0 ? kZeros : plan.bias + block.bias;
    task.secondary = plan.mixes ? plan.weights + block.secondary : nullptr;
    task.y = y.at + block.y_offset;
    task.residual = residual.at && block.last ? residual.at + block.y_offset : nullptr;
    task.activation = block.last ? plan.activation : kLinear;
    task.resume = !block.first;
    task.inputs = block.inputs;
    block.kernel(task, begin, end);
  }
}

}  // namespace igc
