// run.cpp - carries out a planned network.
//
// A batch: one image per thread, through the whole network, depth first, in buffers of its own. Layer by
// layer over the batch would send every activation through main memory. A single image, or fewer images than
// threads: the rows of every step are shared among the threads. Which thread computes what never changes a
// result.
#include <algorithm>
#include <cstring>

#include "net.h"
#include "thread_pool.h"

namespace igc {
namespace {

Plane plane_of(const Plan& plan, const Workspace& workspace, int storage) {
  if (storage < 0) return {};
  const Storage& s = plan.storages[storage];
  const Buffer& b = plan.buffers[s.buffer];
  const ptrdiff_t pixel = b.pixel, row = (b.width + 2 * b.halo_w) * pixel;
  return {workspace.buffers[s.buffer].get() + b.halo_h * row + b.halo_w * pixel, row, pixel};
}

// What the tile after this one will touch, of images that do not stay in L2.
Prefetch prefetch_of(const Step& step, Plane x, Plane y, Plane residual, int first, int end) {
  const int rows = std::min(step.tile_rows, end - first), stride = step.conv.stride;
  if (rows <= 0 || (size_t)(end * stride * x.row + end * y.row) * sizeof(float) < 2 * kBeyondL2) return {};
  const float* const read = x.at + (first * stride + step.conv.kernel_h - 1 - step.conv.pad_h) * x.row;
  Prefetch prefetch;
  prefetch.add(read, rows * stride * x.row);
  prefetch.add(y.at + first * y.row, rows * y.row);
  if (residual.at) prefetch.add(residual.at + first * residual.row, rows * residual.row);
  return prefetch;
}

void run_rows(const Plan& plan, const Workspace& workspace, const Step& step, int begin, int end,
              float* scratch) {
  const Plane x = plane_of(plan, workspace, step.input), y = plane_of(plan, workspace, step.output);
  const Plane residual = plane_of(plan, workspace, step.residual);
  const Storage& in = plan.storages[step.input];
  const int width = plan.storages[step.output].width;
  switch (step.work) {
    case Work::Pointwise:
      return run_pointwise(step.pointwise, x, y, residual, width, begin, end);
    case Work::Conv:
    case Work::ConvPointwise:
      for (int first = begin; first < end; first += step.tile_rows) {
        const int rows = std::min(step.tile_rows, end - first);
        Prefetch prefetch = prefetch_of(step, x, y, residual, first + rows, end);
        const Plane from = from_row(x, (ptrdiff_t)first * step.conv.stride), to = from_row(y, first),
                    sum = from_row(residual, first);
        if (step.work == Work::Conv) {
          run_conv(step.conv, from, to, sum, width, 0, rows, &prefetch);
          continue;
        }
        const Plane middle = {scratch, (ptrdiff_t)width * step.middle_pixel, step.middle_pixel};
        run_conv(step.conv, from, middle, {}, width, 0, rows, &prefetch);
        run_pointwise(step.pointwise, middle, to, sum, width, 0, rows, &prefetch);
      }
      return;
    case Work::ReducedConv:
    case Work::ReducedPointwise:
    case Work::ReducedConvPointwise:
    case Work::ConvReducedPointwise:
    case Work::AmxBlock:
      return run_reduced_rows(*plan.reduced, step, x, y, residual, width, begin, end, scratch);
    case Work::Reduce:
    case Work::Widen:
    case Work::MakeWords:
    case Work::Reorder:
      return convert_rows(*plan.reduced, step, in.layout.positions, x, y, width, begin, end);
    case Work::MaxPool:
      return plan.kernels->max_pool(
          pool_task(step.pool, x, {0, in.height, in.width}, y, width, in.layout.positions), begin, end);
    case Work::MeanPool:
      return;  // by channels, see run_step
    case Work::Convert:
      for (int r = begin; r < end; r++)
        reorder(x.at + r * x.row, x.pixel, step.source, y.at + r * y.row, y.pixel, width);
      return;
  }
}

// Part `part` of `parts` of step `index`; before the first step the image is packed, after the last one
// unpacked.
void run_part(const Plan& plan, const Workspace& workspace, const float* x, float* y, size_t index, int part,
              int parts, float* scratch) {
  auto bound = [&](int total, int i) { return (int)((int64_t)total * i / parts); };
  auto call = [&](int total, auto work) { work(bound(total, part), bound(total, part + 1)); };
  if (index == 0) {
    call(plan.height, [&](int begin, int end) {
      pack_rows(x, plan.height, plan.width, plan.storages[plan.input].layout,
                plane_of(plan, workspace, plan.input), begin, end);
    });
  } else if (index == plan.steps.size() + 1) {
    const Storage& out = plan.storages[plan.output];
    call(out.height, [&](int begin, int end) {
      unpack_rows(plane_of(plan, workspace, plan.output), plan.output_layout, out.height, out.width, y, begin,
                  end);
    });
  } else {
    const Step& step = plan.steps[index - 1];
    const Storage& in = plan.storages[step.input];
    if (step.work ==
        Work::MeanPool) {  // shared by channels: a sum over rows would depend on the number of threads
      const Plane from = plane_of(plan, workspace, step.input), to = plane_of(plan, workspace, step.output);
      const PoolTask task = pool_task({}, from, {0, in.height, in.width}, to, 1, 0);
      call(in.layout.positions / 16, [&](int begin, int end) { plan.kernels->mean_pool(task, begin, end); });
    } else {
      call(plan.storages[step.output].height,
           [&](int begin, int end) { run_rows(plan, workspace, step, begin, end, scratch); });
    }
  }
}

void run_image(const Plan& plan, const Workspace& workspace, const float* x, float* y) {
  for (size_t i = 0; i < plan.steps.size() + 2; i++)
    run_part(plan, workspace, x, y, i, 0, 1, workspace.scratch[0].get());
}

// A workspace of the net's, given back when done.
class Borrowed {
 public:
  Borrowed(Net& net, int threads) : net_(net) {
    {
      std::lock_guard<std::mutex> lock(fork_safe_mutex());
      if (!net.idle.empty()) {
        workspace_ = std::move(net.idle.back());
        net.idle.pop_back();
      }
    }
    if (!workspace_) {
      workspace_ = std::make_unique<Workspace>();
      for (const Buffer& buffer : net.plan->buffers) {
        workspace_->buffers.push_back(make_floats(buffer.floats()));
        if (buffer.fill)
          std::memset(workspace_->buffers.back().get(), buffer.fill, buffer.floats() * sizeof(float));
      }
    }
    while ((int)workspace_->scratch.size() < threads)
      workspace_->scratch.push_back(make_floats(net.plan->scratch_floats));
  }
  ~Borrowed() {
    std::lock_guard<std::mutex> lock(fork_safe_mutex());
    try {
      net_.idle.push_back(std::move(workspace_));
    } catch (const std::bad_alloc&) {  // then it is freed and made again
    }
  }
  const Workspace& operator*() const { return *workspace_; }

