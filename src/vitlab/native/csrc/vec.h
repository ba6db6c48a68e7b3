// Vectors of LANES reals, and the functions of them that the blocks need.
//
// Written with the compiler's own vector types, so that one source serves float and double on any processor. Where
// the compiler does not find the one right instruction by itself, it is named: for AVX-512, and for AVX2 with FMA.

#ifndef VITLAB_VEC_H
#define VITLAB_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

// Variants. VITLAB_BF16: bf16 products of pairs, float for all else. VITLAB_FLOAT, VITLAB_DOUBLE: everything float or
// double, without pairs; double is for tests. VITLAB_PAIRS: double in the layout of bf16, for tests of that layout.
#if defined VITLAB_DOUBLE || defined VITLAB_PAIRS
#define REAL_IS_DOUBLE 1
typedef double real;
typedef int64_t lane_int;
#else
#define REAL_IS_DOUBLE 0
typedef float real;
typedef int32_t lane_int;
#endif

#if !REAL_IS_DOUBLE && defined __AVX512F__
#define WITH_AVX512 1
#else
#define WITH_AVX512 0
#endif
#if !REAL_IS_DOUBLE && !WITH_AVX512 && defined __AVX2__ && defined __FMA__
#define WITH_AVX2 1
#else
#define WITH_AVX2 0
#endif
#if WITH_AVX512 || WITH_AVX2
#include <immintrin.h>
#endif

// Tiles of sums in registers of their own, of which gemm_amx.h knows.
#if defined VITLAB_BF16 && defined __AMX_BF16__ && defined __linux__
#define WITH_AMX 1
#else
#define WITH_AMX 0
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_VECS _Pragma("GCC unroll 4")

// One register where registers hold 8 floats or more; else as many as 8 numbers need.
#if WITH_AVX512 || defined VITLAB_PAIRS
enum { LANES = 16, HALF_LANES = 8 };
#else
enum { LANES = 8, HALF_LANES = 8 };
#endif

typedef real vec __attribute__((vector_size(LANES * sizeof(real))));
// The same at any address: rows of the caller's tensors need not be aligned.
typedef real vec_anywhere __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));
typedef lane_int bits __attribute__((vector_size(LANES * sizeof(real))));

INLINE vec load(const real *from) { return *(const vec_anywhere *)from; }
INLINE void store(real *to, vec x) { *(vec_anywhere *)to = x; }
INLINE vec zeros(void) { return (vec){0}; }
INLINE vec splat(real x) { return x - zeros(); }
INLINE vec keep(vec x, bits mask) { return (vec)((bits)x & mask); }

// All bits in the lanes that hold the last of ``count`` columns, none in those that pad them to whole vectors.
INLINE bits tail_mask(int count) {
    bits mask;
    for (int i = 0; i < LANES; i++) mask[i] = i < count - (count - 1) / LANES * LANES ? -1 : 0;
    return mask;
}

// The larger in each lane; b where either is NaN, so that max(constant, x) hands a NaN in x on.
INLINE vec vec_max(vec a, vec b) {
#if WITH_AVX512
    return _mm512_max_ps(a, b);
#elif WITH_AVX2
    return _mm256_max_ps(a, b);
#else
    bits larger = a > b;
    return (vec)(((bits)a & larger) | ((bits)b & ~larger));
#endif
}

// Four numbers, and pairs of them mixed: in one instruction each, where registers hold so many.
typedef real quad __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));
typedef lane_int quad_order __attribute__((vector_size(4 * sizeof(real))));
#ifdef __clang__
#define MIX_QUADS(A, B, I, J, K, L) __builtin_shufflevector(A, B, I, J, K, L)
#else
#define MIX_QUADS(A, B, I, J, K, L) __builtin_shuffle(A, B, (quad_order){I, J, K, L})
#endif

