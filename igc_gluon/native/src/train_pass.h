// train_pass.h - one pass over a batch, forward or backward: what its parts share.
//
// A step goes layer by layer over the batch, images, or rows of few images, shared among threads. An image goes through a layer in
// tiles of some rows, through all parts of the layer, so that a tile stays in the first caches. Sums over the
// batch (statistics, gradients of weights) are kept for each slice of images and added up in the order of
// slices, so that the result does not depend on which thread did what.
#pragma once
#include <algorithm>
#include <cmath>

#include "thread_pool.h"
#include "train.h"

namespace igc {

// Where the results of a layer's convolutions lie while a tile is worked on: packed rows, one behind another.
class Tiles {
 public:
  Tiles(float* at, const TrainLayer& layer)
      : at_(at), pixels_((ptrdiff_t)layer.tile_rows * layer.out.width) {}
  Plane next(int positions, int width) {
    const Plane plane = {at_, (ptrdiff_t)width * positions, positions};
    at_ += pixels_ * positions;
    return plane;
  }

 private:
  float* at_;
  ptrdiff_t pixels_;
};

inline void share(int64_t total, int part, int parts, int64_t& begin, int64_t& end) {
  begin = total * part / parts;
  end = total * (part + 1) / parts;
}

// An image with a border, zeroed as a whole, in `memory`.
inline Plane bordered(float* memory, const Shape& shape, int positions, int border) {
  const ptrdiff_t row = (ptrdiff_t)(shape.width + 2 * border) * positions;
  std::fill(memory, memory + (shape.height + 2 * border) * row, 0.0f);
  return {memory + border * row + (ptrdiff_t)border * positions, row, positions};
}

inline void add_to(std::vector<double>& total, const float* more, int count) {
  for (int c = 0; c < count; c++) total[c] += more[c];
}

class Pass {
 public:
  Pass(TrainNet& net, const float* x, int threads)
      : plan_(*net.plan),
        weights_(net.weights),
        space_(net.workspace),
        train_(*plan_.train),
        x_(x),
        threads_(threads ? threads : default_threads()),
        team_(team_size(threads_)) {}

  void reserve(int64_t batch);
  void pack(const float* const* parameters) { weights_.pack(parameters, team_); }
  // parameters: from gamma on. running: moving mean and variance, or null.
  void forward_layer(const TrainLayer& layer, const float* const* parameters, float* const* running);
  void pool_layer(const TrainLayer& layer);
  void output(float* y);
  void output_back(const float* dy, float* const* gradients);
  void backward_layer(const TrainLayer& layer, float* const* gradients, float* dx);
  void pool_layer_back(const TrainLayer& layer, float* const* gradients, float* dx);

 private:
  // What a slice is of: images [begin, end), or, where there are fewer images than threads, rows of one.
  struct Share {
    int64_t begin, end;
    int part, parts;
    int row(int height, int p) const { return (int)((int64_t)height * p / parts); }
    int first_row(int height) const { return row(height, part); }
    int end_row(int height) const { return row(height, part + 1); }
  };
  Share share_of(int s) const {
    Share result = {s / row_parts_, s / row_parts_ + 1, s % row_parts_, row_parts_};
    if (row_parts_ == 1) share(space_.batch, s, n_slices_, result.begin, result.end);
    return result;
  }

  template <class Work>
  void over_slices(Work work) {
    parallel(team_, n_slices_,
             [&](int slot, int64_t s) { work(space_.slices[s], space_.scratch[slot], share_of((int)s)); });
  }
  // For what takes little time: the first slice of an image does all of it.
  template <class Work>
  void over_whole_images(Work work) {
    over_slices([&](TrainSlice& slice, TrainScratch& scratch, const Share& of) {
      work(slice, scratch, of.begin, of.part ? of.begin : of.end);
    });
  }

  float* memory(size_t place) const { return space_.memory.get() + place * space_.capacity; }
  float* gradient(const TrainValue& value) const { return memory(plan_.gradients[value.gradient]); }
  LayerState& state(const TrainLayer& layer) { return space_.layers[&layer - plan_.layers.data()]; }
  void make_states();

  static void clear_sums(TrainSlice& slice) {
    for (std::vector<double>* sums : {&slice.sum, &slice.dot, &slice.dot2})
      std::fill(sums->begin(), sums->end(), 0.0);
  }

