// check.h - refuses a list of ops that cannot be carried out, before anything is planned.
#pragma once
#include <vector>

#include "net.h"

namespace igc {

// Shapes of all tensors (n_ops + 1). Raises BadArgument with the number of the op.
std::vector<Shape> check_ops(const igc_op* ops, int64_t n_ops, const float* weights, int64_t n_weights,
                             Shape input);

// Of bytes the numbers that calibration found (igc_net_create_in): as many as the ops need, finite, in order. Raises
// BadArgument.
void check_precision(const igc_op* ops, int64_t n_ops, const Precision& precision);

}  // namespace igc
