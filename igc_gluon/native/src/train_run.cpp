// train_run.cpp - carries out a training step: layer by layer over the batch, images shared among threads.
//
// An image goes through a layer in tiles of some rows, through all passes of the layer, so that a tile stays in the
// first caches. Sums over the batch (statistics, gradients of weights) are kept for each slice of images and added
// up in the order of slices, so that the result does not depend on which thread did what.
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "train.h"

namespace igc {
namespace {

constexpr int kSlicesPerThread = 4;             // so that a thread that is held up does not hold up the others
constexpr size_t kLargeWeights = (size_t)1 << 17;  // floats; from here on one slice for each thread

ptrdiff_t row_floats(const TrainShape& shape, const Layout& layout) { return (ptrdiff_t)shape.width * layout.positions; }
ptrdiff_t image_floats(const TrainShape& shape, const Layout& layout) { return shape.height * row_floats(shape, layout); }

void share(int64_t total, int part, int parts, int64_t& begin, int64_t& end) {
  begin = total * part / parts;
  end = total * (part + 1) / parts;
}

// An image with a border, zeroed as a whole, in `memory`.
Plane bordered(float* memory, const TrainShape& shape, int positions, int border) {
  const ptrdiff_t row = (ptrdiff_t)(shape.width + 2 * border) * positions;
  std::fill(memory, memory + (shape.height + 2 * border) * row, 0.0f);
  return {memory + border * row + (ptrdiff_t)border * positions, row, positions};
}

Plane from_row(Plane plane, ptrdiff_t row) {
  plane.at += row * plane.row;
  return plane;
}

void add_to(std::vector<double>& total, const float* more, int count) {
  for (int c = 0; c < count; c++) total[c] += more[c];
}

// Activations of a batch come from memory. What the next tile reads is asked for while this one is computed, a share
// after each of its passes, because only so many requests are under way at a time.
class Ahead {
 public:
  void add(const float* at, ptrdiff_t floats) { streams_[count_++] = {at, floats / 16}; }
  void ask(int part, int parts) const {
    for (int s = 0; s < count_; s++)
      for (ptrdiff_t line = streams_[s].lines * part / parts; line < streams_[s].lines * (part + 1) / parts; line++)
        __builtin_prefetch(streams_[s].at + 16 * line, 0, 2);
  }

 private:
  struct Stream {
    const float* at;
    ptrdiff_t lines;
  };
  Stream streams_[6];
  int count_ = 0;
};

class Pass {
 public:
  Pass(TrainNet& net, const float* x, int threads) : net_(net), train_(*net.train), x_(x), threads_(threads) {}

  void reserve(int64_t batch) {
    net_.batch = batch;
    if (batch > net_.capacity || !net_.memory) {
      net_.memory.reset();
      net_.capacity = 0;
      size_t total = 0;
      for (const TrainLayer& layer : net_.layers)
        total += image_floats(layer.out, layer.layout) * (layer.keeps_middle ? 2 : 1);
      for (const TrainValue& value : net_.values) total += value.kept ? image_floats(value.shape, value.layout) : 0;
      for (size_t floats : net_.gradient_floats) total += floats;
      net_.memory = make_floats(total * batch);
      float* at = net_.memory.get();
      auto take = [&](size_t floats) {
        float* result = at;
        at += floats * batch;
        return result;
      };
      for (TrainLayer& layer : net_.layers) {
        layer.u = take(image_floats(layer.out, layer.layout));
        if (layer.keeps_middle) layer.kept = take(image_floats(layer.out, layer.layout));
      }
      for (TrainValue& value : net_.values)
        if (value.kept) value.stored = take(image_floats(value.shape, value.layout));
      net_.gradient_memory.clear();
      for (size_t floats : net_.gradient_floats) net_.gradient_memory.push_back(take(floats));
      net_.capacity = batch;
    }
    while ((int)net_.scratch.size() < threads_)
      net_.scratch.push_back({make_floats(net_.x_floats), make_floats(net_.d_floats), make_floats(net_.middle_floats),
                              make_floats(net_.middle_floats), make_floats(net_.back_floats), make_floats(3 * net_.sum_floats)});
    const int per_thread = threads_ == 1 || net_.packed_floats >= kLargeWeights ? 1 : kSlicesPerThread;
    n_slices_ = (int)std::min<int64_t>(batch, threads_ * per_thread);
    while ((int)net_.slices.size() < n_slices_) {
      TrainSlice slice;
      slice.sum.resize(net_.sum_floats);
      slice.dot.resize(net_.sum_floats);
      slice.dot2.resize(net_.sum_floats);
      slice.shift = make_floats(net_.sum_floats);
      slice.weights = make_floats(net_.packed_floats);
      net_.slices.push_back(std::move(slice));
    }
  }