  // Rows [begin, end) of a value of image n, into a plane whose row 0 is the image's, or which has one row
  // (row = 0).
  void fill(int index, bool first_reader, int64_t n, Plane to, int begin, int end, bool store = true);
  // The same of a layer's input, in the order in which the layer reads it.
  void fill_input(const TrainLayer& layer, bool first_reader, TrainScratch& scratch, int64_t n, Plane to,
                  int begin, int end, bool store = true);
  // Of which only the rows [own, own_end) are this slice's to store.
  void fill_own(const TrainLayer& layer, TrainScratch& scratch, int64_t n, Plane to, int begin, int end,
                int own, int own_end);
  // `rows` rows that fill() will read. They may lie beyond the image: the next one follows.
  void prefetch_value(Prefetch& prefetch, int index, bool first_reader, int64_t n, int row, int rows) const;

  // Input rows that output rows below `end` read.
  static int rows_read(const TrainLayer& layer, int end) {
    const igc_op& s = layer.lead();
    return std::min(layer.in.height, (end - 1) * s.stride - s.pad_h + s.kernel_h);
  }

  // Input rows that outputs below row `end` are the last to read or, going back, to reach.
  static int rows_done(const TrainLayer& layer, int end, int pad) {
    if (end == layer.out.height) return layer.in.height;
    return std::min(layer.in.height, std::max(0, layer.lead().stride * end - pad));
  }

  void forward_slice(const TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, const Share& of);
  // Moments about a number near the mean do not cancel.
  static void choose_shift(TrainSlice& slice, const float* u, int pixels, int positions);
  void normalize(const TrainLayer& layer, const float* const* parameters, float* const* running);
  // `rows` rows of the gradient of a value, from `result`: of the last layer to reach it, with everything that
  // came before, or of an earlier one.
  void finish(int index, bool first, const float* result, TrainSlice& slice, TrainScratch& scratch, int64_t n,
              int row, int rows);
  // How many rows above its own a slice needs of the gradient of a layer's result.
  int rows_above(const TrainLayer& layer, const Share& of) const {
    const int first = of.first_row(layer.out.height);
    return first < of.end_row(layer.out.height)
               ? std::min(first, (layer.lead().kernel_h - 1) / layer.lead().stride)
               : 0;
  }
  // copy: the gradient of the result, of the slice's rows and those above, where it cannot be read in its place.
  void backward_slice(const TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, const Share& of,
                      const float* copy, float* dx);
  // Rows of a stage: x and y lead to their first one.
  void run_stage(const TrainStage& stage, Plane x, Plane y, int width, int rows, Prefetch& prefetch);
  // From the gradient of a stage's result to that of what it reads; not of the first.
  void stage_back(const TrainStage& stage, Plane d, Plane to, int width, int rows, Prefetch& prefetch);
  void stage_weights(const TrainStage& stage, TrainSlice& slice, Plane x, Plane d, int width, int rows);
  void fours(const float* weights, int positions, Plane x, Plane y, int width, int rows);
  void pointwise_weights(const TrainStage& stage, TrainSlice& slice, Plane x, Plane d, int width, int rows);
  void conv_weights(const TrainStage& stage, TrainSlice& slice, Plane x, Plane d, int width, int rows);

  // Rows [begin, end) of the gradient of the layer's input, packed from `result` on.
  void lead_back(const TrainLayer& layer, Plane d, float* result, int begin, int end, Prefetch& prefetch);

  // Of the gradient of a layer's input as it comes out of the layer.
  static int gradient_positions(const TrainLayer& layer) { return (layer.input.positions + 15) / 16 * 16; }

  void take_result(const TrainLayer& layer, const float* result, TrainSlice& slice, TrainScratch& scratch,
                   int64_t n, int begin, int end, float* dx);
  void add_to_image(const TrainLayer& layer, const float* result, float* dx, int begin, int end);
  void give_weights(const TrainLayer& layer, float* const* gradients);
  void give(const Repacked& weights, size_t offset, float* gradient);
  // The sums over the gradient of a value give gamma's, beta's and the factors of its producers' way back.
  void normalize_back(int index, float* const* gradients);
  void normalize_back(const TrainLayer& layer, std::vector<double> TrainSlice::*dots,
                      float* const* gradients);

  const TrainPlan& plan_;
  TrainWeights& weights_;
  TrainWorkspace& space_;
  const TrainKernels& train_;
  const float* x_;
  const int threads_;  // which says into how many slices a batch is cut, on any machine
  const int team_;
  int n_slices_ = 1, row_parts_ = 1;
};

}  // namespace igc