// Four rows of four numbers, turned.
INLINE void turn_quads(quad *x) {
    quad a = MIX_QUADS(x[0], x[1], 0, 4, 1, 5), b = MIX_QUADS(x[0], x[1], 2, 6, 3, 7);
    quad c = MIX_QUADS(x[2], x[3], 0, 4, 1, 5), d = MIX_QUADS(x[2], x[3], 2, 6, 3, 7);
    x[0] = MIX_QUADS(a, c, 0, 1, 4, 5), x[1] = MIX_QUADS(a, c, 2, 3, 6, 7);
    x[2] = MIX_QUADS(b, d, 0, 1, 4, 5), x[3] = MIX_QUADS(b, d, 2, 3, 6, 7);
}

// Eight vectors become one: lane r is the sum (the maximum) of the lanes of x[r]; more than eight lanes mean nothing.
#define SUM(A, B) ((A) + (B))
#if WITH_AVX512
#define LARGER(A, B) vec_max(A, B)
#define ACROSS_ROWS(NAME, PLUS)                                                                              \
    INLINE vec NAME(const vec *x) {                                                                          \
        vec half_sum[2];                                                                                     \
        for (int i = 0; i < 2; i++) {                                                                        \
            const vec *y = x + 4 * i;                                                                        \
            __m512d ab = (__m512d)PLUS(_mm512_unpacklo_ps(y[0], y[1]), _mm512_unpackhi_ps(y[0], y[1]));      \
            __m512d cd = (__m512d)PLUS(_mm512_unpacklo_ps(y[2], y[3]), _mm512_unpackhi_ps(y[2], y[3]));      \
            half_sum[i] = PLUS((vec)_mm512_unpacklo_pd(ab, cd), (vec)_mm512_unpackhi_pd(ab, cd));            \
        }                                                                                                    \
        vec lower = _mm512_shuffle_f32x4(half_sum[0], half_sum[1], 0x44);                                    \
        vec sum = PLUS(lower, _mm512_shuffle_f32x4(half_sum[0], half_sum[1], 0xee));                         \
        sum = PLUS(sum, _mm512_shuffle_f32x4(sum, sum, 0xb1));                                               \
        return _mm512_shuffle_f32x4(sum, sum, 0x08);                                                         \
    }
#elif WITH_AVX2
#define LARGER(A, B) vec_max(A, B)
#define ACROSS_ROWS(NAME, PLUS)                                                                              \
    INLINE vec NAME(const vec *x) {                                                                          \
        vec half_sum[2];                                                                                     \
        for (int i = 0; i < 2; i++) {                                                                        \
            const vec *y = x + 4 * i;                                                                        \
            __m256d ab = (__m256d)PLUS(_mm256_unpacklo_ps(y[0], y[1]), _mm256_unpackhi_ps(y[0], y[1]));      \
            __m256d cd = (__m256d)PLUS(_mm256_unpacklo_ps(y[2], y[3]), _mm256_unpackhi_ps(y[2], y[3]));      \
            half_sum[i] = PLUS((vec)_mm256_unpacklo_pd(ab, cd), (vec)_mm256_unpackhi_pd(ab, cd));            \
        }                                                                                                    \
        vec lower = _mm256_permute2f128_ps(half_sum[0], half_sum[1], 0x20);                                  \
        return PLUS(lower, (vec)_mm256_permute2f128_ps(half_sum[0], half_sum[1], 0x31));                     \
    }