  void pack(const float* const* parameters) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
    for (size_t i = 0; i < net_.layers.size(); i++) {
      TrainLayer& layer = net_.layers[i];
      const float* const* p = parameters + layer.parameter;
      const float *weight = p[0], *secondary = layer.block ? p[1] : p[0], *gamma = p[layer.block ? 2 : 1];
      layer.conv_weights.pack(weight, layer.weight_size, nullptr);
      layer.conv_back_weights.pack(weight, layer.weight_size, nullptr);
      layer.whole_weights.pack(weight, layer.weight_size, secondary);
      const size_t count = layer.block ? layer.secondary_size : layer.weight_size;
      layer.mix_weights.pack(secondary, count, nullptr);
      layer.mix_back_weights.pack(secondary, count, nullptr);
      layer.fours_weights.pack(secondary, count, nullptr);
      for (int k = 0; k < layer.layout.positions; k++)
        if (layer.layout.channel_at[k] >= 0) layer.gamma[k] = gamma[layer.layout.channel_at[k]];
    }
  }

  void forward_layer(TrainLayer& layer, const float* beta, float* mean, float* variance) {
    over_slices([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
      forward_slice(layer, slice, scratch, begin, end);
    });
    normalise(layer, beta, mean, variance);
  }

  void pool(float* y) {
    const TrainValue& value = net_.values.back();
    const int positions = value.layout.positions;
    over_slices([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
      const Plane row = {scratch.x.get(), 0, positions};
      for (int64_t n = begin; n < end; n++) {
        std::fill(slice.sum.begin(), slice.sum.end(), 0.0);
        for (int r = 0; r < value.shape.height; r++) {
          fill((int)net_.values.size() - 1, true, n, row, r, r + 1);
          for (int i = 0; i < value.shape.width; i++) add_to(slice.sum, row.at + i * positions, positions);
        }
        for (int p = 0; p < positions; p++)
          if (value.layout.channel_at[p] >= 0)
            y[n * value.shape.channels + value.layout.channel_at[p]] = (float)(slice.sum[p] / ((double)value.shape.height * value.shape.width));
      }
    });
  }

  void pool_back(const float* dy, float* const* gradients) {
    const int last = (int)net_.values.size() - 1;
    const TrainValue& value = net_.values[last];
    const ptrdiff_t row = row_floats(value.shape, value.layout);
    const int positions = value.layout.positions;
    over_slices([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
      clear_sums(slice);
      const float scale = 1.0f / ((float)value.shape.height * (float)value.shape.width);
      for (int64_t n = begin; n < end; n++) {
        for (ptrdiff_t i = 0; i < row; i++) {
          const int channel = value.layout.channel_at[i % positions];
          scratch.result[i] = channel < 0 ? 0 : dy[n * value.shape.channels + channel] * scale;
        }
        for (int r = 0; r < value.shape.height; r++) finish(last, true, slice, scratch, n, r, 1);
      }
    });
    normalise_back(last, gradients);
  }

  void backward_layer(TrainLayer& layer, float* const* gradients, float* dx) {
    over_slices([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
      backward_slice(layer, slice, scratch, begin, end, dx);
    });
    give_weights(layer, gradients);
    if (layer.last_of_input && layer.spec.input > 0) normalise_back(layer.spec.input, gradients);
  }

