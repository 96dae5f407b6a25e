// fold.cpp - ops as they are trained become ops for inference: normalizations are folded into scales and biases,
// permutations stand for themselves, a primary and its secondary convolution are an IGC block.
#include <cmath>

#include "check.h"
#include "train.h"

namespace igc {
namespace {

class Folding {
 public:
  Folding(const std::vector<igc_op>& ops, const std::vector<Shape>& shapes, std::vector<float>& numbers)
      : ops_(ops), shapes_(shapes), numbers_(numbers), moving_((int64_t)numbers.size()) {
    for (const igc_op& op : ops_) moving_ -= op.normalized ? 2 * op.channels : 0;
  }

  std::vector<igc_op> fold() {
    for (size_t i = 0; i < ops_.size(); i++) tensor_.push_back(add(i));
    return std::move(folded_);
  }

 private:
  int push(const igc_op& op) {
    folded_.push_back(op);
    return (int)folded_.size();
  }

  int permuted(int tensor, int groups) {
    if (groups <= 1) return tensor;
    igc_op op = {};
    op.kind = IGC_PERMUTE;
    op.input = tensor;
    op.residual = -1;
    op.groups = groups;
    return push(op);
  }

  // `groups` branches were permuted; 0 and 1: not.
  int permuted_back(int tensor, int channels, int groups) {
    return groups <= 1 ? tensor : permuted(tensor, channels / groups);
  }

  // Whether ops i and i + 1 are what igc.h knows as an IGC block.
  bool is_block(size_t i) const {
    const igc_op &p = ops_[i], &s = ops_[i + 1];
    return p.kind == IGC_CONV && !p.normalized && s.normalized && make_block(p, s);
  }

  // Returns the tensor that holds the result of op i.
  int add(size_t i) {
    const igc_op& given = ops_[i];
    igc_op op = given;
    op.input = tensor_[given.input];
    op.residual = -1;
    op.activation = IGC_LINEAR;
    op.normalized = op.permute = op.reorder = 0;
    op.weight = op.weight2 = op.scale = op.bias = -1;
    if (given.kind != IGC_CONV) return push(op);
    const int64_t weight = at_;
    at_ += weights_of(given, shapes_[given.input].channels);
    const bool block = i > 0 && is_block(i - 1);
    if (block) {  // which permutes by itself
      op = primary_;
      op.kind = IGC_BLOCK;
      op.weight2 = weight;
    } else {
      op.weight = weight;
    }
    if (!given.normalized) {
      primary_ = op;
      return is_block(i) ? 0 : permuted(push(op), given.permute);
    }
    const int permute = block ? 1 : given.permute;
    normalize(op, given, permuted_labels(given.channels, permute));
    op.activation = given.activation;
    if (given.residual >= 0)
      op.residual = permuted_back(permuted_back(tensor_[given.residual], given.channels, given.reorder),
                                  given.channels, permute);
    return permuted(permuted(push(op), permute), given.reorder);
  }

  // number_of: in the normalization, of each channel of the convolution.
  void normalize(igc_op& op, const igc_op& given, const Labels& number_of) {
    const int channels = given.channels;
    op.scale = (int64_t)numbers_.size();
    op.bias = op.scale + channels;
    numbers_.resize(numbers_.size() + 2 * (size_t)channels);
    const float *gamma = &numbers_[at_], *beta = gamma + channels, *mean = &numbers_[moving_],
                *variance = mean + channels;
    at_ += 2 * channels;
    moving_ += 2 * channels;
    for (int c = 0; c < channels; c++) {
      const int f = number_of[c];
      const double factor = gamma[f] / std::sqrt((double)variance[f] + given.epsilon);
      numbers_[op.scale + c] = (float)factor;
      numbers_[op.bias + c] = (float)(beta[f] - factor * mean[f]);
    }
  }

  const std::vector<igc_op>& ops_;
  const std::vector<Shape>& shapes_;
  std::vector<float>& numbers_;
  int64_t at_ = 0, moving_;        // where the next parameters and moving statistics begin
  igc_op primary_ = {};            // the last convolution without a normalization
  std::vector<int> tensor_ = {0};  // of each tensor of training
  std::vector<igc_op> folded_;
};

}  // namespace

std::vector<igc_op> folded(const std::vector<igc_op>& ops, const std::vector<Shape>& shapes,
                           std::vector<float>& numbers) {
  return Folding(ops, shapes, numbers).fold();
}

}  // namespace igc
