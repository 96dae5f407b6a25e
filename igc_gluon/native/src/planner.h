// planner.h - what plans a network (planner.cpp), the reduced parts too (planner_reduced.cpp).
#pragma once
#include <map>
#include <optional>

#include "check.h"
#include "net.h"

namespace igc {

inline bool is_convolution(const igc_op& op) { return op.kind == IGC_CONV || op.kind == IGC_BLOCK; }
// The secondary wants runs of 4 channels. With L = 1 it is only a factor for each channel.
inline int narrowest(const igc_op& op) { return op.kind == IGC_BLOCK && op.groups > 1 ? 4 : 1; }
inline bool is_pointwise(const igc_op& op) {
  return op.kind == IGC_CONV && op.kernel_h == 1 && op.kernel_w == 1 && !op.pad_h && !op.pad_w;
}

class Planner {
 public:
  Planner(Plan& plan, Weights& shared, const igc_op* ops, int64_t n_ops, const float* numbers,
          const Precision& precision, std::vector<Shape> shapes);
  void plan();

 private:
  // Tensors in several storages hold the same channels in each.
  struct Tensor {
    bool planned = false;
    Layout layout;
    int storage = -1;              // of floats
    int64_t pending = -1;          // the convolution that will be computed inside the step of its only reader
    int reduced = -1, words = -1;  // storages of reduced elements, in the layout's order and as words
  };
  // The order of channels that a step has to write, whether reduced and as words.
  struct Forced {
    Layout layout;
    bool reduced = false, words = false;
  };

  Shape shape(int64_t tensor) const { return shapes_[tensor]; }
  const float* parameter(int64_t offset) const { return offset < 0 ? nullptr : numbers_ + offset; }
  bool is_channelwise(const igc_op& op) const;
  bool postponed(int64_t i) const;
  bool goes_by_groups(const igc_op& op, const Layout& layout) const;
  bool feeds_pointwise(int64_t i, Layout layout) const;
  Layout groups_of(const igc_op& op) const;
  Filter filter_of(const igc_op& op) const;
  Filter secondary_of(const igc_op& op) const;
  Parameters parameters_of(const igc_op& op);
  // Of what `secondary` says: those of the two convolutions of a block.
  static Parameters unscaled(const Parameters& p) { return {p.weights, nullptr, nullptr}; }
  Parameters mixing_of(const igc_op& op) const;
  Layout free_layout(int64_t i, const Filter& filter, const Forced* forced) const;

  void collect_wishes();
  int new_storage(const Layout& layout, Shape s);
  void define(int64_t tensor, const Layout& layout);
  int converted(int64_t tensor, const Layout& layout);
  int emit(Step step);
  void find_lifetimes();
  void widen_halo(int storage, int h, int w);
  void plan_op(int64_t i, const Forced* forced);
  void plan_convolution(int64_t i, const Forced* forced);
  void plan_groups(Step& step, const igc_op& op, const Layout& in, const Layout& out, int width);
  template <class Part>
  void pack(Part& part, const igc_op& op, const Filter& filter, const Parameters& parameters,
            const Layout& in, const Layout& out, const Filter* secondary = nullptr,
            const Parameters& mixing = {});
  void choose_tile(Step& step, Shape out);
  void finish();

  // planner_reduced.cpp
  void choose_reduced();
  bool in_bytes() const { return precision_.kind == IGC_INT8; }
  int run() const { return per_word(plan_.reduced->element); }  // members of a word
  bool pays_in_bytes(const igc_op& op) const;
  bool pays_in_half(const igc_op& op) const;
  bool pays_on_amx(const igc_op& op, bool fast_vectors) const;
  bool secondary_pays_on_amx(const igc_op& op, bool fast_vectors) const;
  bool on_amx(int64_t i) const { return plan_.reduced_ops[i] == IGC_ON_AMX; }
  bool is_reduced(int64_t tensor) const;
  Scale scale_of(int64_t tensor) const;
  int new_reduced(int64_t tensor, const Layout& order);
  int as_floats(int64_t tensor);
  int as_reduced(int64_t tensor);
  int as_words(int64_t tensor);
  int words_of(int64_t tensor, const Layout& layout);
  int reduced_in(int64_t tensor, const Layout& layout, bool words);
  int reordered(int64_t tensor, int storage, const Layout& order);
  void plan_reduced(int64_t i, const Forced* forced);
  void make_words_in_blocks();
  void choose_reduced_tile(Step& step, Shape out);
  void plan_reduced_groups(Step& step, int64_t i, const Layout& in, const Layout& out, const Target& target);
  Layout read_by_amx(Step& step, int64_t i, const Layout& out);
  void plan_amx_block(Step& step, int64_t i, const Layout& out, const Target& target);
  void choose_amx_tile(Step& step, Shape out);

  Plan& plan_;
  Weights& shared_;
  const Kernels& kernels_;
  const igc_op* ops_;
  const int64_t n_ops_;
  const float* numbers_;
  const Precision precision_;
  const std::vector<Shape> shapes_;
  std::vector<Tensor> tensors_;
  std::vector<std::vector<int64_t>> readers_;
  std::vector<std::optional<Layout>> wish_;
  std::map<int64_t, Step> pending_;
  std::vector<float> factors_;        // of parameters_of()
  std::vector<const float*> middle_;  // of each op, the largest middle values of its channels
};

}  // namespace igc