 private:
  template <class Work>
  void over_slices(Work work) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
    for (int s = 0; s < n_slices_; s++) {
      int64_t begin, end;
      share(net_.batch, s, n_slices_, begin, end);
      work(net_.slices[s], net_.scratch[omp_get_thread_num()], begin, end);
    }
  }

  static void clear_sums(TrainSlice& slice) {
    for (std::vector<double>* sums : {&slice.sum, &slice.dot, &slice.dot2}) std::fill(sums->begin(), sums->end(), 0.0);
  }

  // Rows [begin, end) of a value of image n, into a plane whose row 0 is the image's, or which has one row (row = 0).
  void fill(int index, bool first_reader, int64_t n, Plane to, int begin, int end) {
    const TrainValue& value = net_.values[index];
    const TrainShape& shape = value.shape;
    if (value.producer < 0) {
      const ptrdiff_t image = (ptrdiff_t)shape.channels * shape.height * shape.width;
      pack_rows(x_ + n * image, shape.height, shape.width, value.layout, to, begin, end);
      return;
    }
    const TrainLayer& producer = net_.layers[value.producer];
    const ptrdiff_t row = row_floats(shape, value.layout), image = n * image_floats(shape, value.layout);
    for (int r = begin; r < end; r++) {
      const ptrdiff_t at = image + r * row;
      float* y = to.at + r * to.row;
      if (value.kept && !first_reader) {
        std::copy(value.stored + at, value.stored + at + row, y);
        continue;
      }
      ActivateTask task = {producer.u + at, producer.a.get(), producer.b.get(), nullptr, nullptr, nullptr, y,
                           value.kept ? value.stored + at : nullptr, shape.width, value.layout.positions};
      if (value.shortcut_layer >= 0) {
        const TrainLayer& shortcut = net_.layers[value.shortcut_layer];
        task.r = shortcut.u + at;
        task.c = shortcut.a.get();
        task.d = shortcut.b.get();
      } else if (value.shortcut_value >= 0) {
        task.r = net_.values[value.shortcut_value].stored + at;
      }
      train_.activate(task);
    }
  }

  // `rows` rows that fill() will read. They may lie beyond the image: the next one follows.
  void foresee(Ahead& ahead, int index, bool first_reader, int64_t n, int row, int rows) const {
    const TrainValue& value = net_.values[index];
    if (value.producer < 0) return;
    const ptrdiff_t floats = row_floats(value.shape, value.layout), at = n * image_floats(value.shape, value.layout) + row * floats;
    if (value.kept && !first_reader) return ahead.add(value.stored + at, rows * floats);
    ahead.add(net_.layers[value.producer].u + at, rows * floats);
    if (value.shortcut_layer >= 0) ahead.add(net_.layers[value.shortcut_layer].u + at, rows * floats);
    else if (value.shortcut_value >= 0) ahead.add(net_.values[value.shortcut_value].stored + at, rows * floats);
  }

  // Input rows that output rows below `end` read.
  static int rows_read(const TrainLayer& layer, int end) {
    return std::min(layer.in.height, (end - 1) * layer.spec.stride - layer.spec.kernel / 2 + layer.spec.kernel);
  }

