// train_check.cpp - reads a list of ops for training: which of them make one layer, what is added where.
#include "check.h"
#include "train.h"

namespace igc {
namespace {

class TrainChecker {
 public:
  TrainChecker(TrainPlan& plan, const igc_op* ops, int n) : plan_(plan), ops_(ops), n_(n) {}

  void check() {
    std::vector<TrainStage> stages;  // of the layer that is not complete yet
    for (int i = 0; i < n_; i++) {
      const igc_op& op = ops_[i];
      check_form(i);
      TrainValue& value = plan_.values[i + 1];
      const bool pool = op.kind == IGC_MAX_POOL;
      require(stages.empty() || (!pool && op.input == i && op.kernel_h == 1 && op.stride == 1), i,
              "what is not normalized must be followed by a 1x1 convolution of it with stride 1");
      require(stages.empty() || op.residual != i, i, "what is not normalized cannot be added");
      TrainStage stage;
      stage.op = op;
      stage.inputs = plan_.values[op.input].shape.channels;
      stage.weight_size = pool ? 0 : (size_t)weights_of(op, stage.inputs);
      stage.parameter = (int)plan_.parameter_sizes.size();
      if (!pool) plan_.parameter_sizes.push_back(stage.weight_size);
      if (stages.empty()) plan_.values[op.input].readers.push_back((int)plan_.layers.size());
      stages.push_back(std::move(stage));
      value.inner = !op.normalized && !pool;
      if (value.inner) continue;
      value.producer = (int)plan_.layers.size();
      TrainLayer layer;
      layer.stages = std::move(stages);
      stages.clear();
      layer.in = plan_.values[layer.lead().input].shape;
      layer.out = value.shape;
      layer.pool = pool;
      layer.running = (int)plan_.moving_sizes.size();
      layer.own_value = layer.value = i + 1;
      if (op.normalized)
        for (std::vector<size_t>* sizes : {&plan_.parameter_sizes, &plan_.moving_sizes})
          sizes->insert(sizes->end(), 2, (size_t)op.channels);
      plan_.layers.push_back(std::move(layer));
    }
    require(stages.empty(), n_ - 1, "the last convolution must be normalized");
    for (int v = 1; v <= n_; v++)
      if (!plan_.values[v].inner && ops_[v - 1].residual >= 0) check_sum(v, ops_[v - 1].residual);
    for (int v = 1; v <= n_; v++) {
      const TrainValue& value = plan_.values[v];
      if (value.inner) continue;
      require(v == n_ || !value.readers.empty() || layer_of(v).value != v, v - 1, "nothing uses its value");
      // A sum is stored by its first reader, which must come before what adds it on as it is.
      require(value.sums.size() <= 1, v - 1, "is added twice");
      for (int sum : value.sums)
        require(!value.readers.empty() && value.readers[0] < plan_.values[sum].producer, v - 1,
                "is added before it is convolved");
    }
  }

 private:
  // What has kernels for training.
  void check_form(int i) {
    const igc_op& op = ops_[i];
    require(op.kind == IGC_CONV || (op.kind == IGC_MAX_POOL && op.permute <= 1), i,
            "in training there is no kernel for its kind");
    require(op.residual != 0, i, "its residual must be the result of an earlier op");
    require(op.input == i || !plan_.values[op.input].inner, i, "its input is not normalized");
    require(op.kernel_h == op.kernel_w && op.kernel_h % 2 == 1 && op.pad_h == op.kernel_h / 2 &&
                op.pad_w == op.pad_h,
            i, "its kernel must be odd and square, padded by half of it");
    require(op.stride <= 2, i, "stride must be 1 or 2");
    require(op.residual < 0 || op.activation != IGC_RELU6, i, "there is no kernel for a sum with a ReLU6");
    require(op.normalized == 0 || op.normalized == 1, i, "normalized must be 0 or 1");
    require(op.normalized ? op.kind == IGC_CONV && op.epsilon > 0 && op.momentum >= 0 && op.momentum <= 1
                          : op.residual < 0 && op.activation == IGC_LINEAR && op.reorder <= 1,
            i,
            "a convolution that is normalized needs a positive epsilon and a momentum of 0 to 1; what is not "
            "has no "
            "sum, activation or reorder");
  }

  TrainLayer& layer_of(int v) { return plan_.layers[plan_.values[v].producer]; }

  // Value v is a sum with value r. What nothing else reads is added as it is normalized and never stored: a
  // shortcut.
  void check_sum(int v, int r) {
    TrainValue &other = plan_.values[r], &value = plan_.values[v];
    require(!other.inner, v - 1, "what is not normalized cannot be added");
    require(other.shape == value.shape, v - 1, "its residual has another shape than its output");
    value.sum = true;
    if (!other.readers.empty()) {
      value.shortcut_value = r;
      other.sums.push_back(v);
      return;
    }
    require(ops_[r - 1].activation == IGC_LINEAR && ops_[r - 1].residual < 0, v - 1,
            "nothing convolves its residual, which must then be a layer without activation or sum");
    require(layer_of(r).value == r, v - 1, "a shortcut can be added once");
    value.shortcut_layer = other.producer;
    layer_of(r).value = v;
  }

  TrainPlan& plan_;
  const igc_op* ops_;
  const int n_;
};

}  // namespace

std::unique_ptr<TrainPlan> check_training(const igc_op* ops, int64_t n_ops, const Shape& input) {
  auto plan = std::make_unique<TrainPlan>();
  std::vector<Shape> shapes = check_ops(ops, n_ops, input);
  plan->ops.assign(ops, ops + n_ops);
  plan->shapes = shapes;
  plan->maps = ops[n_ops - 1].kind != IGC_MEAN_POOL;
  require(plan->maps || (n_ops > 1 && ops[n_ops - 1].input == n_ops - 1), n_ops - 1,
          "must be the mean of the op before it");
  if (!plan->maps) shapes.pop_back();
  for (const Shape& shape : shapes) {
    plan->values.emplace_back();
    plan->values.back().shape = shape;
  }
  TrainChecker(*plan, ops, (int)shapes.size() - 1).check();
  choose_layouts(*plan);
  return plan;
}

}  // namespace igc
