// conv_plan.cpp - cuts a group convolution into blocks for conv.cpp and channelwise.cpp, and packs their
// weights.
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

void pack_chunk(ConvPlan& plan, const Kernels& kernels, Arena& arena, const Filter& filter,
                const Filter* secondary, const Layout& in, const Layout& out, const ChunkOfConv& chunk,
                int width) {
  const int most = kernels.conv_vectors(filter.kernel_w, plan.stride);
  for (int done = 0, count; done < chunk.vectors; done += count) {
    count = balanced(chunk.vectors - done, most);
    const int base = chunk.y_offset + done * 16, lanes = count * 16;
    int tile = 1;
    const bool channelwise = chunk.w == 16 && chunk.inputs == 1 && chunk.vectors == 1 && !secondary &&
                             filter.kernel_h == 3 && filter.kernel_w == 3 && plan.stride <= 2;
    auto kernel = [&](bool mixes) {
      return channelwise ? kernels.channelwise(plan.stride, width)
                         : kernels.conv(chunk.w, count, filter.kernel_w, plan.stride, mixes, width, &tile);
    };
    kernel(false);
    float* bias = arena.take(lanes);
    float* mixing = secondary ? arena.take(4 * lanes) : nullptr;
    for (int j = 0; j < lanes; j++)
      bias[j] = (secondary ? secondary : &filter)->bias_of(out.channel(base + j));
    for (int j = 0; mixing && j < lanes; j++)
      for (int k = 0; k < 4; k++)
        mixing[j / 16 * 64 + k * 16 + j % 16] =
            secondary->at(out.channel(base + j), out.channel(base + j / 4 * 4 + k), 0, 0);
    const int pass = inputs_per_pass(filter, chunk, count, plan.stride, width, tile);
    for (int begin = 0; begin < chunk.inputs; begin += pass) {
      const int end = std::min(begin + pass, chunk.inputs);
      const bool first = begin == 0, last = end == chunk.inputs;
      const size_t size = (size_t)filter.kernel_h * (end - begin) * filter.kernel_w * lanes;
      float* weights = arena.take(size);
      plan.weight_bytes += size * sizeof(float);
      plan.blocks.push_back({kernel(secondary && last), chunk.x_offset + begin * chunk.w, base, end - begin,
                             filter.kernel_w, first, last, weights, secondary && !last ? kZeros : bias,
                             mixing, (int)size});
      for (int dy = 0; dy < filter.kernel_h; dy++)
        for (int m = begin; m < end; m++)
          for (int dx = 0; dx < filter.kernel_w; dx++)
            for (int j = 0; j < lanes; j++)
              *weights++ = filter.at(out.channel(base + j),
                                     in.channel(chunk.x_offset + m * chunk.w + j % chunk.w), dy, dx);
    }
  }
}

}  // namespace

ConvPlan plan_group_conv(const Kernels& kernels, Arena& arena, const Filter& filter, const Filter* secondary,
                         const Layout& in, const Layout& out, int stride, int width) {
  ConvPlan plan;
  plan.kernel_h = filter.kernel_h;
  plan.stride = stride;
  for (size_t i = 0; i < in.chunks.size(); i++) {
    const Chunk& from = in.chunks[i];
    const Chunk& to = out.chunks[i];
    const int vectors = (to.width * out.members + 15) / 16;
    pack_chunk(plan, kernels, arena, filter, secondary, in, out,
               {from.width, from.offset, in.members, to.offset, vectors}, width);
  }
  return plan;
}

ConvPlan plan_dense_conv(const Kernels& kernels, Arena& arena, const Filter& filter, const Layout& in,
                         const Layout& out, int stride, int width) {
  ConvPlan plan;
  plan.kernel_h = filter.kernel_h;
  plan.stride = stride;
  pack_chunk(plan, kernels, arena, filter, nullptr, in, out, {1, 0, in.positions, 0, out.positions / 16},
             width);
  return plan;
}

void run_conv(const ConvPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
              Coming* coming) {
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
  task.width = width;
  task.coming = coming;
  const float* corner = x.at - plan.pad_h * x.row - plan.pad_w * x.pixel;
  for (size_t i = 0; i < plan.blocks.size(); i++) {
    const ConvPlan::Block& block = plan.blocks[i];
    task.next = weights_after(plan, i);
    task.x = corner + block.x_offset;
    task.weights = block.weights;
    task.bias = block.bias;
    task.secondary = block.secondary;
    task.y = y.at + block.y_offset;
    task.residual = residual.at && block.last ? residual.at + block.y_offset : nullptr;
    task.activation = block.last ? plan.activation : kLinear;
    task.resume = !block.first;
    task.kernel_w = block.kernel_w;
    task.inputs = block.inputs;
    block.kernel(task, begin, end);
  }
}

}  // namespace igc