  void forward_slice(TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    clear_sums(slice);
    const Layout& in = net_.values[layer.spec.input].layout;
    const int width = layer.out.width, positions = layer.layout.positions, stride = layer.spec.stride;
    const ptrdiff_t row = row_floats(layer.out, layer.layout);
    const Plane x = bordered(scratch.x.get(), layer.in, in.positions, layer.spec.kernel / 2);
    Plane middle = {scratch.middle.get(), row, positions};
    float *first = scratch.sums.get(), *second = first + net_.sum_floats;
    for (int64_t n = begin; n < end; n++) {
      int filled = 0;
      for (int r0 = 0, r1; r0 < layer.out.height; r0 = r1) {
        r1 = std::min(layer.out.height, r0 + layer.tile_rows);
        const int rows = r1 - r0, need = rows_read(layer, r1);
        if (need > filled) fill(layer.spec.input, layer.stores_input, n, x, filled, need);
        filled = std::max(filled, need);
        Ahead ahead;
        foresee(ahead, layer.spec.input, layer.stores_input, n, filled, layer.tile_rows * stride);
        const Plane from = from_row(x, (ptrdiff_t)r0 * stride);
        float* at = layer.u + (n * layer.out.height + r0) * row;
        const Plane u = {at, row, positions};
        if (layer.keeps_middle) middle.at = layer.kept + (n * layer.out.height + r0) * row;
        if (layer.pointwise) run_mix(layer.mix, from, u, {}, width, 0, rows);
        else if (layer.fours && !layer.keeps_middle) run_conv(layer.whole, from, u, {}, width, 0, rows);
        else if (!layer.block) run_conv(layer.conv, from, u, {}, width, 0, rows);
        else {
          run_conv(layer.conv, from, middle, {}, width, 0, rows);
          ahead.ask(0, 3);
          if (layer.fours) mix_fours(layer, layer.fours_forward, middle, u, rows);
          else run_mix(layer.mix, middle, u, {}, width, 0, rows);
        }
        ahead.ask(1, 3);
        if (!layer.block || (layer.fours && !layer.keeps_middle)) ahead.ask(0, 3);
        if (n == begin && r0 == 0) choose_shift(slice, at, rows * width, positions);
        train_.moments(at, slice.shift.get(), first, second, rows * width, positions);
        add_to(slice.sum, first, positions);
        add_to(slice.dot, second, positions);
        ahead.ask(2, 3);
      }
      // A 1x1 convolution of stride 2 may leave out the last row, which must be stored all the same.
      if (filled < layer.in.height && layer.stores_input && net_.values[layer.spec.input].kept)
        fill(layer.spec.input, true, n, x, filled, layer.in.height);
    }
  }

  // Moments about a number near the mean do not cancel.
  static void choose_shift(TrainSlice& slice, const float* u, int pixels, int positions) {
    float* shift = slice.shift.get();
    std::fill(shift, shift + positions, 0.0f);
    for (int i = 0; i < pixels; i++)
      for (int c = 0; c < positions; c++) shift[c] += u[(ptrdiff_t)i * positions + c];
    for (int c = 0; c < positions; c++) shift[c] /= (float)pixels;
  }

  void normalise(TrainLayer& layer, const float* beta, float* running_mean, float* running_variance) {
    const double pixels = (double)layer.out.height * layer.out.width, momentum = layer.spec.momentum;
    for (int p = 0; p < layer.layout.positions; p++) {
      const int channel = layer.layout.channel_at[p];
      if (channel < 0) continue;
      double count = 0, mean = 0, square = 0;
      for (int s = 0; s < n_slices_; s++) {
        int64_t begin, end;
        share(net_.batch, s, n_slices_, begin, end);
        const TrainSlice& slice = net_.slices[s];
        const double n = pixels * (double)(end - begin);
        const double here = slice.shift[p] + slice.sum[p] / n, apart = here - mean;
        square += slice.dot[p] - slice.sum[p] * slice.sum[p] / n + apart * apart * count * n / (count + n);
        mean += apart * n / (count + n);
        count += n;
      }
      const double variance = square / count;
      layer.mean[p] = (float)mean;
      layer.variance[p] = variance;
      const double a = layer.gamma[p] / std::sqrt(variance + layer.spec.epsilon);
      layer.a[p] = (float)a;
      layer.b[p] = (float)(beta[channel] - a * mean);
      if (running_mean) {
        running_mean[channel] = (float)(momentum * running_mean[channel] + (1 - momentum) * mean);
        running_variance[channel] = (float)(momentum * running_variance[channel] + (1 - momentum) * variance);
      }
    }
  }

