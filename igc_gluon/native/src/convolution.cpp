#include "convolution.h"

#include <algorithm>
#include <map>

namespace igc {
namespace {

constexpr size_t kPassFrom = 96 << 10, kPassBytes = 32 << 10;

// Where all weights do not stay in L2, those of the next block are fetched while this one is in use.
constexpr size_t kBeyondL2 = 512 << 10;

// The bias of passes before the secondary in registers.
const float kZeros[16 * 4] = {};

// The size of the next block when n things are cut into the fewest blocks of at most `most`, as equal as can be.
int balanced(int left, int most) {
  const int blocks = (left + most - 1) / most;
  return (left + blocks - 1) / blocks;
}

int channel(const Layout& layout, int position) {
  return position >= 0 && position < layout.positions ? layout.channel_at[position] : -1;
}

// One chunk of the layout: lane j of its output vectors belongs to group j % w, and so meets input position
// x_offset + m * w + j % w.
struct ChunkOfConv {
  int w, x_offset, inputs, y_offset, vectors;
};

// How many inputs one pass over the rows should take. All rows of taps and the weights of a pass should stay in
// L1 from one row of outputs to the next; where that cannot be had with all inputs at once (many channels per group), a
// few passes add up in memory. Not where a row's last tile overlaps the one before: it would be added twice.
int inputs_per_pass(const Filter& filter, const ChunkOfConv& chunk, int vectors, int stride, int width, int tile) {
  const size_t bytes = ((size_t)filter.kernel_h * (stride * width + filter.kernel_w) * chunk.w +
                        (size_t)filter.kernel_h * filter.kernel_w * vectors * 16) * sizeof(float);
  if (bytes * chunk.inputs <= kPassFrom || width % tile) return chunk.inputs;
  const int passes = (int)((bytes * chunk.inputs + kPassBytes - 1) / kPassBytes);
  return std::max(4, (chunk.inputs + passes - 1) / passes);
}

void pack_chunk(ConvPlan& plan, const Kernels& kernels, Arena& arena, const Filter& filter, const Filter* secondary,
                const Layout& in, const Layout& out, const ChunkOfConv& chunk, int width) {
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
    for (int j = 0; j < lanes; j++) bias[j] = (secondary ? secondary : &filter)->bias_of(channel(out, base + j));
    for (int j = 0; mixing && j < lanes; j++)
      for (int k = 0; k < 4; k++)
        mixing[j / 16 * 64 + k * 16 + j % 16] =
            secondary->at(channel(out, base + j), channel(out, base + j / 4 * 4 + k), 0, 0);
    const int pass = inputs_per_pass(filter, chunk, count, plan.stride, width, tile);
    for (int begin = 0; begin < chunk.inputs; begin += pass) {
      const int end = std::min(begin + pass, chunk.inputs);
      const bool first = begin == 0, last = end == chunk.inputs;
      const size_t size = (size_t)filter.kernel_h * (end - begin) * filter.kernel_w * lanes;
      float* weights = arena.take(size);
      plan.weight_bytes += size * sizeof(float);
      plan.blocks.push_back({kernel(secondary && last), chunk.x_offset + begin * chunk.w, base, end - begin,
                             filter.kernel_w, first, last, weights, secondary && !last ? kZeros : bias, mixing, (int)size});
      for (int dy = 0; dy < filter.kernel_h; dy++)
        for (int m = begin; m < end; m++)
          for (int dx = 0; dx < filter.kernel_w; dx++)
            for (int j = 0; j < lanes; j++)
              *weights++ =
                  filter.at(channel(out, base + j), channel(in, chunk.x_offset + m * chunk.w + j % chunk.w), dy, dx);
    }
  }
}

// A run of output positions whose channels all read the same groups of inputs.
struct Unit {
  int offset, split;        // split: S of mix.cpp; 16 / S positions
  std::vector<int> groups;  // sorted
  bool operator<(const Unit& other) const {
    return split != other.split ? split < other.split : groups != other.groups ? groups < other.groups : offset < other.offset;
  }
  bool shares(const Unit& other) const { return split == other.split && groups == other.groups; }
};

std::vector<int> groups_read(const Filter& filter, const Layout& out, int begin, int count) {
  std::vector<int> groups;
  for (int p = begin; p < begin + count; p++)
    if (channel(out, p) >= 0) groups.push_back(filter.group_of_output(channel(out, p)));
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  return groups;
}

// Whole vectors where their channels share inputs, halves or quarters where only those do.
std::vector<Unit> cut_units(const Filter& filter, const Layout& out) {
  std::vector<Unit> units;
  for (int base = 0; base < out.positions; base += 16) {
    const std::vector<int> whole = groups_read(filter, out, base, 16);
    int split = 1;
    for (int s = 1; s <= 4; s *= 2) {
      size_t widest = 0;
      for (int p = 0; p < 16; p += 16 / s) widest = std::max(widest, groups_read(filter, out, base + p, 16 / s).size());
      if (widest <= 1) {
        split = s;
        break;
      }
    }
    if (whole.empty()) continue;  // padding: stays at the zero it was given
    for (int p = 0; p < 16; p += 16 / split) {
      const std::vector<int> part = groups_read(filter, out, base + p, 16 / split);
      if (!part.empty()) units.push_back({base + p, split, part});
    }
  }
  return units;
}

// Where one or two whole vectors share their inputs, a half or more of the tile's lanes would wait for loads: halves
// give twice the units. (L = 16: 2 of 8 outputs; L = 24: 2 and the tail's 1.)
void split_lonely(std::vector<Unit>& units, int most) {
  std::map<std::vector<int>, int> wholes;
  for (const Unit& unit : units)
    if (unit.split == 1) wholes[unit.groups]++;
  std::vector<Unit> result;
  for (const Unit& unit : units) {
    if (unit.split == 1 && unit.groups.size() == 1 && wholes[unit.groups] == 1 && most >= 2) {
      result.push_back({unit.offset, 2, unit.groups});
      result.push_back({unit.offset + 8, 2, unit.groups});
    } else {
      result.push_back(unit);
    }
  }
  units = result;
}

// The input positions of these groups, as runs of multiples of `step`. Gaps of up to 3 are cheaper read than skipped.
std::vector<Segment> find_segments(const Filter& filter, const Layout& in, const std::vector<int>& groups, int step) {
  std::vector<Segment> segments;
  for (int p = 0; p < in.positions; p++) {
    const int c = channel(in, p);
    if (c < 0 || !std::binary_search(groups.begin(), groups.end(), filter.group_of_input(c))) continue;
    const int begin = p / step * step;
    if (!segments.empty() && begin <= segments.back().offset + segments.back().length + 3) {
      segments.back().length = std::max(segments.back().length, begin + step - segments.back().offset);
    } else {
      segments.push_back({begin, step});
    }
  }
  return segments;
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
  pack_chunk(plan, kernels, arena, filter, nullptr, in, out, {1, 0, in.positions, 0, out.positions / 16}, width);
  return plan;
}

size_t mix_work(const Kernels& kernels, const Filter& filter, const Layout& in, const Layout& out) {
  std::vector<Unit> units = cut_units(filter, out);
  split_lonely(units, kernels.mix_units);
  size_t work = 0;
  for (const Unit& unit : units)
    for (const Segment& segment : find_segments(filter, in, unit.groups, unit.split)) work += segment.length / unit.split;
  return work;
}

MixPlan plan_mix(const Kernels& kernels, Arena& arena, const Filter& filter, const Layout& in, const Layout& out,
                 int stride, int width) {
  MixPlan plan;
  plan.stride = stride;
  std::vector<Unit> units = cut_units(filter, out);
  split_lonely(units, kernels.mix_units);
  std::sort(units.begin(), units.end());
  for (size_t done = 0; done < units.size();) {
    const Unit& first = units[done];
    const int split = first.split;
    size_t sharing = 1;
    while (done + sharing < units.size() && units[done + sharing].shares(first)) sharing++;
    int count = balanced((int)sharing, kernels.mix_units);
    // The kernel stores units 0 and 1 of a block of halves as one vector.
    if (split == 2 && count > 1 && units[done + 1].offset != first.offset + 8) count = 1;
    const std::vector<Segment> segments = find_segments(filter, in, first.groups, split);
    size_t inputs = 0;
    for (const Segment& segment : segments) inputs += segment.length;
    const size_t size = inputs / split * count * 16;
    float* weights = arena.take(size + 1024);  // the kernel asks for some that lie behind the last
    float* bias = arena.take(count * 16);
    plan.weight_bytes += size * sizeof(float);
    MixPlan::Block block = {kernels.mix(split, count, width), (int)plan.segments.size(), (int)segments.size(), count, {}, weights, bias};
    for (int n = 0; n < count; n++) {
      block.offset[n] = units[done + n].offset;
      for (int j = 0; j < 16; j += split) bias[n * 16 + j] = filter.bias_of(channel(out, block.offset[n] + j / split));
    }
    for (const Segment& segment : segments)
      for (int k = segment.offset; k < segment.offset + segment.length; k += split)
        for (int n = 0; n < count; n++)
          for (int j = 0; j < 16; j++)
            *weights++ = filter.at(channel(out, block.offset[n] + j / split), channel(in, k + j % split), 0, 0);
    plan.segments.insert(plan.segments.end(), segments.begin(), segments.end());
    plan.blocks.push_back(block);
    done += count;
  }
  return plan;
}

void run_conv(const ConvPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end) {
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
  const float* corner = x.at - plan.pad_h * x.row - plan.pad_w * x.pixel;
  for (size_t i = 0; i < plan.blocks.size(); i++) {
    const ConvPlan::Block& block = plan.blocks[i];
    const bool ask = plan.weight_bytes > kBeyondL2 && i + 1 < plan.blocks.size();
    task.next = ask ? plan.blocks[i + 1].weights : nullptr;
    task.next_floats = ask ? plan.blocks[i + 1].floats : 0;
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

void run_mix(const MixPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end) {
  MixTask task = {};
  task.x = x.at;
  task.x_row = plan.stride * x.row;
  task.x_pixel = plan.stride * x.pixel;
  task.y = y.at;
  task.y_row = y.row;
  task.y_pixel = y.pixel;
  task.residual = residual.at;
  task.r_row = residual.row;
  task.r_pixel = residual.pixel;
  task.width = width;
  task.activation = plan.activation;
  for (const MixPlan::Block& block : plan.blocks) {
    task.segments = plan.segments.data() + block.first_segment;
    task.n_segments = block.n_segments;
    task.weights = block.weights;
    task.bias = block.bias;
    std::copy(block.offset, block.offset + 4, task.offset);
    block.kernel(task, begin, end);
  }
}

}  // namespace igc
