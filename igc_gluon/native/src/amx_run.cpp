// amx_run.cpp - rows of what runs on AMX, and the state of tiles: of a thread's tiles it is set here and nowhere else.
#include <algorithm>
#include <cstring>

#include "amx.h"

namespace igc {
namespace {

// The tiles of this thread, from their first use in a part of a step to its end: a thread that waits, or that the system
// switches, has none to keep.
class TileState {
 public:
  explicit TileState(const AmxKernels& kernels) : kernels_(kernels) {}
  ~TileState() {
    if (pixels_) kernels_.release();
  }
  TileState(const TileState&) = delete;
  TileState& operator=(const TileState&) = delete;
  void configure(int pixels, int words) {
    if (pixels == pixels_ && words == words_) return;
    kernels_.configure(pixels_ = pixels, words_ = words);
  }

 private:
  const AmxKernels& kernels_;
  int pixels_ = 0, words_ = 0;
};

template <int BYTES>
void copy_pixels(const uint8_t* from, ptrdiff_t step, uint8_t* to, int pixels) {
  for (int i = 0; i < pixels; i++, from += step, to += BYTES) std::memcpy(to, from, BYTES);
}

void copy_slice(const uint8_t* from, ptrdiff_t step, uint8_t* to, int bytes, int pixels) {
  if (bytes == 16) return copy_pixels<16>(from, step, to, pixels);
  if (bytes == 32) return copy_pixels<32>(from, step, to, pixels);
  for (int i = 0; i < pixels; i++, from += step, to += bytes) std::memcpy(to, from, bytes);
}

}  // namespace

void run_amx_conv(const AmxConv& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
                  float* scratch) {
  const BytePlane from(x), to(y), added(residual);

  const uint8_t* const corner = from.at - plan.pad_h * from.row - plan.pad_w * from.pixel;
  const int columns = (width - 1) * plan.stride + plan.kernel_w;
  TileState state(*plan.kernels);
  AmxTask task = {};
  static_cast<OutputRows&>(task) = output_rows(to, added, width, plan.epilogue);
  task.kernel_h = plan.kernel_h;
  task.pixels = plan.pixels;
  task.sums = plan.sums;
  const AmxConv::Block* copied = nullptr;  // whose slice lies in the scratch
  for (const AmxConv::Block& block : plan.blocks) {
    const ptrdiff_t pixel = block.slice ? 4 * block.slice : from.pixel;
    task.x = corner;
    task.x_line = block.slice ? columns * pixel : from.row;
    task.x_row = plan.stride * task.x_line;
    task.x_step = plan.stride * pixel;
    if (block.slice) {
      uint8_t* const slices = reinterpret_cast<uint8_t*>(scratch);
      const int lines = (end - begin - 1) * plan.stride + plan.kernel_h;
      const uint8_t* const first = corner + begin * plan.stride * from.row + 4 * block.slice_at;
      const bool there = copied && copied->slice_at == block.slice_at && copied->slice == block.slice;
      for (int r = 0; !there && r < lines; r++)
        copy_slice(first + r * from.row, from.pixel, slices + r * task.x_line, 4 * block.slice, columns);
      copied = &block;
      task.x = slices - begin * task.x_row;
    }
    task.inputs = plan.inputs.data() + block.first;
    task.steps = block.steps;
    task.words = block.words;
    task.weights = block.weights;
    task.scale = block.scale;
    task.bias = block.bias;
    std::copy(block.offset, block.offset + 2, task.offset);
    state.configure(plan.pixels, block.words);
    block.kernel(task, begin, end);
  }
}

void run_amx_mix(const AmxMix& plan, Plane x, Plane y, Plane residual, int width, int begin, int end) {
  const BytePlane from(x), to(y), added(residual);
  AmxMixTask task = {};
  static_cast<OutputRows&>(task) = output_rows(to, added, width, plan.epilogue);
  task.x = from.at;
  task.x_row = from.row;
  task.x_pixel = from.pixel;
  for (const AmxMix::Block& block : plan.blocks) {
    task.inputs = plan.inputs.data() + block.first;
    task.steps = block.steps;
    task.weights = block.weights;
    task.bias = block.bias;
    std::copy(block.offset, block.offset + 4, task.offset);
    block.kernel(task, begin, end);
  }
}

}  // namespace igc
