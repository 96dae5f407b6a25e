// api.cpp - the C interface: checks arguments, and lets no exception out.
#include <algorithm>
#include <string>

#include "guard.h"
#include "isa.h"
#include "net.h"

struct igc_net {
  igc::Net net;
};

using igc::fail;
using igc::guarded;
using igc::require;

extern "C" {

int igc_abi(void) { return IGC_ABI; }

const char* igc_message(void) { return igc::message().c_str(); }

int igc_threads(void) { return igc::default_threads(); }

int igc_use_isa(const char* name) {
  return guarded([&] { igc::use_kernels(igc::choose_kernels(name)); });
}

const char* igc_isa(void) {
  const char* name = nullptr;
  guarded([&] { name = igc::current_kernels().name; });
  return name;
}

int igc_net_create(const igc_op* ops, int64_t n_ops, const float* weights, int64_t n_weights,
                   int32_t channels, int32_t height, int32_t width, igc_net** net) {
  return igc_net_create_in(IGC_FLOAT32, ops, n_ops, weights, n_weights, nullptr, 0, channels, height, width,
                           net);
}

int igc_net_create_in(int32_t precision, const igc_op* ops, int64_t n_ops, const float* weights,
                      int64_t n_weights, const float* ranges, int64_t n_ranges, int32_t channels,
                      int32_t height, int32_t width, igc_net** net) {
  if (!net) return fail(IGC_BAD_ARGUMENT, "net is null");
  *net = nullptr;
  return guarded([&] {
    igc::Weights packed;
    *net =
        new igc_net{igc::Net(igc::plan_net(igc::current_kernels(), ops, n_ops, weights, n_weights, channels,
                                           height, width, packed, {precision, ranges, n_ranges}))};
  });
}

int igc_has(int32_t precision) {
  int has = 0;
  guarded([&] {
    const igc::ReducedUnits units = igc::reduced_units(igc::current_kernels(), precision);
    has = precision == IGC_FLOAT32 || units.vectors;
    if (!has) fail(IGC_NO_SUCH_ISA, units.why.c_str());
  });
  return has;
}

const char* igc_unit_name(int32_t precision, int32_t unit) {
  const char* name = nullptr;
  static thread_local std::string both;
  guarded([&] {
    require(precision == IGC_HALF || precision == IGC_INT8, "precision must be half or int8");
    require(unit >= IGC_ON_VECTORS && unit <= IGC_ON_BOTH, "unit must be vectors, AMX or both");
    const igc::ReducedUnits units = igc::reduced_units(igc::current_kernels(), precision);
    if (unit == IGC_ON_BOTH && units.amx)
      name = (both = std::string(units.vectors->unit) + " + " + units.amx->unit).c_str();
    else if (unit != IGC_ON_VECTORS)
      name = units.amx ? units.amx->unit : nullptr;
    else
      name = units.fast ? units.vectors->unit : nullptr;
    if (!name) fail(IGC_NO_SUCH_ISA, (unit == IGC_ON_VECTORS ? units.why : units.why_amx).c_str());
  });
  return name;
}

int64_t igc_net_reduced_ops(const igc_net* net, uint8_t* units) {
  if (!net) return 0;
  const std::vector<uint8_t>& ops = net->net.plan->reduced_ops;
  if (units) std::copy(ops.begin(), ops.end(), units);
  return std::count_if(ops.begin(), ops.end(), [](uint8_t unit) { return unit != IGC_IN_FLOAT32; });
}

int igc_net_output_shape(const igc_net* net, int32_t shape[3]) {
  return guarded([&] {
    require(net && shape, "net or shape is null");
    const igc::Storage& out = net->net.plan->storages[net->net.plan->output];
    shape[0] = net->net.plan->out_channels;
    shape[1] = out.height;
    shape[2] = out.width;
  });
}

int64_t igc_net_multiply_adds(const igc_net* net) { return net ? net->net.plan->multiply_adds : 0; }

int igc_net_run(igc_net* net, const float* x, int64_t batch, float* y, int32_t threads) {
  return guarded([&] { igc::run_net(net ? &net->net : nullptr, x, batch, y, threads); });
}

void igc_net_free(igc_net* net) { delete net; }

int igc_layout(int32_t groups, int32_t members, int32_t* positions, int32_t* channel_at) {
  return guarded([&] {
    require(positions, "positions is null");
    require(groups >= 1 && members >= 1 && (int64_t)groups * members <= (1 << 20),
            "groups and members must be 1 or more, their product at most 1048576");
    const igc::Layout layout = igc::Layout::interleaved(groups, members, groups > 1 ? 4 : 1);
    *positions = layout.positions;
    if (channel_at) std::copy(layout.channel_at.begin(), layout.channel_at.end(), channel_at);
  });
}

}  // extern "C"
