// body_op.cpp - MXNet operators on igc_train.h, loaded by mx.library.load: a whole network body is one
// operator.
//
//   igc_body_train(data, parameters..., moving statistics...)  batch statistics; updates the moving ones; backward
//   igc_body_infer(data, parameters..., moving statistics...)  moving statistics; no backward
//
// Both give (batch, channels) where the last op is a mean, else (batch, channels, height, width). The attribute `ops`
// holds the members of each igc_op but its offsets, separated by commas, ops by semicolons. Parameters in the order of
// igc_train.h, then mean and variance of every normalized op. What is kept for the next call, folded weights and memory, belongs
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

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "../../include/igc_train.h"
#include "mxnet/lib_api.h"

using mxnet::ext::MX_SUCCESS;
using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
typedef std::unordered_map<std::string, std::string> Attributes;

namespace {

std::vector<igc_op> parse_ops(const std::string& text) {
  std::vector<igc_op> ops;
  std::istringstream all(text);
  for (std::string one; std::getline(all, one, ';');) {
    std::istringstream numbers(one);
    igc_op op = {};
    char comma;
    for (int32_t* member :
         {&op.kind, &op.input, &op.residual, &op.channels, &op.groups, &op.kernel_h, &op.kernel_w, &op.stride,
          &op.pad_h, &op.pad_w, &op.activation, &op.normalized, &op.permute, &op.reorder})
      numbers >> *member >> comma;
    numbers >> op.epsilon >> comma >> op.momentum;
    if (!numbers || numbers.peek() != EOF) throw std::invalid_argument("igc_body: '" + one + "' is no op");
    ops.push_back(op);
  }
  if (ops.empty()) throw std::invalid_argument("igc_body: no ops");
  return ops;
}

bool flag(const Attributes& attributes, const char* name, bool otherwise) {
  const auto found = attributes.find(name);
  return found == attributes.end() ? otherwise : found->second != "0";
}

size_t moving_statistics_of(const std::vector<igc_op>& ops) {
  size_t n = 0;
  for (const igc_op& op : ops) n += op.normalized ? 2 : 0;
  return n;
}

// MXNet asks for the number of inputs hundreds of times a step: the last answer is kept.
const std::vector<igc_op>& ops_of(const Attributes& attributes) {
  thread_local std::string text;
  thread_local std::vector<igc_op> ops;
  const auto found = attributes.find("ops");
  if (found == attributes.end()) throw std::invalid_argument("igc_body needs the attribute ops");
  if (ops.empty() || found->second != text) {
    ops = parse_ops(found->second);
    text = found->second;
  }
  return ops;
}

// Nets are costly to make and hold packed weights and the activations of a batch: those that are not in use wait here for the next call of
// their owner, a network. Those of inference wait while all of them together take kIdleBytes at most, the last one
// always; those of training, whose memory the next step needs, until others have come and gone too.
class Store {
 public:
  igc_train* take(const std::string& owner, const std::string& key, const std::vector<igc_op>& ops,
                  const int64_t* shape) {
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
    if (igc_train_create(ops.data(), (int64_t)ops.size(), (int32_t)shape[1], (int32_t)shape[2],
                         (int32_t)shape[3], &net))
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
    bool many = false;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      released_.insert(owner);
      for (size_t i = idle_.size(); i-- > 0;)
        if (idle_[i].owner == owner) {
          released_bytes_ += idle_[i].bytes;
          remove(i, useless);
        }
      many = released_bytes_ >= kWorthTrimming;
      if (many) released_bytes_ = 0;
    }
    for (igc_train* one : useless) igc_train_free(one);
#ifdef __GLIBC__
    // The parameters, MXNet's, go at about this time, and malloc keeps what is freed between other things.
    if (many) malloc_trim(0);
#endif
  }

 private:
  static constexpr int64_t kIdleBytes = (int64_t)256 << 20, kWorthTrimming = (int64_t)16 << 20,
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
  int64_t returns_[2] = {0, 0}, released_bytes_ = 0;
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
std::string key_of(bool trains, const std::string& ops, const int64_t* shape) {
  std::ostringstream key;
  key << trains << ' ' << (igc_isa() ? igc_isa() : "") << ' ' << shape[1] << ' ';
  if (trains) key << shape[2] << ' ' << shape[3] << ' ';
  key << ops;
  return key.str();
}

void check(int status) {
  if (status) throw std::runtime_error(std::string("igc_body: ") + igc_message());
}

// inputs: data, parameters, moving statistics
struct Arrays {
  std::vector<float*> parameters, running;
  Arrays(std::vector<MXTensor>& inputs, const std::vector<igc_op>& ops) {
    const size_t n_running = moving_statistics_of(ops);
    for (size_t i = 1; i < inputs.size(); i++)
      (i < inputs.size() - n_running ? parameters : running).push_back(inputs[i].data<float>());
  }
};

class BodyState : public mxnet::ext::CustomStatefulOp {
 public:
  explicit BodyState(const Attributes& attributes)
      : text_(attributes.at("ops")),
        owner_(owner_of(attributes)),
        ops_(ops_of(attributes)),
        data_gradient_(flag(attributes, "data_gradient", true)) {}
  ~BodyState() override { store().give_back(owner_, key_, true, net_); }

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const mxnet::ext::OpResource&) override {
    MXTensor& data = inputs->at(0);
    const std::string key = key_of(true, text_, data.shape.data());
    if (key != key_) {
      store().give_back(owner_, key_, true, net_);
      net_ = nullptr;
      key_ = key;
      net_ = store().take(owner_, key, ops_, data.shape.data());
    }
    Arrays arrays(*inputs, ops_);
    check(igc_train_forward(net_, data.data<float>(), data.shape[0], arrays.parameters.data(),
                            arrays.running.data(), outputs->at(0).data<float>(), 0));
    return MX_SUCCESS;
  }