  // `rows` rows of the gradient of a value, from scratch.result: of the last layer to reach it, with everything that
  // came before, or of an earlier one.
  void finish(int index, bool first, TrainSlice& slice, TrainScratch& scratch, int64_t n, int row, int rows) {
    const TrainValue& value = net_.values[index];
    const TrainLayer& producer = net_.layers[value.producer];
    const ptrdiff_t at = n * image_floats(value.shape, value.layout) + row * row_floats(value.shape, value.layout);
    const int positions = value.layout.positions;
    float* to = net_.gradient_memory[value.gradient] + at;
    FinishTask task = {};
    task.from = scratch.result.get();
    task.more = first ? nullptr : to;
    task.again = value.sums.empty() ? nullptr : net_.gradient_memory[net_.values[value.sums[0]].gradient] + at;
    task.to = to;
    task.value = value.kept ? value.stored + at : nullptr;
    task.u = producer.u + at;
    task.a = producer.a.get();
    task.b = producer.b.get();
    task.mean = producer.mean.get();
    if (value.shortcut_layer >= 0) {
      const TrainLayer& shortcut = net_.layers[value.shortcut_layer];
      task.u2 = shortcut.u + at;
      task.mean2 = shortcut.mean.get();
    }
    task.sum = scratch.sums.get();
    task.dot = task.sum + net_.sum_floats;
    task.dot2 = task.dot + net_.sum_floats;
    task.pixels = rows * value.shape.width;
    task.positions = positions;
    train_.finish(task);
    add_to(slice.sum, task.sum, positions);
    add_to(slice.dot, task.dot, positions);
    if (task.u2) add_to(slice.dot2, task.dot2, positions);
  }

  void backward_slice(TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end, float* dx) {
    clear_sums(slice);
    std::fill(slice.weights.get(), slice.weights.get() + layer.conv_weights.floats() + layer.mix_weights.floats(), 0.0f);
    const int input = layer.spec.input, stride = layer.spec.stride, pad = layer.spec.kernel / 2;
    const Layout& in = net_.values[input].layout;
    const int width = layer.out.width, positions = layer.layout.positions;
    const ptrdiff_t row = row_floats(layer.out, layer.layout);
    const Plane x = bordered(scratch.x.get(), layer.in, in.positions, pad);
    const Plane d = bordered(scratch.d.get(), layer.out, positions, pad);
    Plane middle = {scratch.middle.get(), row, positions};
    const Plane du = {scratch.du.get(), row, positions};
    const float* gradient = net_.gradient_memory[net_.values[layer.value].gradient];
    for (int64_t n = begin; n < end; n++) {
      int filled = 0, done = 0;
      for (int r0 = 0, r1; r0 < layer.out.height; r0 = r1) {
        r1 = std::min(layer.out.height, r0 + layer.tile_rows);
        const int rows = r1 - r0, need = rows_read(layer, r1);
        if (need > filled) fill(input, false, n, x, filled, need);
        filled = std::max(filled, need);
        const Plane from = from_row(x, (ptrdiff_t)r0 * stride), to = from_row(d, r0);
        const ptrdiff_t at = (n * layer.out.height + r0) * row;
        Ahead ahead;
        foresee(ahead, input, false, n, filled, layer.tile_rows * stride);
        ahead.add(gradient + at + rows * row, layer.tile_rows * row);
        ahead.add(layer.u + at + rows * row, layer.tile_rows * row);
        if (layer.block) {
          if (layer.keeps_middle) {
            middle.at = layer.kept + at;
            ahead.add(middle.at + rows * row, layer.tile_rows * row);
          } else {
            run_conv(layer.conv, from, middle, {}, width, 0, rows);
          }
          ahead.ask(0, 5);
          train_.normalise_back(gradient + at, layer.u + at, layer.ka.get(), layer.kb.get(), layer.kc.get(), du.at, rows * width, positions);
          secondary_back(layer, slice, middle, du, to, rows, ahead);
        } else {
          for (int r = 0; r < rows; r++)
            train_.normalise_back(gradient + at + r * row, layer.u + at + r * row, layer.ka.get(), layer.kb.get(), layer.kc.get(),
                                  to.at + r * to.row, width, positions);
        }
        if (layer.pointwise) mix_weights(layer, slice, from, stride, to, rows);
        else conv_weights(layer, slice, from, to, rows);
        ahead.ask(3, 5);
        if (!layer.block) for (int part = 0; part < 3; part++) ahead.ask(part, 5);
        const int limit = r1 == layer.out.height ? layer.in.height : std::min(layer.in.height, stride * r1 - pad);
        if (limit > done && (input > 0 || dx)) {
          lead_back(layer, d, scratch.result.get(), done, limit);
          take_result(layer, slice, scratch, n, done, limit, dx);
        }
        done = std::max(done, limit);
        ahead.ask(4, 5);
      }
    }
  }

