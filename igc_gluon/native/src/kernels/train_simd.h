// train_simd.h - what training needs of a vector beyond simd.h.
#pragma once
#include "simd.h"

namespace igc {
namespace IGC_TARGET {

#if IGC_LANES == 16

IGC_INLINE vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
// v where z is positive, else 0.
IGC_INLINE vec where_positive(vec z, vec v) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ), v);
}
// v where 0 <= z <= 6, else 0: as MXNet passes gradients through clip.
IGC_INLINE vec where_within_6(vec z, vec v) {
  const __mmask16 positive = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GE_OQ);
  return _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask(positive, z, _mm512_set1_ps(6), _CMP_LE_OQ), v);
}
// v where a = b, else 0.
IGC_INLINE vec where_equal(vec a, vec b, vec v) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), v);
}
// 16 / S consecutive floats, each repeated S times.
template <int S>
IGC_INLINE vec spread(const float* p) {
  if constexpr (S == 1)
    return _mm512_loadu_ps(p);
  else if constexpr (S == 2)
    return _mm512_permutexvar_ps(_mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0),
                                 _mm512_castps256_ps512(_mm256_loadu_ps(p)));
  else
    return _mm512_permutexvar_ps(_mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0),
                                 _mm512_castps128_ps512(_mm_loadu_ps(p)));
}

#elif IGC_LANES == 8

IGC_INLINE vec sub(vec a, vec b) { return {_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)}; }
IGC_INLINE __m256 where_positive8(__m256 z, __m256 v) {
  return _mm256_and_ps(_mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_GT_OQ), v);
}
IGC_INLINE vec where_positive(vec z, vec v) { return {where_positive8(z.a, v.a), where_positive8(z.b, v.b)}; }
IGC_INLINE vec where_equal(vec a, vec b, vec v) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.a, b.a, _CMP_EQ_OQ), v.a),
          _mm256_and_ps(_mm256_cmp_ps(a.b, b.b, _CMP_EQ_OQ), v.b)};
}
IGC_INLINE __m256 where_within_6_8(__m256 z, __m256 v) {
  return _mm256_and_ps(_mm256_and_ps(_mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_GE_OQ),
                                     _mm256_cmp_ps(z, _mm256_set1_ps(6), _CMP_LE_OQ)),
                       v);
}
IGC_INLINE vec where_within_6(vec z, vec v) {
  return {where_within_6_8(z.a, v.a), where_within_6_8(z.b, v.b)};
}
template <int S>
IGC_INLINE vec spread(const float* p) {
  if constexpr (S == 1)
    return load(p);
  else if constexpr (S == 2) {
    const __m256 v = _mm256_loadu_ps(p);
    return {_mm256_permutevar8x32_ps(v, _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0)),
            _mm256_permutevar8x32_ps(v, _mm256_set_epi32(7, 7, 6, 6, 5, 5, 4, 4))};
  } else {
    const __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(p));
    return {_mm256_permutevar8x32_ps(v, _mm256_set_epi32(1, 1, 1, 1, 0, 0, 0, 0)),
            _mm256_permutevar8x32_ps(v, _mm256_set_epi32(3, 3, 3, 3, 2, 2, 2, 2))};
  }
}

#else

IGC_INLINE vec sub(vec x, vec y) { return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d}; }
IGC_INLINE quad quad_where_equal(quad a, quad b, quad v) { return a == b ? v : quad_of(0); }
IGC_INLINE vec where_equal(vec x, vec y, vec v) {
  return {quad_where_equal(x.a, y.a, v.a), quad_where_equal(x.b, y.b, v.b), quad_where_equal(x.c, y.c, v.c),
          quad_where_equal(x.d, y.d, v.d)};
}
IGC_INLINE quad quad_where_positive(quad z, quad v) { return z > quad_of(0) ? v : quad_of(0); }
IGC_INLINE vec where_positive(vec z, vec v) {
  return {quad_where_positive(z.a, v.a), quad_where_positive(z.b, v.b), quad_where_positive(z.c, v.c),
          quad_where_positive(z.d, v.d)};
}
IGC_INLINE quad quad_where_within_6(quad z, quad v) {
  v = z >= quad_of(0) ? v : quad_of(0);
  return z <= quad_of(6) ? v : quad_of(0);
}
IGC_INLINE vec where_within_6(vec z, vec v) {
  return {quad_where_within_6(z.a, v.a), quad_where_within_6(z.b, v.b), quad_where_within_6(z.c, v.c),
          quad_where_within_6(z.d, v.d)};
}
template <int S>
IGC_INLINE vec spread(const float* p) {
  if constexpr (S == 1)
    return load(p);
  else if constexpr (S == 2)
    return {quad{p[0], p[0], p[1], p[1]}, quad{p[2], p[2], p[3], p[3]}, quad{p[4], p[4], p[5], p[5]},
            quad{p[6], p[6], p[7], p[7]}};
  else
    return {quad_of(p[0]), quad_of(p[1]), quad_of(p[2]), quad_of(p[3])};
}

#endif

}  // namespace IGC_TARGET
}  // namespace igc
