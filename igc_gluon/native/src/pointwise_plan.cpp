// pointwise_plan.cpp - cuts a 1x1 product into units that share inputs for pointwise.cpp, and says where
// their weights lie.
#include "pointwise_plan.h"

#include <algorithm>
#include <map>

namespace igc {
namespace {

std::vector<int> groups_read(const Filter& filter, const Layout& out, int begin, int count) {
  std::vector<int> groups;
  for (int p = begin; p < begin + count; p++)
    if (out.channel(p) >= 0) groups.push_back(filter.group_of_output(out.channel(p)));
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
      for (int p = 0; p < 16; p += 16 / s)
        widest = std::max(widest, groups_read(filter, out, base + p, 16 / s).size());
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

// Where one or two whole vectors share their inputs, a half or more of the tile's lanes would wait for loads:
// halves give twice the units. (L = 16: 2 of 8 outputs; L = 24: 2 and the tail's 1.)
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

}  // namespace

std::vector<Unit> sorted_units(const Filter& filter, const Layout& out, int most) {
  std::vector<Unit> units = cut_units(filter, out);
  split_lonely(units, most);
  std::sort(units.begin(), units.end());
  return units;
}

int units_of_block(const std::vector<Unit>& units, size_t first, int most) {
  size_t sharing = 1;
  while (first + sharing < units.size() && units[first + sharing].shares(units[first])) sharing++;
  const int count = balanced((int)sharing, most);
  // The kernel stores units 0 and 1 of a block of halves as one vector.
  if (units[first].split == 2 && count > 1 && units[first + 1].offset != units[first].offset + 8) return 1;
  return count;
}

// Gaps of up to 3 are cheaper read than skipped.
std::vector<Segment> find_segments(const Filter& filter, const Layout& in, const std::vector<int>& groups,
                                   int step) {
  std::vector<Segment> segments;
  for (int p = 0; p < in.positions; p++) {
    const int c = in.channel(p);
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

size_t pointwise_work(const Kernels& kernels, const Filter& filter, const Layout& in, const Layout& out) {
  size_t work = 0;
  for (const Unit& unit : sorted_units(filter, out, kernels.pointwise_units))
    for (const Segment& segment : find_segments(filter, in, unit.groups, unit.split))
      work += segment.length / unit.split;
  return work;
}

PointwisePlan plan_pointwise(const Kernels& kernels, const Filter& filter, const Layout& in,
                             const Layout& out, int stride, int width) {
  PointwisePlan plan;
  plan.stride = stride;
  const std::vector<Unit> units = sorted_units(filter, out, kernels.pointwise_units);
  size_t weights = 0, bias = 0;
  for (size_t done = 0; done < units.size();) {
    const int split = units[done].split, count = units_of_block(units, done, kernels.pointwise_units);
    const std::vector<Segment> segments = find_segments(filter, in, units[done].groups, split);
    size_t inputs = 0;
    for (const Segment& segment : segments) inputs += segment.length;
    const size_t size = inputs / split * count * 16;
    PointwisePlan::Block block = {kernels.pointwise(split, count, width),
                                  (int)plan.segments.size(),
                                  (int)segments.size(),
                                  count,
                                  {},
                                  split,
                                  weights,
                                  size,
                                  (ptrdiff_t)bias};
    for (int n = 0; n < count; n++) block.offset[n] = units[done + n].offset;
    plan.segments.insert(plan.segments.end(), segments.begin(), segments.end());
    plan.blocks.push_back(block);
    weights += size;
    bias += count * 16;
    done += count;
  }
  plan.weight_bytes = weights * sizeof(float);
  return plan;
}

Packing packing_of(const PointwisePlan& plan, const Filter& filter, const Layout& in, const Layout& out,
                   const Filter*) {
  Packing packing;
  for (const PointwisePlan::Block& block : plan.blocks) {
    const int split = block.split;
    const auto output = [&](int n, int j) { return out.channel(block.offset[n] + j / split); };
    for (int n = 0; n < block.n; n++)
      for (int j = 0; j < 16; j++) packing.bias.push_back(j % split ? -1 : output(n, j));
    for (int s = block.first_segment; s < block.first_segment + block.n_segments; s++) {
      const Segment& segment = plan.segments[s];
      for (int k = segment.offset; k < segment.offset + segment.length; k += split)
        for (int n = 0; n < block.n; n++)
          for (int j = 0; j < 16; j++)
            packing.weights.push_back(filter.number(output(n, j), in.channel(k + j % split), 0, 0));
    }
  }
  return packing;
}

void run_pointwise(const PointwisePlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
                   Prefetch* prefetch) {
  PointwiseTask task = {};
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
  task.prefetch = prefetch;
  for (size_t i = 0; i < plan.blocks.size(); i++) {
    const PointwisePlan::Block& block = plan.blocks[i];
    task.next = weights_after(plan, i);
    task.segments = plan.segments.data() + block.first_segment;
    task.n_segments = block.n_segments;
    task.weights = plan.weights + block.weights;
    task.bias = plan.bias + block.bias;
    std::copy(block.offset, block.offset + 4, task.offset);
    block.kernel(task, begin, end);
  }
}

}  // namespace igc
