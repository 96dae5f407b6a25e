// check.h - refuses a list of ops that cannot be carried out, before anything is planned.
#pragma once
#include <vector>

#include "net.h"

namespace igc {

// Shapes of all tensors (n_ops + 1), for inference and training. Raises BadArgument with the number of the op.
std::vector<Shape> check_ops(const igc_op* ops, int64_t n_ops, Shape input);
void require(bool condition, int64_t op, const char* what);
// The weights of a convolution or of a block's primary one.
int64_t weights_of(const igc_op& op, int inputs);
inline Filter filter_of(const igc_op& op, int inputs) {
  return {op.channels, inputs, op.groups, op.kernel_h, op.kernel_w};
}
// Whether two convolutions in a row, the second behind the first's permutation, are an IGC block.
inline bool make_block(const igc_op& p, const igc_op& s) {
  return p.groups > 1 && p.permute == p.groups && s.groups == p.channels / p.groups &&
         s.channels == p.channels && s.permute == s.groups;
}

// The same of ops for inference, whose parameters lie in `weights`.
std::vector<Shape> check_inference(const igc_op* ops, int64_t n_ops, const float* weights, int64_t n_weights,
                                   Shape input);

// Of bytes the numbers that calibration found (igc_net_create_in): as many as the ops need, finite, in order. Raises
// BadArgument.
void check_precision(const igc_op* ops, int64_t n_ops, const Precision& precision);

}  // namespace igc