#else
#define LARGER(A, B) ((A) > (B) ? (A) : (B))
INLINE quad larger_quad(quad a, quad b) {
    quad_order larger = a > b;
    return (quad)(((quad_order)a & larger) | ((quad_order)b & ~larger));
}
INLINE quad sum_quad(quad a, quad b) { return a + b; }
#define ACROSS_ROWS(NAME, PLUS)                                                                    \
    INLINE vec NAME(const vec *x) {                                                                \
        real all[LANES] = {0};                                                                     \
        for (int i = 0; i < 8; i += 4) {                                                           \
            quad y[4];                                                                             \
            for (int r = 0; r < 4; r++) {                                                          \
                const quad *from = (const quad *)(x + i + r);                                      \
                y[r] = from[0];                                                                    \
                for (int part = 1; part < LANES / 4; part++) y[r] = PLUS##_quad(y[r], from[part]); \
            }                                                                                      \
            turn_quads(y);                                                                         \
            *(quad *)(all + i) = PLUS##_quad(PLUS##_quad(y[0], y[1]), PLUS##_quad(y[2], y[3]));    \
        }                                                                                          \
        return load(all);                                                                          \
    }
#endif
#if WITH_AVX512 || WITH_AVX2
ACROSS_ROWS(sum_rows, SUM)
ACROSS_ROWS(max_rows, LARGER)
#else
ACROSS_ROWS(sum_rows, sum)
ACROSS_ROWS(max_rows, larger)
#endif

// The same of all rows of a tile.
#if WITH_AMX
INLINE vec sum_tile(const vec *x) { return _mm512_shuffle_f32x4(sum_rows(x), sum_rows(x + 8), 0x44); }
INLINE vec max_tile(const vec *x) { return _mm512_shuffle_f32x4(max_rows(x), max_rows(x + 8), 0x44); }
#else
INLINE vec sum_tile(const vec *x) { return sum_rows(x); }
INLINE vec max_tile(const vec *x) { return max_rows(x); }
INLINE void close_tiles(void) {}
INLINE void keep_awake(void) {}
INLINE int use_tiles(int wanted) { return wanted && 0; }
#endif

INLINE vec square_root(vec x) {
#if WITH_AVX512
    return _mm512_sqrt_ps(x);
#elif WITH_AVX2
    return _mm256_sqrt_ps(x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sizeof(real) == sizeof(float) ? sqrtf((float)x[i]) : sqrt(x[i]);
    return x;
#endif
}

#if REAL_IS_DOUBLE

INLINE vec exp_negative(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}

#elif defined VITLAB_BF16

// e^x for x <= 0 with a relative error of about 1e-6 where the result is not negligible; 0 far below, NaN for NaN.
// x log2(e) = n + r with a whole n and |r| <= 1/2, a polynomial for 2^r (least maximum error, fitted), times 2^n.
INLINE vec exp_negative(vec x) {
    vec t = vec_max(splat(-160.0f), x * 1.44269504f);
    vec n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vec r = t - n;
    vec y = splat(0.00133002243f);
    y = y * r + 0.00966975846f;
    y = y * r + 0.0555056017f;
    y = y * r + 0.240222807f;
    y = y * r + 0.693147181f;
    y = y * r + 1.0f;
#if WITH_AMX  // Intel: a result too small to be normal would take 150 cycles
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n, splat(-126.0f), _CMP_NLT_UQ), y, n);
#else
    return _mm512_scalef_ps(y, n);
#endif
}

#else

// e^x for x <= 0 to 2 units of the last place; 0 where that is no normal number (x < -87.33), NaN for NaN.
// x = n ln 2 + r with a whole n and |r| <= ln 2 / 2, a polynomial for e^r (least maximum error, fitted), times 2^n.
INLINE vec exp_negative(vec x) {
    const real shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, which lands in the low bits
    const vec least = splat(-87.33f);
    const bits vanishes = x < least;
    vec shifted = vec_max(least, x) * 1.44269504f + shift, n = shifted - shift;
    vec r = vec_max(least, x) - n * 0.693145752f - n * 1.42860677e-6f;  // ln 2 in two parts, so that r is exact enough
    vec y = splat(0.008312491138f);
    y = y * r + 0.04189057446f;
    y = y * r + 0.1666711627f;
    y = y * r + 0.4999922866f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return keep(y * (vec)(((bits)shifted + 127) << 23), ~vanishes);  // a product, so that a NaN stays one
}

#endif

#endif
