// simd.h - sixteen floats at a time, on every instruction set.
//
// All kernels are written for one type, `vec`, of 16 lanes: one AVX-512 register, two AVX registers or four
// 128-bit vectors of the portable build. So the layout of activations is the same everywhere and only the
// size of the register tiles differs (see the end). A kernel source is compiled once per instruction set with
// -DIGC_TARGET=avx512|avx2|portable, which names the namespace it lives in, and -DIGC_LANES=16|8|4, the
// floats of one machine register.
//
// A rule that keeps the library safe on small processors: files in kernels/ use nothing from the standard
// library but <cstddef> and <cstdint>. An inline std:: function compiled here with AVX-512 could be the copy
// that the linker keeps for all callers.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels.h"

#define IGC_INLINE inline __attribute__((always_inline))
// GCC keeps an array of vectors in registers only if every loop over it is unrolled completely.
#define IGC_TIMES(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); i++)
// A loop of multiply-adds whose steps are independent. Clang moves the loads of all unrolled steps to their
// beginning, and then has too few registers.
#ifdef __clang__
#define IGC_UNROLL_STEPS _Pragma("nounroll")
#else
#define IGC_UNROLL_STEPS _Pragma("GCC unroll 4")
#endif

#if IGC_LANES == 16 || IGC_LANES == 8
#include <immintrin.h>
typedef double two_floats __attribute__((may_alias, aligned(4)));  // broadcast together, straight from memory
#endif

namespace igc {
namespace IGC_TARGET {

#if IGC_LANES == 16

constexpr int kRegisters = 32;
typedef __m512 vec;

IGC_INLINE vec zero() { return _mm512_setzero_ps(); }
IGC_INLINE vec splat(float v) { return _mm512_set1_ps(v); }
IGC_INLINE vec load(const float* p) { return _mm512_loadu_ps(p); }
IGC_INLINE void store(float* p, vec v) { _mm512_storeu_ps(p, v); }
IGC_INLINE vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
IGC_INLINE vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
IGC_INLINE vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand comes out where one is NaN, so NaN survives max(limit, v) and min(limit, v).
IGC_INLINE vec max(vec limit, vec v) { return _mm512_max_ps(limit, v); }
IGC_INLINE vec min(vec limit, vec v) { return _mm512_min_ps(limit, v); }
IGC_INLINE float sum(vec v) { return _mm512_reduce_add_ps(v); }
// Keeps what was loaded in a register: GCC would load it again for each multiply-add that takes it from memory.
IGC_INLINE vec once(vec v) {
  asm("" : "+v"(v));
  return v;
}

// W consecutive floats, repeated 16 / W times.
template <int W>
IGC_INLINE vec broadcast(const float* p) {
  if constexpr (W == 16)
    return _mm512_loadu_ps(p);
  else if constexpr (W == 8)
    return _mm512_broadcast_f32x8(_mm256_loadu_ps(p));
  else if constexpr (W == 4)
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
  else if constexpr (W == 2)
    return _mm512_castpd_ps(_mm512_set1_pd(*(const two_floats*)p));
  else
    return _mm512_set1_ps(*p);
}
// Every run of four lanes takes its K-th lane.
template <int K>
IGC_INLINE vec splat4(vec v) {
  return _mm512_permute_ps(v, K * 0x55);
}
// Sums of neighboring lanes: a0+a1, a2+a3, ..., a14+a15, b0+b1, ..., b14+b15.
IGC_INLINE vec pair_sum(vec a, vec b) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}
IGC_INLINE void store_low8(float* p, vec v) { _mm256_storeu_ps(p, _mm512_castps512_ps256(v)); }
IGC_INLINE void store_high8(float* p, vec v) { _mm256_storeu_ps(p, _mm512_extractf32x8_ps(v, 1)); }
IGC_INLINE vec load_8_8(const float* low, const float* high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high), 1);
}

#elif IGC_LANES == 8

constexpr int kRegisters = 16;
struct vec {
  __m256 a, b;
};