  void secondary_back(const TrainLayer& layer, TrainSlice& slice, Plane middle, Plane du, Plane d, int rows, const Ahead& ahead) {
    if (!layer.fours) {
      mix_weights(layer, slice, middle, 1, du, rows);
      ahead.ask(1, 5);
      run_mix(layer.mix_back, du, d, {}, layer.out.width, 0, rows);
      ahead.ask(2, 5);
      return;
    }
    FoursTask task = {};
    task.x = middle.at;
    task.x_row = middle.row;
    task.x_pixel = middle.pixel;
    task.d = du.at;
    task.d_row = du.row;
    task.d_pixel = du.pixel;
    task.w = slice.weights.get() + layer.conv_weights.floats();
    task.vectors = layer.layout.positions / 16;
    task.width = layer.out.width;
    train_.fours_weights(task, rows);
    ahead.ask(1, 5);
    mix_fours(layer, layer.fours_back, du, d, rows);
    ahead.ask(2, 5);
  }

  void mix_fours(const TrainLayer& layer, const float* weights, Plane x, Plane y, int rows) {
    FoursTask task = {};
    task.x = x.at;
    task.x_row = x.row;
    task.x_pixel = x.pixel;
    task.weights = weights;
    task.y = y.at;
    task.y_row = y.row;
    task.y_pixel = y.pixel;
    task.vectors = layer.layout.positions / 16;
    task.width = layer.out.width;
    train_.fours(task, rows);
  }

  void mix_weights(const TrainLayer& layer, TrainSlice& slice, Plane x, int stride, Plane d, int rows) {
    MixWeightTask task = {};
    task.x = x.at;
    task.x_row = stride * x.row;
    task.x_pixel = stride * x.pixel;
    task.d = d.at;
    task.d_row = d.row;
    task.d_pixel = d.pixel;
    task.width = layer.out.width;
    for (const MixPlan::Block& block : layer.mix.blocks) {
      const size_t offset = layer.mix_weights.offset_of(block.weights);
      if (offset == (size_t)-1) continue;
      task.segments = layer.mix.segments.data() + block.first_segment;
      task.n_segments = block.n_segments;
      std::copy(block.offset, block.offset + 4, task.offset);
      task.w = slice.weights.get() + layer.conv_weights.floats() + offset;
      train_.mix_weights(block.split, block.n)(task, 0, rows);
    }
  }

  void conv_weights(const TrainLayer& layer, TrainSlice& slice, Plane x, Plane d, int rows) {
    const Layout& in = net_.values[layer.spec.input].layout;
    ConvWeightTask task = {};
    task.x_row = layer.spec.stride * x.row;
    task.x_line = x.row;
    task.x_step = layer.spec.stride * x.pixel;
    task.x_tap = x.pixel;
    task.d_row = d.row;
    task.d_pixel = d.pixel;
    task.kernel_h = task.kernel_w = layer.spec.kernel;
    task.width = layer.out.width;
    const float* corner = x.at - layer.conv.pad_h * x.row - layer.conv.pad_w * x.pixel;
    for (const ConvPlan::Block& block : layer.conv.blocks) {
      const size_t offset = layer.conv_weights.offset_of(block.weights);
      if (offset == (size_t)-1) continue;
      task.x = corner + block.x_offset;
      task.d = d.at + block.y_offset;
      task.w = slice.weights.get() + offset;
      task.inputs = block.inputs;
      const int vectors = block.floats / (task.kernel_h * block.kernel_w * block.inputs * 16);
      train_.conv_weights(lanes_of(layer, in, block.x_offset), vectors)(task, 0, rows);
    }
  }

