// amx.h - convolutions of bytes or bfloat16 made ready for kernels/amx.
#pragma once
#include <vector>

#include "kernels/amx_kernels.h"
#include "reduced.h"

namespace igc {

// Any convolution between any two orders of elements.
struct AmxConv {
  struct Block {
    AmxKernel kernel;
    int first, steps;  // of `inputs`
    int words;         // of a run
    int32_t offset[2];
    // Where the channels that a block reads are few words of a pixel, the taps of a row lie far apart. Then these words,
    // of every pixel, are copied side by side before the block is computed. slice 0: nothing is.
    int slice_at, slice;
    const uint8_t* weights;
    const float *scale, *bias;
  };
  const AmxKernels* kernels = nullptr;
  std::vector<int32_t> inputs;
  std::vector<Block> blocks;
  int kernel_h = 1, kernel_w = 1, stride = 1, pad_h = 0, pad_w = 0;
  int pixels = 1;     // of a tile
  bool sums = false;  // what is written are sums, for AmxMix
  Epilogue epilogue;
  size_t weight_bytes = 0;

  int64_t products() const;  // of tiles, for one tile of pixels
  int widest_slice() const;
  size_t slice_bytes(int rows, int width) const;  // of what is copied for so many rows of outputs
};

// The secondary of an IGC block, over the sums of its primary.
struct AmxMix {
  struct Block {
    AmxMixKernel kernel;
    int first, steps;
    int32_t offset[4];
    const float *weights, *bias;
  };
  std::vector<int32_t> inputs;
  std::vector<Block> blocks;
  Epilogue epilogue;
};

// How many groups of M members share a vector where the channels of a group lie together.
constexpr int amx_groups(int members) { return members >= 16 ? 1 : 2; }
// L groups of M members, those of each one or two together.
inline Layout amx_layout(int groups, int members) {
  return Layout::interleaved(groups, members, amx_groups(members), amx_groups(members));
}

// pixel: words from one pixel of the input to the next. sums: writes those, in the order of `out`.
AmxConv plan_amx_conv(const AmxKernels& kernels, Arena& arena, const ReducedFilter& filter, const Layout& in,
                      int pixel, const Layout& out, int stride, int width, const Target& target, bool sums);
// How many products of tiles that would be, for one tile of pixels.
int64_t amx_products(Element element, const Filter& filter, const Layout& in, int pixel, const Layout& out);
// `out`: an amx_layout(), of the sums too. primary: of the sums.
AmxMix plan_amx_mix(const AmxKernels& kernels, Arena& arena, const Filter& secondary,
                    const Parameters& mixing, const ReducedFilter& primary, const Layout& out,
                    const Target& target);

// Rows [begin, end) of the output; planes of elements are counted in words. scratch: of slice_bytes(end - begin, width).
void run_amx_conv(const AmxConv& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
                  float* scratch);
void run_amx_mix(const AmxMix& plan, Plane x, Plane y, Plane residual, int width, int begin, int end);

}  // namespace igc
