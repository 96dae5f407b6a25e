// run.cpp - carries out a planned network.
//
// A batch: one image per thread, through the whole network, depth first, in buffers of its own. Layer by layer over the
// batch would send every activation through main memory. A single image, or fewer images than threads: the rows
// of every step are split among the threads, with a barrier after each step.
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "net.h"

namespace igc {
namespace {

// Spins, for a step takes microseconds, and yields to other threads when it waits longer than that.
class Barrier {
 public:
  void wait(int threads) {
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.fetch_add(1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++)
      if (spins > 10000) std::this_thread::yield();
  }

 private:
  std::atomic<int> arrived_{0}, round_{0};
};

Plane plane_of(const Net& net, const Net::Context& context, int storage) {
  if (storage < 0) return {};
  const Storage& s = net.storages[storage];
  const Buffer& b = net.buffers[s.buffer];
  const ptrdiff_t pixel = b.pixel, row = (b.width + 2 * b.halo_w) * pixel;
  return {context.buffers[s.buffer].get() + b.halo_h * row + b.halo_w * pixel, row, pixel};
}

Plane from_row(Plane plane, ptrdiff_t row) {
  if (plane.at) plane.at += row * plane.row;
  return plane;
}

void run_rows(const Net& net, const Net::Context& context, const Step& step, int begin, int end, float* scratch) {
  const Plane x = plane_of(net, context, step.input), y = plane_of(net, context, step.output);
  const Plane residual = plane_of(net, context, step.residual);
  const Storage& in = net.storages[step.input];
  const int width = net.storages[step.output].width;
  switch (step.work) {
    case Work::Conv:
      return run_conv(step.conv, x, y, residual, width, begin, end);
    case Work::Mix:
      return run_mix(step.mix, x, y, residual, width, begin, end);
    case Work::ConvMix: {
      const Plane middle = {scratch, (ptrdiff_t)width * step.middle_pixel, step.middle_pixel};
      for (int first = begin; first < end; first += step.tile_rows) {
        const int rows = std::min(step.tile_rows, end - first);
        run_conv(step.conv, from_row(x, (ptrdiff_t)first * step.conv.stride), middle, {}, width, 0, rows);
        run_mix(step.mix, middle, from_row(y, first), from_row(residual, first), width, 0, rows);
      }
      return;
    }
    case Work::MaxPool: {
      const igc_op& op = step.pool;
      const PoolTask task = {x.at, x.row, x.pixel, y.at, y.row, y.pixel, in.height, in.width, width,
                             in.layout.positions, op.kernel_h, op.kernel_w, op.stride, op.pad_h, op.pad_w};
      return net.kernels->max_pool(task, begin, end);
    }
    case Work::MeanPool:
      return;  // by channels, see run_step
    case Work::Convert:
      for (int r = begin; r < end; r++)
        for (int c = 0; c < width; c++)
          for (size_t p = 0; p < step.source.size(); p++)
            y.at[r * y.row + c * y.pixel + p] = step.source[p] < 0 ? 0 : x.at[r * x.row + c * x.pixel + step.source[p]];
      return;
  }
}

void share(int total, int part, int parts, int& begin, int& end) {
  begin = (int)((int64_t)total * part / parts);
  end = (int)((int64_t)total * (part + 1) / parts);
}

// Thread `part` of `parts` that work on one image.
void run_image(const Net& net, const Net::Context& context, const float* x, float* y, int part, int parts, Barrier& barrier) {
  int begin, end;
  share(net.height, part, parts, begin, end);
  pack_rows(x, net.height, net.width, net.storages[net.input].layout, plane_of(net, context, net.input), begin, end);
  if (parts > 1) barrier.wait(parts);
  for (const Step& step : net.steps) {
    if (step.work == Work::MeanPool) {
      const Storage& in = net.storages[step.input];
      const Plane from = plane_of(net, context, step.input), to = plane_of(net, context, step.output);
      const PoolTask task = {from.at, from.row, from.pixel, to.at, 0, 0, in.height, in.width, 1, in.layout.positions, 0, 0, 0, 0, 0};
      share(in.layout.positions / 16, part, parts, begin, end);
      net.kernels->mean_pool(task, begin, end);
    } else {
      share(net.storages[step.output].height, part, parts, begin, end);
      run_rows(net, context, step, begin, end, context.scratch[part].get());
    }
    if (parts > 1) barrier.wait(parts);
  }
  const Storage& out = net.storages[net.output];
  share(out.height, part, parts, begin, end);
  unpack_rows(plane_of(net, context, net.output), net.output_layout, out.height, out.width, y, begin, end);
}

// A context from the net's store, given back when done.
class Borrowed {
 public:
  Borrowed(Net& net, int threads) : net_(net) {
    {
      std::lock_guard<std::mutex> lock(net.mutex);
      if (!net.idle.empty()) {
        context_ = std::move(net.idle.back());
        net.idle.pop_back();
      }
    }
    if (!context_) {
      context_ = std::make_unique<Net::Context>();
      for (const Buffer& buffer : net.buffers) context_->buffers.push_back(make_floats(buffer.floats()));
    }
    while ((int)context_->scratch.size() < threads) context_->scratch.push_back(make_floats(net.scratch_floats));
  }
  ~Borrowed() {
    std::lock_guard<std::mutex> lock(net_.mutex);
    try {
      net_.idle.push_back(std::move(context_));
    } catch (const std::bad_alloc&) {  // then it is freed and made again
    }
  }
  const Net::Context& operator*() const { return *context_; }

 private:
  Net& net_;
  std::unique_ptr<Net::Context> context_;
};

}  // namespace

void run_net(Net& net, const float* x, int64_t batch, float* y, int threads) {
  if (threads == 0) threads = omp_get_max_threads();
  const Storage& out = net.storages[net.output];
  const int64_t in_size = (int64_t)net.channels * net.height * net.width;
  const int64_t out_size = (int64_t)net.out_channels * out.height * out.width;
  Barrier barrier;
  if (batch >= threads) {
    std::vector<std::unique_ptr<Borrowed>> contexts;
    for (int i = 0; i < threads; i++) contexts.push_back(std::make_unique<Borrowed>(net, 1));
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t i = 0; i < batch; i++)
      run_image(net, **contexts[omp_get_thread_num()], x + i * in_size, y + i * out_size, 0, 1, barrier);
    return;
  }
  Borrowed context(net, threads);
#pragma omp parallel num_threads(threads)
  {
    const int parts = omp_get_num_threads();  // OpenMP may give fewer than were asked for
    for (int64_t i = 0; i < batch; i++) {
      run_image(net, *context, x + i * in_size, y + i * out_size, omp_get_thread_num(), parts, barrier);
      barrier.wait(parts);
    }
  }
}

}  // namespace igc
