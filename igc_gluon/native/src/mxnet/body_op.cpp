// body_op.cpp - MXNet operators on igc_train.h, loaded by mx.library.load: a whole network body is one
// operator.
//
//   igc_body_train(data, parameters..., moving statistics...)  batch statistics; updates the moving ones; backward
//   igc_body_infer(data, parameters..., moving statistics...)  moving statistics; no backward
//
// Both give (batch, channels), with the attribute maps=1 (batch, channels, height, width). The attribute `layers` holds
// an igc_layer for each layer: its members separated by commas, layers by semicolons. Parameters in the order of
// igc_train.h, then mean and variance of every layer. What is kept for the next call, folded weights and memory, belongs
// to the attribute `owner`, any text, and is freed by igc_body_release(owner);
// igc_body_idle_bytes() says how much waits.
//
// The attribute data_gradient=0 leaves the gradient of data as it is, where nothing reads it: through a 7x7 stem it
// costs as much as some stages do.
//
// Errors are thrown: MXNet makes MXNetError of them. (The messages of its own interface are never cleared.)
// MXNet tells neither whether it trains nor what it wants done with a gradient (write or add): hence two
// operators, and a caller who wants gradients added puts an identity before the parameter.
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>

#include "../../include/igc_train.h"
#include "mxnet/lib_api.h"

using mxnet::ext::MX_SUCCESS;
using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
typedef std::unordered_map<std::string, std::string> Attributes;

namespace {

std::vector<igc_layer> parse_layers(const std::string& text) {
  std::vector<igc_layer> layers;
  std::istringstream all(text);
  for (std::string one; std::getline(all, one, ';');) {
    std::istringstream numbers(one);
    igc_layer l = {};
    char comma;
    numbers >> l.kind >> comma >> l.input >> comma >> l.residual >> comma >> l.channels >> comma >>
        l.groups >> comma >> l.kernel >> comma >> l.stride >> comma >> l.permute >> comma >> l.normalized >>
        comma >> l.reorder >> comma >> l.activation >> comma >> l.epsilon >> comma >> l.momentum;
    if (!numbers || numbers.peek() != EOF) throw std::invalid_argument("igc_body: '" + one + "' is no layer");
    layers.push_back(l);
  }
  if (layers.empty()) throw std::invalid_argument("igc_body: no layers");
  return layers;
}

bool flag(const Attributes& attributes, const char* name, bool otherwise) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? otherwise : found->second != "0";
}

size_t moving_statistics_of(const std::vector<igc_layer>& layers) {
  size_t n = 0;
  for (const igc_layer& layer : layers) n += layer.normalized ? 2 : 0;
  return n;
}

// MXNet asks for the number of inputs hundreds of times a step: the last answer is kept.
const std::vector<igc_layer>& layers_of(const Attributes& attributes) {
  thread_local std::string text;
  thread_local std::vector<igc_layer> layers;
  const auto found = attributes.find("layers");
  if (found == attributes.end()) throw std::invalid_argument("igc_body needs the attribute layers");
  if (layers.empty() || found->second != text) {
    layers = parse_layers(found->second);
    text = found->second;
  }
  return layers;
}