IGC_INLINE vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
IGC_INLINE vec splat(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
IGC_INLINE vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
IGC_INLINE void store(float* p, vec v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
IGC_INLINE vec add(vec a, vec b) { return {_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)}; }
IGC_INLINE vec mul(vec a, vec b) { return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)}; }
IGC_INLINE vec fma(vec a, vec b, vec c) {
  return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
IGC_INLINE vec once(vec v) { return v; }
IGC_INLINE vec max(vec limit, vec v) { return {_mm256_max_ps(limit.a, v.a), _mm256_max_ps(limit.b, v.b)}; }
IGC_INLINE vec min(vec limit, vec v) { return {_mm256_min_ps(limit.a, v.a), _mm256_min_ps(limit.b, v.b)}; }
IGC_INLINE float sum(vec v) {
  __m256 s = _mm256_add_ps(v.a, v.b);
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}
template <int W>
IGC_INLINE vec broadcast(const float* p) {
  if constexpr (W == 16) return load(p);
  __m256 v;
  if constexpr (W == 8)
    v = _mm256_loadu_ps(p);
  else if constexpr (W == 4)
    v = _mm256_broadcast_ps((const __m128*)p);
  else if constexpr (W == 2)
    v = _mm256_castpd_ps(_mm256_set1_pd(*(const two_floats*)p));
  else
    v = _mm256_broadcast_ss(p);
  return {v, v};
}
template <int K>
IGC_INLINE vec splat4(vec v) {
  return {_mm256_permute_ps(v.a, K * 0x55), _mm256_permute_ps(v.b, K * 0x55)};
}
IGC_INLINE __m256 pair_sum8(__m256 a, __m256 b) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_hadd_ps(a, b)), 0xD8));
}
IGC_INLINE vec pair_sum(vec a, vec b) { return {pair_sum8(a.a, a.b), pair_sum8(b.a, b.b)}; }
IGC_INLINE void store_low8(float* p, vec v) { _mm256_storeu_ps(p, v.a); }
IGC_INLINE void store_high8(float* p, vec v) { _mm256_storeu_ps(p, v.b); }
IGC_INLINE vec load_8_8(const float* low, const float* high) {
  return {_mm256_loadu_ps(low), _mm256_loadu_ps(high)};
}

#else  // portable: GCC's and Clang's generic vectors of four floats

#ifdef __aarch64__
constexpr int kRegisters = 32;  // NEON
#else
constexpr int kRegisters = 16;
#endif
typedef float quad __attribute__((vector_size(16)));
typedef float quad_anywhere __attribute__((vector_size(16), aligned(4)));
struct vec {
  quad a, b, c, d;
};

IGC_INLINE quad quad_of(float v) { return quad{v, v, v, v}; }
IGC_INLINE quad quad_at(const float* p) { return *(const quad_anywhere*)p; }
IGC_INLINE void put_quad(float* p, quad v) { *(quad_anywhere*)p = v; }
IGC_INLINE vec zero() { return {quad_of(0), quad_of(0), quad_of(0), quad_of(0)}; }
IGC_INLINE vec splat(float v) { return {quad_of(v), quad_of(v), quad_of(v), quad_of(v)}; }
IGC_INLINE vec load(const float* p) { return {quad_at(p), quad_at(p + 4), quad_at(p + 8), quad_at(p + 12)}; }
IGC_INLINE void store(float* p, vec v) {
  put_quad(p, v.a);
  put_quad(p + 4, v.b);
  put_quad(p + 8, v.c);
  put_quad(p + 12, v.d);
}
IGC_INLINE vec add(vec x, vec y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }
IGC_INLINE vec mul(vec x, vec y) { return {x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d}; }
IGC_INLINE vec fma(vec x, vec y, vec z) {
  return {x.a * y.a + z.a, x.b * y.b + z.b, x.c * y.c + z.c, x.d * y.d + z.d};
}
IGC_INLINE vec once(vec v) { return v; }
IGC_INLINE quad quad_max(quad limit, quad v) { return v < limit ? limit : v; }
IGC_INLINE quad quad_min(quad limit, quad v) { return v > limit ? limit : v; }
IGC_INLINE vec max(vec x, vec y) {
  return {quad_max(x.a, y.a), quad_max(x.b, y.b), quad_max(x.c, y.c), quad_max(x.d, y.d)};
}
IGC_INLINE vec min(vec x, vec y) {
  return {quad_min(x.a, y.a), quad_min(x.b, y.b), quad_min(x.c, y.c), quad_min(x.d, y.d)};
}
IGC_INLINE float sum(vec v) {
  quad s = (v.a + v.c) + (v.b + v.d);
  return (s[0] + s[2]) + (s[1] + s[3]);
}
template <int W>
IGC_INLINE vec broadcast(const float* p) {
  if constexpr (W == 16)
    return load(p);
  else if constexpr (W == 8) {
    quad x = quad_at(p), y = quad_at(p + 4);
    return {x, y, x, y};
  } else if constexpr (W == 4) {
    quad x = quad_at(p);
    return {x, x, x, x};
  } else if constexpr (W == 2) {
    quad x = {p[0], p[1], p[0], p[1]};
    return {x, x, x, x};
  } else
    return splat(*p);
}
template <int K>
IGC_INLINE vec splat4(vec v) {
  return {quad_of(v.a[K]), quad_of(v.b[K]), quad_of(v.c[K]), quad_of(v.d[K])};
}
IGC_INLINE quad quad_pair_sum(quad x, quad y) {
  return quad{x[0] + x[1], x[2] + x[3], y[0] + y[1], y[2] + y[3]};
}
IGC_INLINE vec pair_sum(vec x, vec y) {
  return {quad_pair_sum(x.a, x.b), quad_pair_sum(x.c, x.d), quad_pair_sum(y.a, y.b), quad_pair_sum(y.c, y.d)};
}
IGC_INLINE void store_low8(float* p, vec v) {
  put_quad(p, v.a);
  put_quad(p + 4, v.b);
}
IGC_INLINE void store_high8(float* p, vec v) {
  put_quad(p, v.c);
  put_quad(p + 4, v.d);
}
IGC_INLINE vec load_8_8(const float* low, const float* high) {
  return {quad_at(low), quad_at(low + 4), quad_at(high), quad_at(high + 4)};
}