  // w of the chunk that a block reads; 1 for dense convolutions.
  static int lanes_of(const TrainLayer& layer, const Layout& in, int x_offset) {
    if (layer.spec.groups == 1) return 1;
    int width = 1;
    for (const Chunk& chunk : in.chunks)
      if (chunk.offset <= x_offset) width = chunk.width;
    return width;
  }

  // Rows [begin, end) of the gradient of the layer's input, packed from `result` on.
  void lead_back(const TrainLayer& layer, Plane d, float* result, int begin, int end) {
    const int positions = gradient_positions(layer.spec.input), stride = layer.spec.stride;
    const ptrdiff_t row = (ptrdiff_t)layer.in.width * positions;
    if (stride > 1 && layer.spec.kernel < 3) std::fill(result, result + (end - begin) * row, 0.0f);
    if (layer.pointwise) {
      const Plane to = {result - begin * row, stride * row, (ptrdiff_t)stride * positions};
      run_mix(layer.mix_back, d, to, {}, layer.out.width, (begin + stride - 1) / stride, (end + stride - 1) / stride);
      return;
    }
    for (const BackPart& part : layer.conv_back) {
      if (part.conv.blocks.empty()) continue;
      const Plane to = {result + (part.row - begin) * row + (ptrdiff_t)part.column * positions, stride * row, (ptrdiff_t)stride * positions};
      const int first = (begin - part.row + stride - 1) / stride, last = (end - part.row + stride - 1) / stride;
      if (last > first) run_conv(part.conv, d, to, {}, part.columns, first, last);
    }
  }

  int gradient_positions(int value) const {
    const int positions = net_.values[value].layout.positions;
    return (positions + 15) / 16 * 16;
  }

  void take_result(const TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, int64_t n, int begin, int end, float* dx) {
    const int input = layer.spec.input;
    const TrainValue& value = net_.values[input];
    const TrainShape& shape = value.shape;
    if (input == 0) {
      add_to_image(layer, scratch.result.get(), dx + n * (ptrdiff_t)shape.channels * shape.height * shape.width, begin, end);
      return;
    }
    if (layer.last_of_input) return finish(input, layer.first_of_input, slice, scratch, n, begin, end - begin);
    const ptrdiff_t row = row_floats(shape, value.layout), count = (end - begin) * row;
    float* to = net_.gradient_memory[value.gradient] + n * image_floats(shape, value.layout) + begin * row;
    if (layer.first_of_input) std::copy(scratch.result.get(), scratch.result.get() + count, to);
    else train_.add(scratch.result.get(), to, to, (end - begin) * shape.width, value.layout.positions);
  }

  void add_to_image(const TrainLayer& layer, const float* result, float* dx, int begin, int end) {
    const TrainShape& shape = net_.input;
    const Layout& layout = net_.values[0].layout;
    const int positions = gradient_positions(0);
    const std::vector<int> where = positions_of(layout, shape.channels);
    for (int c = 0; c < shape.channels; c++)
      for (int r = begin; r < end; r++) {
        float* to = dx + ((ptrdiff_t)c * shape.height + r) * shape.width;
        const float* from = result + (ptrdiff_t)(r - begin) * shape.width * positions + where[c];
        for (int i = 0; i < shape.width; i++) {
          const float v = from[(ptrdiff_t)i * positions];
          to[i] = layer.first_of_input ? v : to[i] + v;
        }
      }
  }

