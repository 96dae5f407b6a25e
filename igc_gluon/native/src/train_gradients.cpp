// train_gradients.cpp - gradients of weights, and batch normalization's way back.
#include "train_pass.h"

namespace igc {

void Pass::stage_weights(const TrainStage& stage, TrainSlice& slice, Plane x, Plane d, int width, int rows) {
  if (stage.work == StageWork::Conv) return conv_weights(stage, slice, x, d, width, rows);
  if (stage.work == StageWork::Pointwise) return pointwise_weights(stage, slice, x, d, width, rows);
  FoursTask task = {};
  task.x = x.at;
  task.x_row = x.row;
  task.x_pixel = x.pixel;
  task.d = d.at;
  task.d_row = d.row;
  task.d_pixel = d.pixel;
  task.w = slice.weights.get() + stage.offset;
  task.vectors = stage.out.positions / 16;
  task.width = width;
  train_.fours_weights(task, rows);
}

void Pass::pointwise_weights(const TrainStage& stage, TrainSlice& slice, Plane x, Plane d, int width,
                             int rows) {
  PointwiseWeightTask task = {};
  task.x = x.at;
  task.x_row = stage.op.stride * x.row;
  task.x_pixel = stage.op.stride * x.pixel;
  task.d = d.at;
  task.d_row = d.row;
  task.d_pixel = d.pixel;
  task.width = width;
  for (const PointwisePlan::Block& block : stage.pointwise.blocks) {
    task.segments = stage.pointwise.segments.data() + block.first_segment;
    task.n_segments = block.n_segments;
    std::copy(block.offset, block.offset + 4, task.offset);
    task.w = slice.weights.get() + stage.offset + block.weights;
    train_.pointwise_weights(block.split, block.n)(task, 0, rows);
  }
}

void Pass::conv_weights(const TrainStage& stage, TrainSlice& slice, Plane x, Plane d, int width, int rows) {
  ConvWeightTask task = {};
  task.x_row = stage.op.stride * x.row;
  task.x_line = x.row;
  task.x_step = stage.op.stride * x.pixel;
  task.x_tap = x.pixel;
  task.d_row = d.row;
  task.d_pixel = d.pixel;
  task.kernel_h = task.kernel_w = stage.op.kernel_h;
  task.width = width;
  const float* corner = x.at - stage.conv.pad_h * x.row - stage.conv.pad_w * x.pixel;
  for (const ConvPlan::Block& block : stage.conv.blocks) {
    task.x = corner + block.x_offset;
    task.d = d.at + block.y_offset;
    task.w = slice.weights.get() + stage.offset + block.weights;
    task.inputs = block.inputs;
    train_.conv_weights(block.w, block.vectors)(task, 0, rows);
  }
}

void Pass::add_to_image(const TrainLayer& layer, const float* result, float* dx, int begin, int end) {
  const Shape& shape = plan_.shapes[0];
  const int positions = (plan_.values[0].layout.positions + 15) / 16 * 16;
  for (int c = 0; c < shape.channels; c++)
    for (int r = begin; r < end; r++) {
      float* to = dx + ((ptrdiff_t)c * shape.height + r) * shape.width;
      const float* from =
          result + (ptrdiff_t)(r - begin) * shape.width * positions + plan_.image_positions[c];
      for (int i = 0; i < shape.width; i++) {
        const float v = from[(ptrdiff_t)i * positions];
        to[i] = layer.first_of_input ? v : to[i] + v;
      }
    }
}

void Pass::give_weights(const TrainLayer& layer, float* const* gradients) {
  for (const TrainStage& stage : layer.stages) give(*stage.weights, stage.offset, gradients[stage.parameter]);
}

void Pass::give(const Repacked& weights, size_t offset, float* gradient) {
  if (!gradient) return;
  const std::vector<int32_t>& source = weights.packing.weights;
  constexpr size_t kAtOnce = 4096;
  parallel(team_, (source.size() + kAtOnce - 1) / kAtOnce, [&](int, int64_t part) {
    for (size_t k = part * kAtOnce; k < std::min(source.size(), (part + 1) * kAtOnce); k++) {
      if (source[k] < 0) continue;
      float total = space_.slices[0].weights[offset + k];
      for (int s = 1; s < n_slices_; s++) total += space_.slices[s].weights[offset + k];
      gradient[source[k]] = total;
    }
  });
}

void Pass::normalize_back(int index, float* const* gradients) {
  const TrainValue& value = plan_.values[index];
  normalize_back(plan_.layers[value.producer], &TrainSlice::dot, gradients);
  if (value.shortcut_layer >= 0)
    normalize_back(plan_.layers[value.shortcut_layer], &TrainSlice::dot2, gradients);
}

void Pass::normalize_back(const TrainLayer& layer, std::vector<double> TrainSlice::*dots,
                          float* const* gradients) {
  if (layer.pool) return;
  LayerState& of_layer = state(layer);
  const double count = (double)space_.batch * layer.out.height * layer.out.width;
  float* dgamma = gradients[layer.gamma_parameter()];
  float* dbeta = gradients[layer.gamma_parameter() + 1];
  for (int p = 0; p < layer.layout.positions; p++) {
    const int channel = layer.layout.channel_at[p];
    if (channel < 0) continue;
    double sum = 0, dot = 0;
    for (int s = 0; s < n_slices_; s++) {
      sum += space_.slices[s].sum[p];
      dot += (space_.slices[s].*dots)[p];
    }
    const double inverse = count > 1 ? 1 / std::sqrt(of_layer.variance[p] + layer.last().epsilon) : 0,
                 ka = of_layer.gamma[p] * inverse;
    const double kb = -ka * inverse * inverse * dot / count;
    of_layer.ka[p] = (float)ka;
    of_layer.kb[p] = (float)kb;
    // From the rounded factors: du must sum to zero, or what is left over adds up in the gradients of
    // weights.
    of_layer.kc[p] = (float)(-of_layer.ka[p] * sum / count - (double)of_layer.kb[p] * of_layer.mean[p]);
    if (dgamma) dgamma[channel] = (float)(dot * inverse);
    if (dbeta) dbeta[channel] = (float)sum;
  }
}

}  // namespace igc
