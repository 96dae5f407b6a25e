// optimizer_op.cpp - the update rule of igc_gluon.engine.optimizer for all parameters of a network in one
// operator.
//
//   igc_nesterov(weights..., momenta..., gradients..., out=[weights..., momenta...])
//
//     gradient' = rescale_grad * gradient + wd * weight
//     momentum' = (1 + decay) * momentum + gradient'
//     weight'   = weight + (rate * gradient' + rate_of_momentum * momentum')
//
// Attributes: rescale_grad, decay; wd, rate and rate_of_momentum for each weight, separated by commas.
//
// The bits are those of the passes of sgd_update that stand for it elsewhere: the same operations in the same
// order, no contraction to fused multiply-adds (-ffp-contract=off), and factors read by MXNet's own parser,
// which does not always round to the nearest float. Results are outputs, not inputs that are written: of an
// input that a convolution has left in blocks MXNet hands over a copy.
#include <algorithm>
#include <stdexcept>

#include "../../include/igc_train.h"
#include "dmlc/strtonum.h"
#include "mxnet/lib_api.h"

using mxnet::ext::MX_SUCCESS;
using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
typedef std::unordered_map<std::string, std::string> Attributes;
typedef std::vector<unsigned int> Shape;

namespace {

constexpr int64_t kChunk = 1 << 14;  // floats that one thread takes at a time

const std::string& attribute(const Attributes& attributes, const char* name) {
  const auto found = attributes.find(name);
  if (found == attributes.end()) throw std::invalid_argument(std::string("igc_nesterov needs ") + name);
  return found->second;
}

std::vector<float> numbers(const std::string& text) {
  std::vector<float> result;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    result.push_back(dmlc::stof(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return result;
}

struct Update {
  const float *weight, *momentum, *gradient;
  float *new_weight, *new_momentum;
  int64_t size;
  float wd, rate, rate_of_momentum;
};

void update(const Update& u, int64_t begin, int64_t end, float rescale, float keep) {
  for (int64_t i = begin; i < end; i++) {
    const float w = u.weight[i];
    const float g = u.gradient[i] * rescale + u.wd * w;
    const float m = keep * u.momentum[i] + g;
    u.new_momentum[i] = m;
    u.new_weight[i] = w + u.rate * g + u.rate_of_momentum * m;
  }
}

MXReturnValue parse(const Attributes& attributes, int* n_inputs, int* n_outputs) {
  const std::string& rates = attribute(attributes, "rate");
  const int n = (int)std::count(rates.begin(), rates.end(), ',') + 1;
  *n_inputs = 3 * n;
  *n_outputs = 2 * n;
  return MX_SUCCESS;
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (int type : *in)
    if (type != mxnet::ext::kFloat32) throw std::invalid_argument("igc_nesterov: arrays must be float32");
  std::fill(out->begin(), out->end(), (int)mxnet::ext::kFloat32);
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes&, std::vector<Shape>* in, std::vector<Shape>* out) {
  const size_t n = in->size() / 3;
  for (size_t i = 0; i < n; i++)
    if (in->at(i) != in->at(n + i) || in->at(i) != in->at(2 * n + i))
      throw std::invalid_argument(
          "igc_nesterov: a weight, its momentum and its gradient must have one shape");
  std::copy(in->begin(), in->begin() + 2 * n, out->begin());
  return MX_SUCCESS;
}

MXReturnValue forward(const Attributes& attributes, std::vector<MXTensor>* inputs,
                      std::vector<MXTensor>* outputs, const mxnet::ext::OpResource&) {
  const std::vector<float> wd = numbers(attribute(attributes, "wd")),
                           rate = numbers(attribute(attributes, "rate")),
                           rate_of_momentum = numbers(attribute(attributes, "rate_of_momentum"));
  const float rescale = (float)dmlc::stod(attribute(attributes, "rescale_grad")),
              keep = 1.0f + dmlc::stof(attribute(attributes, "decay"));
  const size_t n = inputs->size() / 3;
  if (rate.size() != n || rate_of_momentum.size() != n || wd.size() != n)
    throw std::invalid_argument("igc_nesterov needs a rate, a rate_of_momentum and a wd for each weight");
  std::vector<std::pair<Update, int64_t>> parts;  // with the place where they begin
  for (size_t i = 0; i < n; i++) {
    const Update whole = {inputs->at(i).data<float>(),
                          inputs->at(n + i).data<float>(),
                          inputs->at(2 * n + i).data<float>(),
                          outputs->at(i).data<float>(),
                          outputs->at(n + i).data<float>(),
                          inputs->at(i).size(),
                          wd[i],
                          rate[i],
                          rate_of_momentum[i]};
    for (int64_t begin = 0; begin < whole.size; begin += kChunk) parts.push_back({whole, begin});
  }
  auto work = [&](int64_t i) {
    update(parts[i].first, parts[i].second, std::min(parts[i].first.size, parts[i].second + kChunk), rescale,
           keep);
  };
  igc_share((int64_t)parts.size(), [](void* w, int64_t i) { (*static_cast<decltype(work)*>(w))(i); }, &work);
  return MX_SUCCESS;
}

}  // namespace

REGISTER_OP(igc_nesterov)
    .setForward(forward, "cpu")
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape);