// Nets are costly to make and hold packed weights and the activations of a batch: those that are not in use wait here for the next call of
// their owner, a network. Those of inference wait while all of them together take kIdleBytes at most, the last one
// always; those of training, whose memory the next step needs, until others have come and gone too.
class Store {
 public:
  igc_train* take(const std::string& owner, const std::string& key, const std::vector<igc_layer>& layers,
                  const int64_t* shape, bool maps) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (size_t i = idle_.size(); i-- > 0;)
        if (idle_[i].key == key && idle_[i].owner == owner) {
          igc_train* net = idle_[i].net;
          idle_.erase(idle_.begin() + i);
          return net;
        }
    }
    igc_train* net = nullptr;
    if (igc_train_create(layers.data(), (int64_t)layers.size(), (int32_t)shape[1], (int32_t)shape[2],
                         (int32_t)shape[3], maps, &net))
      throw std::runtime_error(std::string("igc_body: ") + igc_message());
    return net;
  }

  void give_back(const std::string& owner, const std::string& key, bool trains, igc_train* net) {
    if (!net) return;
    std::vector<igc_train*> useless;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (released_.count(owner)) {
        useless.push_back(net);
      } else {
        idle_.push_back({owner, key, trains, net, igc_train_bytes(net), returns_[trains]++});
        collect_old(trains, useless);
      }
    }
    for (igc_train* one : useless) igc_train_free(one);
  }

  int64_t idle_bytes() {
    std::lock_guard<std::mutex> lock(mutex_);
    int64_t bytes = 0;
    for (const Idle& idle : idle_) bytes += idle.bytes;
    return bytes;
  }

  // The owner is gone: what is in use now is freed when it comes back.
  void release(const std::string& owner) {
    std::vector<igc_train*> useless;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      released_.insert(owner);
      for (size_t i = idle_.size(); i-- > 0;)
        if (idle_[i].owner == owner) remove(i, useless);
    }
    for (igc_train* one : useless) igc_train_free(one);
  }

 private:
  static constexpr int64_t kIdleBytes = (int64_t)256 << 20,
                           kPatience = 16;  // returns of other nets of training

  struct Idle {
    std::string owner, key;
    bool trains;
    igc_train* net;
    int64_t bytes, returned;
  };

  void remove(size_t i, std::vector<igc_train*>& useless) {
    useless.push_back(idle_[i].net);
    idle_.erase(idle_.begin() + i);
  }

  void collect_old(bool trains, std::vector<igc_train*>& useless) {
    int64_t bytes = 0;
    for (const Idle& idle : idle_) bytes += idle.trains == trains ? idle.bytes : 0;
    for (size_t i = 0; i + 1 < idle_.size() && bytes > kIdleBytes;) {  // the first has waited longest
      if (idle_[i].trains == trains && returns_[trains] - idle_[i].returned > (trains ? kPatience : 1)) {
        bytes -= idle_[i].bytes;
        remove(i, useless);
      } else {
        i++;
      }
    }
  }

  std::mutex mutex_;
  std::vector<Idle> idle_;
  std::set<std::string> released_;
  int64_t returns_[2] = {0, 0};
};

Store& store() {
  static Store* const the_store = new Store;  // MXNet's threads may outlive static objects
  return *the_store;
}

std::string owner_of(const Attributes& attributes) {
  const auto found = attributes.find("owner");
  return found == attributes.end() ? "" : found->second;
}

// A net infers at any size of image, and trains at one.
std::string key_of(bool trains, const std::string& layers, const int64_t* shape, bool maps) {
  std::ostringstream key;
  key << trains << ' ' << maps << ' ' << (igc_isa() ? igc_isa() : "") << ' ' << shape[1] << ' ';
  if (trains) key << shape[2] << ' ' << shape[3] << ' ';
  key << layers;
  return key.str();
}

void check(int status) {
  if (status) throw std::runtime_error(std::string("igc_body: ") + igc_message());
}

// inputs: data, parameters, moving statistics
struct Arrays {
  std::vector<float*> parameters, running;
  Arrays(std::vector<MXTensor>& inputs, const std::vector<igc_layer>& layers) {
    const size_t n_running = moving_statistics_of(layers);
    for (size_t i = 1; i < inputs.size(); i++)
      (i < inputs.size() - n_running ? parameters : running).push_back(inputs[i].data<float>());
  }
};

class BodyState : public mxnet::ext::CustomStatefulOp {
 public:
  explicit BodyState(const Attributes& attributes)
      : text_(attributes.at("layers")),
        owner_(owner_of(attributes)),
        layers_(layers_of(attributes)),
        data_gradient_(flag(attributes, "data_gradient", true)),
        maps_(flag(attributes, "maps", false)) {}
  ~BodyState() override { store().give_back(owner_, key_, true, net_); }

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const mxnet::ext::OpResource&) override {
    MXTensor& data = inputs->at(0);
    const std::string key = key_of(true, text_, data.shape.data(), maps_);
    if (key != key_) {
      store().give_back(owner_, key_, true, net_);
      net_ = nullptr;
      key_ = key;
      net_ = store().take(owner_, key, layers_, data.shape.data(), maps_);
    }
    Arrays arrays(*inputs, layers_);
    check(igc_train_forward(net_, data.data<float>(), data.shape[0], arrays.parameters.data(),
                            arrays.running.data(), outputs->at(0).data<float>(), 0));
    return MX_SUCCESS;
  }

  // inputs: gradient of the output, inputs of forward, its output; outputs: a gradient for each input.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                         const mxnet::ext::OpResource&) override {
    Arrays gradients(*outputs, layers_);
    check(igc_train_backward(net_, inputs->at(1).data<float>(), inputs->at(0).data<float>(),
                             gradients.parameters.data(),
                             data_gradient_ ? outputs->at(0).data<float>() : nullptr, 0));
    return MX_SUCCESS;
  }

 private:
  const std::string text_, owner_;
  const std::vector<igc_layer> layers_;
  const bool data_gradient_, maps_;
  std::string key_;
  igc_train* net_ = nullptr;
};

