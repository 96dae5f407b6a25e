// train_api.cpp - the C interface of igc_train.h.
#include <algorithm>

#include "guard.h"
#include "isa.h"
#include "train.h"

struct igc_train {
  igc::TrainNet
      net;  // not planned before the first forward: inference goes without, in a third of the memory
  igc::Inference inference = {};
};

using igc::fail;
using igc::guarded;
using igc::require;

namespace {

void check_call(const igc_train* net, int64_t batch, const void* x, const void* y, int32_t threads) {
  require(net, "net is null");
  require(x && y, "an array is null");
  require(batch >= 1 && batch <= ((int64_t)1 << 24), "batch must be 1 to 2^24");
  require(threads >= 0 && threads <= igc::kMostThreads, "threads must be 0 to 1024");
}

void check_all(const float* const* pointers, size_t count, const char* text) {
  require(pointers && std::all_of(pointers, pointers + count, [](const float* p) { return p != nullptr; }),
          text);
}

}  // namespace

extern "C" {

int igc_train_create(const igc_op* ops, int64_t n_ops, int32_t channels, int32_t height, int32_t width,
                     igc_train** net) {
  if (!net) return fail(IGC_BAD_ARGUMENT, "net is null");
  *net = nullptr;
  return guarded([&] {
    auto checked = igc::check_training(ops, n_ops, {channels, height, width});
    checked->kernels = &igc::current_kernels();
    *net = new igc_train{{std::move(checked), {}, {}}};
  });
}

int igc_train_check(const igc_op* ops, int64_t n_ops, int32_t channels, int32_t height, int32_t width) {
  return guarded([&] { igc::check_training(ops, n_ops, {channels, height, width}); });
}

int igc_train_forward(igc_train* net, const float* x, int64_t batch, const float* const* parameters,
                      float* const* running, float* y, int32_t threads) {
  return guarded([&] {
    check_call(net, batch, x, y, threads);
    const igc::TrainPlan& plan = *net->net.plan;
    check_all(parameters, plan.parameter_sizes.size(), "a parameter is null");
    if (running) check_all(running, plan.moving_sizes.size(), "a moving statistic is null");
    if (!plan.train)
      net->net = igc::plan_training(*plan.kernels, plan.ops.data(), (int64_t)plan.ops.size(), plan.shapes[0]);
    igc::FlushDenormals flush;
    igc::train_forward(net->net, x, batch, parameters, running, y, threads);
  });
}

int igc_train_backward(igc_train* net, const float* x, const float* dy, float* const* gradients, float* dx,
                       int32_t threads) {
  return guarded([&] {
    check_call(net, 1, x, dy, threads);
    require(net->net.workspace.ready_for_backward, "backward without a forward pass before it");
    require(gradients, "gradients is null");
    igc::FlushDenormals flush;
    igc::train_backward(net->net, x, dy, gradients, dx, threads);
  });
}

int igc_train_infer(igc_train* net, const float* x, int64_t batch, int32_t height, int32_t width,
                    const float* const* parameters, const float* const* running, float* y, int32_t threads) {
  return guarded([&] {
    check_call(net, batch, x, y, threads);
    const igc::TrainPlan& plan = *net->net.plan;
    check_all(parameters, plan.parameter_sizes.size(), "a parameter is null");
    check_all(running, plan.moving_sizes.size(), "a moving statistic is null");
    net->inference.run(plan, x, batch, height, width, parameters, running, y, threads);
  });
}

void igc_train_free(igc_train* net) { delete net; }

int64_t igc_train_bytes(const igc_train* net) {
  return net ? (int64_t)(igc::bytes_of(net->net) + net->inference.bytes()) : 0;
}

void igc_share(int64_t parts, void (*work)(void* context, int64_t part), void* context) {
  igc::parallel(igc::team_size(igc::default_threads()), parts,
                [&](int, int64_t part) { work(context, part); });
}

}  // extern "C"
