#include "check.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace igc {
namespace {

// Far above any network, low enough that no product of two overflows where it is used.
constexpr int kMostChannels = 1 << 20, kMostPixels = 1 << 15, kMostKernel = 255;
constexpr int64_t kMostOps = 1 << 16, kMostFloats = (int64_t)1 << 40;
constexpr int64_t kMostWeights = (int64_t)1 << 30;  // of a convolution: those of two are numbered together

// A parameter of `size` floats: inside the weights; -1 only where it may be absent.
void require_parameter(int64_t op, const char* name, int64_t offset, int64_t size, int64_t n_weights,
                       bool optional) {
  if (offset == -1 && optional) return;
  require(offset >= 0 && size <= n_weights && offset <= n_weights - size, op,
          (std::string(name) + " lies outside of the weights").c_str());
}

int extent(int64_t op, int size, int pad, int kernel, int stride) {
  require(kernel >= 1 && kernel <= kMostKernel, op, "kernel must be 1 to 255");
  require(stride >= 1 && stride <= kMostKernel, op, "stride must be 1 to 255");
  require(pad >= 0 && pad <= kMostKernel, op, "pad must be 0 to 255");
  require(size + 2 * pad >= kernel, op, "kernel is larger than the padded image");
  return (size + 2 * pad - kernel) / stride + 1;
}

Shape check_convolution(const igc_op& op, int64_t i, const Shape& in) {
  require(op.channels >= 1 && op.channels <= kMostChannels, i, "channels must be 1 to 1048576");
  require(op.groups >= 1 && in.channels % op.groups == 0 && op.channels % op.groups == 0, i,
          "groups must divide the input and the output channels");
  require(op.activation >= IGC_LINEAR && op.activation <= IGC_RELU6, i, "unknown activation");
  const Shape out = {op.channels, extent(i, in.height, op.pad_h, op.kernel_h, op.stride),
                     extent(i, in.width, op.pad_w, op.kernel_w, op.stride)};
  const int64_t mixing = op.kind == IGC_BLOCK ? (int64_t)op.channels * op.groups : 0;
  require(std::max(weights_of(op, in.channels), mixing) <= kMostWeights, i, "has more than 2^30 weights");
  return out;
}

void check_parameters(const igc_op& op, int64_t i, const Shape& in, int64_t n_weights) {
  require_parameter(i, "weight", op.weight, weights_of(op, in.channels), n_weights, false);
  if (op.kind == IGC_BLOCK)
    require_parameter(i, "weight2", op.weight2, (int64_t)op.channels * op.groups, n_weights, false);
  require_parameter(i, "scale", op.scale, op.channels, n_weights, true);
  require_parameter(i, "bias", op.bias, op.channels, n_weights, true);
}

}  // namespace

void require(bool condition, int64_t op, const char* what) {
  if (!condition) throw BadArgument("op " + std::to_string(op) + ": " + what);
}

int64_t weights_of(const igc_op& op, int inputs) {
  return (int64_t)op.channels * (inputs / op.groups) * op.kernel_h * op.kernel_w;
}

std::vector<Shape> check_ops(const igc_op* ops, int64_t n_ops, Shape input) {
  if (!ops || n_ops < 1 || n_ops > kMostOps) throw BadArgument("a network needs 1 to 65536 ops");
  if (input.channels < 1 || input.channels > kMostChannels || input.height < 1 ||
      input.height > kMostPixels || input.width < 1 || input.width > kMostPixels)
    throw BadArgument("the input needs 1 to 1048576 channels and 1 to 32768 rows and columns");
  std::vector<Shape> shapes = {input};
  for (int64_t i = 0; i < n_ops; i++) {
    const igc_op& op = ops[i];
    require(op.input >= 0 && op.input <= i, i, "its input must be tensor 0 or the result of an earlier op");
    require(op.residual >= -1 && op.residual <= i, i, "its residual must be the result of an earlier op");
    const Shape in = shapes[op.input];
    Shape out = in;
    switch (op.kind) {
      case IGC_CONV:
      case IGC_BLOCK:
        out = check_convolution(op, i, in);
        break;
      case IGC_PERMUTE:
        require(op.groups >= 1 && in.channels % op.groups == 0, i, "groups must divide the channels");
        break;
      case IGC_MAX_POOL:
        out = {in.channels, extent(i, in.height, op.pad_h, op.kernel_h, op.stride),
               extent(i, in.width, op.pad_w, op.kernel_w, op.stride)};
        require(op.pad_h < op.kernel_h && op.pad_w < op.kernel_w, i, "pad must be less than the kernel");
        break;
      case IGC_MEAN_POOL:
        out = {in.channels, 1, 1};
        break;
      default:
        require(false, i, "unknown kind");
    }
    const bool convolution = op.kind == IGC_CONV || op.kind == IGC_BLOCK;
    require(convolution || op.channels == 0 || op.channels == in.channels, i,
            "only convolutions change the channels");
    for (int branches : {op.permute, op.reorder})
      require(branches == 0 || (branches >= 1 && out.channels % branches == 0), i,
              "permute and reorder must divide the channels");
    if (op.residual >= 0) {
      require(convolution, i, "only convolutions take a residual");
      require(shapes[op.residual] == out, i, "its residual has another shape than its output");
    }
    shapes.push_back(out);
  }
  return shapes;
}

std::vector<Shape> check_inference(const igc_op* ops, int64_t n_ops, const float* weights, int64_t n_weights,
                                   Shape input) {
  if (n_weights < 0 || n_weights > kMostFloats || (!weights && n_weights > 0))
    throw BadArgument("weights are missing");
  const std::vector<Shape> shapes = check_ops(ops, n_ops, input);
  for (int64_t i = 0; i < n_ops; i++) {
    const igc_op& op = ops[i];
    require(!op.normalized && op.permute <= 1 && op.reorder <= 1, i,
            "only in training is it normalized or permuted by itself");
    if (op.kind == IGC_CONV || op.kind == IGC_BLOCK) check_parameters(op, i, shapes[op.input], n_weights);
  }
  return shapes;
}

void check_precision(const igc_op* ops, int64_t n_ops, const Precision& precision) {
  const float* const ranges = precision.ranges;
  const int64_t n_ranges = precision.n_ranges;
  if (precision.kind != IGC_FLOAT32 && precision.kind != IGC_HALF && precision.kind != IGC_INT8)
    throw BadArgument("unknown precision");
  if (precision.kind != IGC_INT8 && n_ranges) throw BadArgument("ranges go with 8-bit integers only");
  if (precision.kind != IGC_INT8) return;
  int64_t wanted = 2 * (n_ops + 1);
  for (int64_t i = 0; i < n_ops; i++)
    if (ops[i].kind == IGC_BLOCK) wanted += ops[i].channels;
  if (!ranges || n_ranges != wanted) throw BadArgument("there are too few or too many ranges");
  for (int64_t i = 0; i < n_ranges; i++)
    if (!std::isfinite(ranges[i])) throw BadArgument("a range is not finite");
  for (int64_t i = 0; i <= n_ops; i++)
    if (ranges[2 * i] > ranges[2 * i + 1]) throw BadArgument("a range ends before it begins");
  for (int64_t i = 2 * (n_ops + 1); i < n_ranges; i++)
    if (ranges[i] < 0) throw BadArgument("a range is negative");
}

}  // namespace igc