MXReturnValue parse(const Attributes& attributes, int* n_inputs, int* n_outputs) {
  const std::vector<igc_layer>& layers = layers_of(attributes);
  *n_inputs = 1;
  for (const igc_layer& layer : layers)
    *n_inputs += layer.kind == IGC_MAX_POOL ? 0 : layer.normalized ? 5 : 1;
  *n_outputs = 1;
  return MX_SUCCESS;
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (int& type : *in) {
    if (type == -1) type = mxnet::ext::kFloat32;
    if (type != mxnet::ext::kFloat32) {
      throw std::invalid_argument("igc_body: arrays must be float32");
    }
  }
  out->at(0) = mxnet::ext::kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes& attributes, std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  typedef std::vector<unsigned int> Shape;
  const std::vector<igc_layer>& layers = layers_of(attributes);
  const Shape& data = in->at(0);
  if (data.size() != 4 || data[0] == 0) {
    throw std::invalid_argument(
        "igc_body: data must have four axes (batch, channels, height, width) and at least one image");
  }
  std::vector<Shape> values = {{data[1], data[2], data[3]}};
  std::vector<Shape> wanted = {data};
  for (const igc_layer& l : layers) {
    if (l.input < 0 || l.input >= (int)values.size() || l.groups < 1 || l.channels < 1 || l.kernel < 1 ||
        l.stride < 1) {
      throw std::invalid_argument("igc_body: attribute layers: numbers that make no layer");
    }
    const unsigned int n = l.channels, k = l.kernel, s = l.stride;
    const Shape& from = values[l.input];
    if (l.kind != IGC_MAX_POOL) wanted.push_back({n, from[0] / l.groups, k, k});
    if (l.normalized) wanted.insert(wanted.end(), 2, {n});
    values.push_back({n, (from[1] + s - 1) / s, (from[2] + s - 1) / s});
  }
  for (const igc_layer& l : layers)
    if (l.normalized) wanted.insert(wanted.end(), 2, {(unsigned int)l.channels});
  for (size_t i = 0; i < wanted.size(); i++) {
    Shape& given = in->at(i);
    if (given.size() == 0) given = wanted[i];
    if (given != wanted[i]) {
      throw std::invalid_argument("igc_body: input " + std::to_string(i) +
                                  " has another shape than its layer says");
    }
  }
  out->at(0) = {data[0], values.back()[0]};
  if (flag(attributes, "maps", false))
    out->at(0).insert(out->at(0).end(), values.back().begin() + 1, values.back().end());
  return MX_SUCCESS;
}

MXReturnValue moving_statistics(const Attributes& attributes, std::vector<int>* inputs) {
  int n_inputs, n_outputs;
  parse(attributes, &n_inputs, &n_outputs);
  for (int i = n_inputs - (int)moving_statistics_of(layers_of(attributes)); i < n_inputs; i++)
    inputs->push_back(i);
  return MX_SUCCESS;
}

MXReturnValue create_state(const Attributes& attributes, const mxnet::ext::MXContext&,
                           const std::vector<std::vector<unsigned int>>&, const std::vector<int>,
                           mxnet::ext::CustomStatefulOp** state) {
  *state = mxnet::ext::CustomStatefulOp::create<BodyState>(attributes);
  return MX_SUCCESS;
}