#endif

IGC_INLINE void prefetch(const float* p) { __builtin_prefetch(p, 0, 3); }  // into L1
// Asks for what will be touched soon, into L2, a line at a time between the multiply-adds: a burst would keep the
// loads waiting.
struct Prefetcher {
  Region now;
  const Region* then =
      nullptr;   // and `left`: copies, as a store to *prefetch would make GCC load pixels again
  int left = 0;  // regions, `now` with them
  IGC_INLINE Prefetcher(Region first, const Prefetch* prefetch) {
    if (prefetch) {
      then = prefetch->regions + prefetch->asked;
      left = prefetch->count - prefetch->asked;
    }
    if (first.at)
      left++, now = first;
    else if (left)
      now = *then++;
  }
  IGC_INLINE void next() {
    if (!left) return;
    __builtin_prefetch(now.at, 0, 2);
    now.at += 16;
    if (now.at >= now.end && --left) now = *then++;
  }
  // Leaves what was not reached to the next kernel.
  IGC_INLINE void finish(Region first, Prefetch* prefetch) const {
    if (!prefetch) return;
    prefetch->asked = (int)(then - prefetch->regions);
    if (left && now.end != first.end) prefetch->regions[--prefetch->asked] = now;
  }
};
// Sums of four neighboring lanes: four results of a, of b, of c, of d.
IGC_INLINE vec quad_sum(vec a, vec b, vec c, vec d) { return pair_sum(pair_sum(a, b), pair_sum(c, d)); }
// Four of the sixteen lanes to or from each of four places. These serve thin tails only: through memory.
IGC_INLINE void store_4(float* p0, float* p1, float* p2, float* p3, vec v) {
  float lanes[16];
  store(lanes, v);
  for (int i = 0; i < 4; i++) {
    p0[i] = lanes[i];
    p1[i] = lanes[4 + i];
    p2[i] = lanes[8 + i];
    p3[i] = lanes[12 + i];
  }
}
IGC_INLINE vec load_4(const float* p0, const float* p1, const float* p2, const float* p3) {
  float lanes[16];
  for (int i = 0; i < 4; i++) {
    lanes[i] = p0[i];
    lanes[4 + i] = p1[i];
    lanes[8 + i] = p2[i];
    lanes[12 + i] = p3[i];
  }
  return load(lanes);
}

// Register tiles. A tile of P pixels x Q vectors needs P * Q accumulators, Q weights and one input, each of
// 16 / IGC_LANES registers:  avx512 8 x 3: 24 + 3 + 1 of 32;  avx2 6 x 1: 12 + 2 + 2 of 16;  portable 2 x 1:
// 8 + 4 + 4 of 16;  on ARM64 6 x 1: 24 + 4 + 4 of 32.
// The pixels of a row are covered by tiles of one size (Choice), the last one moved left so that it ends with
// the row: its first pixels are computed twice, to the same bits.
constexpr int kVecRegisters = 16 / IGC_LANES;
constexpr int kMaxVectors = IGC_LANES == 16 ? 3 : 1;

// Whether a tile of P x Q leaves registers for `more` vectors.
constexpr bool tile_fits(int p, int q, int more) { return (p * q + more) * kVecRegisters <= kRegisters; }

// Picks among kernels for P pixels the one that covers a row at the least cost. A tile is taken to cost its
// pixels and one more.
template <class Kernel>
struct Choice {
  int width, cost = 0, tile = 0;
  Kernel value = nullptr;
  IGC_INLINE explicit Choice(int width_) : width(width_) {}
  IGC_INLINE void offer(int pixels, Kernel kernel) {
    const int price = (width + pixels - 1) / pixels * (pixels + 1);
    if (pixels <= width && (!value || price < cost)) {
      cost = price;
      tile = pixels;
      value = kernel;
    }
  }
};

}  // namespace IGC_TARGET
}  // namespace igc