  void give_weights(const TrainLayer& layer, float* const* gradients) {
    const size_t boundary = layer.conv_weights.floats();
    give(layer.conv_weights, 0, gradients[layer.parameter]);
    give(layer.mix_weights, boundary, gradients[layer.parameter + (layer.block ? 1 : 0)]);
  }

  void give(const Packed& packed, size_t offset, float* gradient) {
    if (!gradient || packed.floats() == 0) return;
    const std::vector<int32_t>& source = packed.source();
#pragma omp parallel for schedule(static) num_threads(threads_) if (source.size() > 4096)
    for (size_t k = 0; k < source.size(); k++) {
      if (source[k] < 0) continue;
      float total = net_.slices[0].weights[offset + k];
      for (int s = 1; s < n_slices_; s++) total += net_.slices[s].weights[offset + k];
      gradient[source[k]] = total;
    }
  }

  // The sums over the gradient of a value give gamma's, beta's and the factors of its producers' way back.
  void normalise_back(int index, float* const* gradients) {
    const TrainValue& value = net_.values[index];
    normalise_back(net_.layers[value.producer], &TrainSlice::dot, gradients);
    if (value.shortcut_layer >= 0) normalise_back(net_.layers[value.shortcut_layer], &TrainSlice::dot2, gradients);
  }

  void normalise_back(TrainLayer& layer, std::vector<double> TrainSlice::*dots, float* const* gradients) {
    const double count = (double)net_.batch * layer.out.height * layer.out.width;
    float* dgamma = gradients[layer.parameter + (layer.block ? 2 : 1)];
    float* dbeta = gradients[layer.parameter + (layer.block ? 3 : 2)];
    for (int p = 0; p < layer.layout.positions; p++) {
      const int channel = layer.layout.channel_at[p];
      if (channel < 0) continue;
      double sum = 0, dot = 0;
      for (int s = 0; s < n_slices_; s++) {
        sum += net_.slices[s].sum[p];
        dot += (net_.slices[s].*dots)[p];
      }
      const double inverse = 1 / std::sqrt(layer.variance[p] + layer.spec.epsilon), ka = layer.gamma[p] * inverse;
      const double kb = -ka * inverse * inverse * dot / count;
      layer.ka[p] = (float)ka;
      layer.kb[p] = (float)kb;
      // From the rounded factors: du must sum to zero, or what is left over adds up in the gradients of weights.
      layer.kc[p] = (float)(-layer.ka[p] * sum / count - (double)layer.kb[p] * layer.mean[p]);
      if (dgamma) dgamma[channel] = (float)(dot * inverse);
      if (dbeta) dbeta[channel] = (float)sum;
    }
  }

  TrainNet& net_;
  const TrainKernels& train_;
  const float* x_;
  const int threads_;
  int n_slices_ = 1;
};

int threads_or_default(int threads) { return threads ? threads : omp_get_max_threads(); }

}  // namespace

void train_forward(TrainNet& net, const float* x, int64_t batch, const float* const* parameters, float* const* running,
                   float* y, int threads) {
  net.ready_for_backward = false;
  Pass pass(net, x, threads_or_default(threads));
  pass.reserve(batch);
  pass.pack(parameters);
  for (size_t i = 0; i < net.layers.size(); i++) {
    TrainLayer& layer = net.layers[i];
    pass.forward_layer(layer, parameters[layer.parameter + (layer.block ? 3 : 2)], running ? running[2 * i] : nullptr,
                       running ? running[2 * i + 1] : nullptr);
  }
  pass.pool(y);
  net.ready_for_backward = true;
}

void train_backward(TrainNet& net, const float* x, const float* dy, float* const* gradients, float* dx, int threads) {
  Pass pass(net, x, threads_or_default(threads));
  pass.reserve(net.batch);
  pass.pool_back(dy, gradients);
  for (size_t i = net.layers.size(); i-- > 0;) pass.backward_layer(net.layers[i], gradients, dx);
}

}  // namespace igc