void infer(const std::string& owner, const std::string& text, const std::vector<igc_layer>& layers, bool maps,
           const int64_t* shape, const float* x, const float* const* parameters, const float* const* running,
           float* y) {
  const std::string key = key_of(false, text, shape, maps);
  igc_train* const net = store().take(owner, key, layers, shape, maps);
  const int status =
      igc_train_infer(net, x, shape[0], (int32_t)shape[2], (int32_t)shape[3], parameters, running, y, 0);
  store().give_back(owner, key, false, net);
  check(status);
}

MXReturnValue infer_operator(const Attributes& attributes, std::vector<MXTensor>* inputs,
                             std::vector<MXTensor>* outputs, const mxnet::ext::OpResource&) {
  MXTensor& data = inputs->at(0);
  const std::vector<igc_layer>& layers = layers_of(attributes);
  const Arrays arrays(*inputs, layers);
  infer(owner_of(attributes), attributes.at("layers"), layers, flag(attributes, "maps", false),
        data.shape.data(), data.data<float>(), arrays.parameters.data(), arrays.running.data(),
        outputs->at(0).data<float>());
  return MX_SUCCESS;
}

// A fully connected layer. Sums in parts are what a compiler makes vectors of.
void dense(const float* x, int64_t batch, int64_t inputs, const float* weight, const float* bias,
           int64_t outputs, float* y) {
  constexpr int kParts = 16;
  for (int64_t i = 0; i < batch * outputs; i++) {
    const float *row = weight + i % outputs * inputs, *from = x + i / outputs * inputs;
    float parts[kParts] = {};
    int64_t at = 0;
    for (; at + kParts <= inputs; at += kParts)
      for (int k = 0; k < kParts; k++) parts[k] += row[at + k] * from[at + k];
    float sum = 0;
    for (; at < inputs; at++) sum += row[at] * from[at];
    for (int k = 0; k < kParts; k++) sum += parts[k];
    y[i] = bias ? sum + bias[i % outputs] : sum;
  }
}

}  // namespace

REGISTER_OP(igc_body_train)
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setMutateInputs(moving_statistics)
    .setCreateOpState(create_state, "cpu");

REGISTER_OP(igc_body_infer)
    .setForward(infer_operator, "cpu")
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setMutateInputs(moving_statistics);

// igc_body_infer at once, in the caller's thread: MXNet's engine costs as much as a small network does on one image, and
// beside other busy processes many times as much.
// shape: of the data. arrays: MXNet's handles of the output and the inputs; with scores > 0 then of the weight and, with
// has_bias, the bias of a fully connected layer that makes so many scores of the result, which is batch x channels.
// `wait` and `address` are MXNDArrayWaitToRead and MXNDArrayGetData, which also puts in order what oneDNN has left in
// blocks. Returns null, or what was wrong, for the calling thread; an empty text where MXNet knows it.
extern "C" __attribute__((visibility("default"))) const char* igc_body_call(
    const char* owner, const char* layers, int maps, const int64_t* shape, void* const* arrays,
    int64_t n_arrays, int64_t scores, int has_bias, int (*wait)(void*), int (*address)(void*, void**)) {
  thread_local std::string message;
  thread_local std::vector<float> means;
  try {
    const std::vector<igc_layer>& parsed = layers_of({{"layers", layers}});
    std::vector<float*> at(n_arrays);
    for (int64_t i = 0; i < n_arrays; i++) {
      void* found = nullptr;
      if (wait(arrays[i]) || address(arrays[i], &found)) return "";
      at[i] = static_cast<float*>(found);
    }
    const int64_t channels = parsed.back().channels;
    float* const* const last = at.data() + n_arrays - (scores ? 1 + has_bias : 0);
    if (scores) means.resize(shape[0] * channels);
    infer(owner, layers, parsed, maps != 0, shape, at[1], at.data() + 2, last - moving_statistics_of(parsed),
          scores ? means.data() : at[0]);
    if (scores) dense(means.data(), shape[0], channels, last[0], has_bias ? last[1] : nullptr, scores, at[0]);
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

extern "C" __attribute__((visibility("default"))) void igc_body_release(const char* owner) {
  store().release(owner);
}

extern "C" __attribute__((visibility("default"))) int64_t igc_body_idle_bytes() {
  return store().idle_bytes();
}

MXReturnValue initialize(int) { return MX_SUCCESS; }