 private:
  Net& net_;
  std::unique_ptr<Workspace> workspace_;
};

template <class T>
size_t bytes_in(const std::vector<T>& vector) {
  return vector.capacity() * sizeof(T);
}
size_t bytes_in(const Layout& layout) { return bytes_in(layout.chunks) + bytes_in(layout.channel_at); }

}  // namespace

size_t Weights::bytes() const {
  size_t bytes = 0;
  for (const auto& [key, known] : packed_) {
    const auto packed = known.lock();
    bytes += bytes_in(key) + (packed ? packed->bytes : 0);
  }
  return bytes;
}

size_t Plan::buffer_floats() const {
  size_t floats = 0;
  for (const Buffer& buffer : buffers) floats += buffer.floats();
  return floats;
}

size_t Plan::bytes() const {
  size_t bytes = sizeof(Plan) + arena.bytes() + bytes_in(packed) + bytes_in(storages) + bytes_in(buffers) +
                 bytes_in(steps);
  for (const Storage& storage : storages) bytes += bytes_in(storage.layout);
  for (const Step& step : steps)
    bytes += bytes_in(step.conv.blocks) + bytes_in(step.pointwise.blocks) +
             bytes_in(step.pointwise.segments) + bytes_in(step.reduced_conv.blocks) +
             bytes_in(step.reduced_pointwise.blocks) + bytes_in(step.reduced_pointwise.inputs) +
             bytes_in(step.amx.blocks) + bytes_in(step.amx.inputs) + bytes_in(step.mix.blocks) +
             bytes_in(step.mix.inputs) + bytes_in(step.source) + bytes_in(step.from) + bytes_in(step.to);
  return bytes;
}

size_t Net::bytes() const {
  size_t floats = idle.size() * plan->buffer_floats();
  for (const auto& workspace : idle) floats += workspace->scratch.size() * plan->scratch_floats;
  return plan->bytes() + floats * sizeof(float);
}

void run_net(Net* net, const float* x, int64_t batch, float* y, int threads) {
  require(net, "net is null");
  require(batch >= 0 && batch <= ((int64_t)1 << 31), "batch must be 0 to 2^31");
  require(threads >= 0 && threads <= kMostThreads, "threads must be 0 to 1024");
  if (batch == 0) return;
  require(x && y, "x or y is null");
  const FlushDenormals flush;
  const Plan& plan = *net->plan;
  const int team = team_size(threads ? threads : default_threads());
  const Storage& out = plan.storages[plan.output];
  const int64_t in_size = (int64_t)plan.channels * plan.height * plan.width;
  const int64_t out_size = (int64_t)plan.out_channels * out.height * out.width;
  if (batch >= team) {
    std::vector<std::unique_ptr<Borrowed>> workspaces;
    for (int i = 0; i < team; i++) workspaces.push_back(std::make_unique<Borrowed>(*net, 1));
    parallel(team, batch, [&](int slot, int64_t i) {
      run_image(plan, **workspaces[slot], x + i * in_size, y + i * out_size);
    });
    return;
  }
  Borrowed workspace(*net, team);
  const size_t per_image = plan.steps.size() + 2;
  for (int64_t image = 0; image < batch; image++)
    parallel_phases(team, per_image, team, [&](int slot, int64_t phase, int64_t part) {
      run_part(plan, *workspace, x + image * in_size, y + image * out_size, phase, (int)part, team,
               (*workspace).scratch[slot].get());
    });
}

}  // namespace igc