  // inputs: gradient of the output, inputs of forward, its output; outputs: a gradient for each input.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                         const mxnet::ext::OpResource&) override {
    Arrays gradients(*outputs, ops_);
    check(igc_train_backward(net_, inputs->at(1).data<float>(), inputs->at(0).data<float>(),
                             gradients.parameters.data(),
                             data_gradient_ ? outputs->at(0).data<float>() : nullptr, 0));
    return MX_SUCCESS;
  }

 private:
  const std::string text_, owner_;
  const std::vector<igc_op> ops_;
  const bool data_gradient_;
  std::string key_;
  igc_train* net_ = nullptr;
};

MXReturnValue parse(const Attributes& attributes, int* n_inputs, int* n_outputs) {
  const std::vector<igc_op>& ops = ops_of(attributes);
  *n_inputs = 1;
  for (const igc_op& op : ops) *n_inputs += op.kind != IGC_CONV ? 0 : op.normalized ? 5 : 1;
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
  const std::vector<igc_op>& ops = ops_of(attributes);
  const Shape& data = in->at(0);
  if (data.size() != 4 || data[0] == 0) {
    throw std::invalid_argument(
        "igc_body: data must have four axes (batch, channels, height, width) and at least one image");
  }
  std::vector<Shape> values = {{data[1], data[2], data[3]}};
  std::vector<Shape> wanted = {data};
  for (const igc_op& op : ops) {
    const unsigned int k = op.kernel_h, border = 2 * op.pad_h, s = op.stride, n = op.channels;
    const Shape from = op.input < 0 || op.input >= (int)values.size() ? Shape{0, 0, 0} : values[op.input];
    if (op.groups < 1 || op.channels < 1 || op.kernel_h < 1 || op.stride < 1 || op.pad_h < 0 ||
        std::min(from[1], from[2]) + border < std::max(k, 1u)) {
      throw std::invalid_argument("igc_body: attribute ops: numbers that make no op");
    }
    if (op.kind == IGC_CONV) wanted.push_back({n, from[0] / op.groups, k, (unsigned int)op.kernel_w});
    if (op.normalized) wanted.insert(wanted.end(), 2, {n});
    values.push_back({n, (from[1] + border - k) / s + 1, (from[2] + border - k) / s + 1});
  }
  for (const igc_op& op : ops)
    if (op.normalized) wanted.insert(wanted.end(), 2, {(unsigned int)op.channels});
  for (size_t i = 0; i < wanted.size(); i++) {
    Shape& given = in->at(i);
    if (given.size() == 0) given = wanted[i];
    if (given != wanted[i]) {
      throw std::invalid_argument("igc_body: input " + std::to_string(i) +
                                  " has another shape than its op says");
    }
  }
  out->at(0) = {data[0], values.back()[0]};
  if (ops.back().kind != IGC_MEAN_POOL)
    out->at(0).insert(out->at(0).end(), values.back().begin() + 1, values.back().end());
  return MX_SUCCESS;
}

MXReturnValue moving_statistics(const Attributes& attributes, std::vector<int>* inputs) {
  int n_inputs, n_outputs;
  parse(attributes, &n_inputs, &n_outputs);
  for (int i = n_inputs - (int)moving_statistics_of(ops_of(attributes)); i < n_inputs; i++)
    inputs->push_back(i);
  return MX_SUCCESS;
}

MXReturnValue create_state(const Attributes& attributes, const mxnet::ext::MXContext&,
                           const std::vector<std::vector<unsigned int>>&, const std::vector<int>,
                           mxnet::ext::CustomStatefulOp** state) {
  *state = mxnet::ext::CustomStatefulOp::create<BodyState>(attributes);
  return MX_SUCCESS;
}

void infer(const std::string& owner, const std::string& text, const std::vector<igc_op>& ops,
           const int64_t* shape, const float* x, const float* const* parameters, const float* const* running,
           float* y) {
  const std::string key = key_of(false, text, shape);
  igc_train* const net = store().take(owner, key, ops, shape);
  const int status =
      igc_train_infer(net, x, shape[0], (int32_t)shape[2], (int32_t)shape[3], parameters, running, y, 0);
  store().give_back(owner, key, false, net);
  check(status);
}

MXReturnValue infer_operator(const Attributes& attributes, std::vector<MXTensor>* inputs,
                             std::vector<MXTensor>* outputs, const mxnet::ext::OpResource&) {
  MXTensor& data = inputs->at(0);
  const std::vector<igc_op>& ops = ops_of(attributes);
  const Arrays arrays(*inputs, ops);
  infer(owner_of(attributes), attributes.at("ops"), ops, data.shape.data(), data.data<float>(),
        arrays.parameters.data(), arrays.running.data(), outputs->at(0).data<float>());
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
    const char* owner, const char* ops, const int64_t* shape, void* const* arrays, int64_t n_arrays,
    int64_t scores, int has_bias, int (*wait)(void*), int (*address)(void*, void**)) {
  thread_local std::string message;
  thread_local std::vector<float> means;
  try {
    const std::vector<igc_op>& parsed = ops_of({{"ops", ops}});
    std::vector<float*> at(n_arrays);
    for (int64_t i = 0; i < n_arrays; i++) {
      void* found = nullptr;
      if (wait(arrays[i]) || address(arrays[i], &found)) return "";
      at[i] = static_cast<float*>(found);
    }
    const int64_t channels = parsed.back().channels;
    float* const* const last = at.data() + n_arrays - (scores ? 1 + has_bias : 0);
    if (scores) means.resize(shape[0] * channels);
    infer(owner, ops, parsed, shape, at[1], at.data() + 2, last - moving_statistics_of(parsed),
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
