// tiles.h - the eight tile registers of AMX, by its instructions or in plain C++ to the same bits.
//
// A tile has up to 16 rows of up to 64 bytes. Tiles 0 to 3 hold sums (pixels x 16 of 32 bits), 4 and 5 inputs (pixels x
// words), 6 and 7 weights (words x 16 words). As Intel documents the products:
//   TDPBUSD    four unsigned bytes of an input word by four signed ones of a weight, added to the sum as integers;
//   TDPBF16PS  over all words in order, the products of the even elements are added up from zero and, apart from them,
//              those of the odd ones, each multiplied and added with one rounding; then odd to even, then both to the sum;
//              to nearest even, subnormal numbers are zeros, whatever the processor's control register says.
//
// The instructions stand in assembler: GCC's intrinsics take numbers of tiles as text only, and its loads of tiles do not
// say that they read memory.
#pragma once
#include "../amx_kernels.h"
#include "../reduced/words.h"

namespace igc {
namespace IGC_TARGET {

constexpr int kSumTiles = 4, kInputTile = 4, kWeightTile = 6;

#ifndef IGC_EMULATED

inline void configure(int pixels, int words) {
  alignas(64) struct {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } shape;
  for (int t = 0; t < 8; t++) {
    shape.rows[t] = (uint8_t)(t < kWeightTile ? pixels : words);
    shape.row_bytes[t] = (uint16_t)(t < kSumTiles || t >= kWeightTile ? 64 : 4 * words);
  }
  __asm__ volatile("ldtilecfg %0" ::"m"(shape));
}
inline void release() { __asm__ volatile("tilerelease"); }

template <int T>
IGC_INLINE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(T));
}
template <int T>
IGC_INLINE void load_tile(const uint8_t* at, ptrdiff_t row) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(at), "r"(row), "i"(T) : "memory");
}
template <int T>
IGC_INLINE void store_tile(uint8_t* at, ptrdiff_t row) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(at), "r"(row), "i"(T) : "memory");
}
template <int SUMS, int INPUTS, int WEIGHTS>
IGC_INLINE void add_tile_products() {
#ifdef IGC_BYTES
  __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(INPUTS), "i"(WEIGHTS));
#else
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(INPUTS), "i"(WEIGHTS));
#endif
}

#else

struct Tiles {
  int rows[8], words[8];
  uint32_t at[8][16][16];
};
inline thread_local Tiles tiles;

inline void configure(int pixels, int words) {
  __builtin_memset(&tiles, 0, sizeof tiles);
  for (int t = 0; t < 8; t++) {
    tiles.rows[t] = t < kWeightTile ? pixels : words;
    tiles.words[t] = t < kSumTiles || t >= kWeightTile ? 16 : words;
  }
}
inline void release() { __builtin_memset(&tiles, 0, sizeof tiles); }

template <int T>
IGC_INLINE void zero_tile() {
  __builtin_memset(tiles.at[T], 0, sizeof tiles.at[T]);
}
template <int T>
IGC_INLINE void load_tile(const uint8_t* at, ptrdiff_t row) {
  zero_tile<T>();
  for (int r = 0; r < tiles.rows[T]; r++)
    __builtin_memcpy(tiles.at[T][r], at + r * row, (size_t)tiles.words[T] * 4);
}
template <int T>
IGC_INLINE void store_tile(uint8_t* at, ptrdiff_t row) {
  for (int r = 0; r < tiles.rows[T]; r++)
    __builtin_memcpy(at + r * row, tiles.at[T][r], (size_t)tiles.words[T] * 4);
}
#ifdef IGC_BYTES
inline void add_products_of(uint32_t& sum, const uint32_t* inputs, const uint32_t (*weights)[16], int n,
                            int words) {
  for (int k = 0; k < words; k++) sum += dot(inputs[k], weights[k][n]);
}
#else
inline void add_products_of(uint32_t& sum, const uint32_t* inputs, const uint32_t (*weights)[16], int n,
                            int words) {
  float even = 0, odd = 0;
  for (int k = 0; k < words; k++) {
    even = plus_product(even, inputs[k] << 16, weights[k][n] << 16);
    odd = plus_product(odd, inputs[k] & 0xffff0000, weights[k][n] & 0xffff0000);
  }
  sum = bits_of(flushed(flushed(float_of(sum)) + flushed(even + odd)));
}
#endif
template <int SUMS, int INPUTS, int WEIGHTS>
IGC_CALLED void add_tile_products() {
  for (int r = 0; r < tiles.rows[SUMS]; r++)
    for (int n = 0; n < 16; n++)
      add_products_of(tiles.at[SUMS][r][n], tiles.at[INPUTS][r], tiles.at[WEIGHTS], n, tiles.words[INPUTS]);
}

#endif

// Sums of 32 bits as a kernel of vectors has them.
IGC_INLINE Sums sums_at(const uint8_t* p) {
#ifdef IGC_BYTES
  return broadcast_words<16>(p);
#else
  return load((const float*)p);
#endif
}

// Results of SIZE / N pixels, N vectors each at `offset`, become what is written.
template <int N, int SIZE>
IGC_INLINE void write_out(const OutputRows& t, const int32_t* offset, vec (&v)[SIZE], uint8_t* y,
                          const uint8_t* residual) {
  if (residual) {
    IGC_TIMES (i, SIZE)
      v[i] = with_residual(v[i], elements_at(residual + i / N * t.r_pixel + offset[i % N] * kBytes),
                           t.epilogue.residual_scale);
  }
  IGC_TIMES (i, SIZE) v[i] = clipped(v[i], t.epilogue);
  if (t.epilogue.floats) {
    IGC_TIMES (i, SIZE) store((float*)(y + i / N * t.y_pixel) + offset[i % N], v[i]);
  } else {
    each_as_elements<16>(v, false, [&](int i, const Elements& elements) IGC_ALWAYS {
      put_elements(y + i / N * t.y_pixel + offset[i % N] * kBytes, elements);
    });
  }
}

}  // namespace IGC_TARGET
}  // namespace igc
