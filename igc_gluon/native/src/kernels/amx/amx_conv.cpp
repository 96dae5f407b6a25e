// amx_conv.cpp - convolutions on AMX: 4 tiles of sums, of N vectors of outputs and 4 / N tiles of pixels.
//
// For N = 2 each tile of inputs and of weights that is loaded is used twice, for N = 1 the weights four times. The unit
// renames its registers: the loads of the next run go on beside the products of this one.
#include "tiles.h"

namespace igc {
namespace IGC_TARGET {
namespace {

struct Place {
  const uint8_t* x;
  uint8_t* y;
  const uint8_t* residual;
};

// The number-th tile of pixels from row `first` on. The last one of a row is moved left so that it ends with it: its first
// pixels are computed twice, to the same bits.
IGC_INLINE Place place_of(const AmxTask& t, int first, int number) {
  const int across = (t.width + t.pixels - 1) / t.pixels, row = first + number / across;
  int column = number % across * t.pixels;
  if (column + t.pixels > t.width) column = t.width - t.pixels;
  return {t.x + row * t.x_row + column * t.x_step, t.y + row * t.y_row + column * t.y_pixel,
          t.residual ? t.residual + row * t.r_row + column * t.r_pixel : nullptr};
}

template <int N, int P, int I = 0>
IGC_INLINE void add_pixels([[maybe_unused]] const Place (&places)[P], [[maybe_unused]] ptrdiff_t at,
                           [[maybe_unused]] ptrdiff_t step) {
  if constexpr (I < P) {
    constexpr int kInputs = kInputTile + I % 2;
    load_tile<kInputs>(places[I].x + at, step);
    add_tile_products<I * N, kInputs, kWeightTile>();
    if constexpr (N == 2) add_tile_products<I * N + 1, kInputs, kWeightTile + 1>();
    add_pixels<N, P, I + 1>(places, at, step);
  }
}

template <int COUNT, int T = 0>
IGC_INLINE void zero_tiles() {
  if constexpr (T < COUNT) {
    zero_tile<T>();
    zero_tiles<COUNT, T + 1>();
  }
}

template <int N, int P>
IGC_INLINE void accumulate(const AmxTask& t, const Place (&places)[P]) {
  const uint8_t* w = t.weights;
  const int32_t* const inputs = t.inputs;
  const int steps = t.steps;
  const ptrdiff_t line = t.x_line, step = t.x_step, weights = t.words * 64;
  ptrdiff_t at = 0;
  zero_tiles<N * P>();
  for (int dy = t.kernel_h; dy > 0; dy--, at += line)
    for (int k = 0; k < steps; k++, w += N * weights) {
      load_tile<kWeightTile>(w, 64);
      if constexpr (N == 2) load_tile<kWeightTile + 1>(w + weights, 64);
      add_pixels<N, P>(places, at + inputs[k], step);
    }
}

// Sums of COUNT pixels of N vectors, each of its 16 pixels x 16, become what is written.
template <int N, int COUNT>
IGC_INLINE void finish(const AmxTask& t, const uint8_t* sums, uint8_t* y, const uint8_t* residual) {
  vec out[COUNT * N];
  IGC_TIMES (i, COUNT * N)
    out[i] = finished(sums_at(sums + i % N * 1024 + i / N * 64), t.scale + i % N * 16, t.bias + i % N * 16);
  write_out<N>(t, t.offset, out, y, residual);
}

template <int N, int P, int I = 0>
IGC_INLINE void put_pixels([[maybe_unused]] const AmxTask& t, [[maybe_unused]] const Place (&places)[P],
                           [[maybe_unused]] uint8_t* sums) {
  if constexpr (I < P) {
    uint8_t* const y = places[I].y;
    if (t.sums) {
      store_tile<I * N>(y + 4 * t.offset[0], t.y_pixel);
      if constexpr (N == 2) store_tile<I * N + 1>(y + 4 * t.offset[1], t.y_pixel);
    } else {
      store_tile<I * N>(sums + I * N * 1024, 64);
      if constexpr (N == 2) store_tile<I * N + 1>(sums + I * N * 1024 + 1024, 64);
    }
    put_pixels<N, P, I + 1>(t, places, sums);
  }
}

template <int N, int P>
IGC_INLINE void tiles_of(const AmxTask& t, int first, int number) {
  alignas(64) uint8_t sums[N * P * 1024];
  Place places[P];
  IGC_TIMES (p, P) places[p] = place_of(t, first, number + p);
  accumulate<N, P>(t, places);
  put_pixels<N, P>(t, places, sums);
  if (t.sums) return;
  for (int p = 0; p < P; p++) {
    const uint8_t *from = sums + p * N * 1024, *residual = places[p].residual;
    uint8_t* y = places[p].y;
    int left = t.pixels;
    for (; left >= 4; left -= 4, from += 4 * 64, y += 4 * t.y_pixel) {
      finish<N, 4>(t, from, y, residual);
      if (residual) residual += 4 * t.r_pixel;
    }
    for (; left > 0; left--, from += 64, y += t.y_pixel) {
      finish<N, 1>(t, from, y, residual);
      if (residual) residual += t.r_pixel;
    }
  }
}

template <int N>
void rows(const AmxTask& t, int row_begin, int row_end) {
  const int count = (t.width + t.pixels - 1) / t.pixels * (row_end - row_begin);
  int done = 0;
  for (; done + 4 / N <= count; done += 4 / N) tiles_of<N, 4 / N>(t, row_begin, done);
  for (; done < count; done++) tiles_of<N, 1>(t, row_begin, done);
}

}  // namespace

AmxKernel conv_kernel(int n) { return n == 2 ? rows<2> : rows<1>; }

}  // namespace IGC_TARGET
}  // namespace igc
