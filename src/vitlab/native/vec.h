// Vectors of 16 reals, and the functions of them that the blocks need.
//
// Written with the compiler's own vector types, so that one source serves float and double on any processor. Where
// the compiler does not find the one right AVX-512 instruction by itself, it is named.

#ifndef VITLAB_VEC_H
#define VITLAB_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

// Three variants: bf16 products with float for all else; everything float; everything double (for tests).
#if defined VITLAB_BF16
#include <immintrin.h>
typedef float real;
#define WITH_INTRINSICS 1
#elif defined VITLAB_DOUBLE
typedef double real;
#define WITH_INTRINSICS 0
#else
typedef float real;
#define WITH_INTRINSICS 0
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_VECS _Pragma("GCC unroll 4")

enum { LANES = 16 };

typedef real vec __attribute__((vector_size(LANES * sizeof(real))));
// The same at any address: rows of the caller's tensors need not be aligned.
typedef real vec_anywhere __attribute__((vector_size(LANES * sizeof(real)), aligned(sizeof(real)), may_alias));
#ifdef VITLAB_DOUBLE
typedef int64_t lane_int;
#else
typedef int32_t lane_int;
#endif
typedef lane_int bits __attribute__((vector_size(LANES * sizeof(real))));

INLINE vec load(const real *from) { return *(const vec_anywhere *)from; }
INLINE void store(real *to, vec x) { *(vec_anywhere *)to = x; }
INLINE vec zeros(void) { return (vec){0}; }
INLINE vec splat(real x) { return x - zeros(); }
INLINE vec keep(vec x, bits mask) { return (vec)((bits)x & mask); }

// All bits in the lanes that hold the last of ``count`` columns, none in those that pad them to a multiple of 16.
INLINE bits tail_mask(int count) {
    bits mask;
    for (int i = 0; i < LANES; i++) mask[i] = i < count - (count - 1) / LANES * LANES ? -1 : 0;
    return mask;
}

// The larger in each lane; b where either is NaN, so that max(constant, x) hands a NaN in x on.
INLINE vec vec_max(vec a, vec b) {
#if WITH_INTRINSICS
    return _mm512_max_ps(a, b);
#else
    bits larger = a > b;
    return (vec)(((bits)a & larger) | ((bits)b & ~larger));
#endif
}

// Eight vectors become one: lane r is the sum (the maximum) of the lanes of x[r]; the upper eight lanes mean nothing.
#if WITH_INTRINSICS
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
#else
#define ACROSS_ROWS(NAME, PLUS)                                                                              \
    INLINE vec NAME(const vec *x) {                                                                          \
        vec sum = zeros();                                                                                   \
        for (int r = 0; r < 8; r++) {                                                                        \
            sum[r] = x[r][0];                                                                                \
            for (int i = 1; i < LANES; i++) sum[r] = PLUS(sum[r], x[r][i]);                                  \
        }                                                                                                    \
        return sum;                                                                                          \
    }
#endif
#if WITH_INTRINSICS
#define LARGER(A, B) vec_max(A, B)
#else
#define LARGER(A, B) ((A) > (B) ? (A) : (B))
#endif
#define SUM(A, B) ((A) + (B))
ACROSS_ROWS(sum_rows, SUM)
ACROSS_ROWS(max_rows, LARGER)

INLINE vec square_root(vec x) {
#if WITH_INTRINSICS
    return _mm512_sqrt_ps(x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sizeof(real) == sizeof(float) ? sqrtf((float)x[i]) : sqrt(x[i]);
    return x;
#endif
}

// 1 / x. The estimate of 14 bits and one step of Newton's method give full precision in a third of a division's time.
INLINE vec reciprocal(vec x) {
#if WITH_INTRINSICS
    vec r = _mm512_rcp14_ps(x);
    return r + r * (1 - x * r);
#else
    return 1 / x;
#endif
}

#ifdef VITLAB_DOUBLE

INLINE vec exp_negative(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}

#else

// e^x for x <= 0 with a relative error below 2e-7; 0 far below, NaN for NaN. Cody and Waite (1980): x = n ln 2 + r with
// |r| <= ln 2 / 2, a polynomial for e^r (least maximum error, fitted), and n into the exponent.
INLINE vec exp_negative(vec x) {
    const real shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, which lands in the low bits
#if WITH_INTRINSICS
    x = vec_max(splat(-110.0f), x);
#else
    x = vec_max(splat(-87.0f), x);
#endif
    vec shifted = x * 1.44269504f + shift;
    vec n = shifted - shift;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec y = splat(8.3125e-3f);
    y = y * r + 4.189033e-2f;
    y = y * r + 1.6667115e-1f;
    y = y * r + 4.999923e-1f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
#if WITH_INTRINSICS
    return _mm512_scalef_ps(y, n);
#else
    return y * (vec)(((bits)shifted + 127) << 23);  // a product, so that a NaN stays one
#endif
}

#endif

typedef struct {
    vec value, slope;
} curve;

// GELU(z) = z Phi(z), Phi the normal distribution's cumulative function, and its slope Phi(z) + z phi(z).
INLINE curve gelu(vec z) {
    vec bell = exp_negative(z * z * (real)-0.5);
#ifdef VITLAB_DOUBLE
    vec phi = z;
    for (int i = 0; i < LANES; i++) phi[i] = 0.5 * erfc(-0.70710678118654752440 * z[i]);
#else
    // 1 - erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7), which reuses the bell; mirrored for z < 0.
    const bits sign = (bits)splat(-0.0f);
    vec t = reciprocal(1.0f + 0.23164189f * (vec)((bits)z & ~sign));
    vec tail = splat(1.061405429f);
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    vec half_erf = 0.5f - 0.5f * tail * t * bell;
    vec phi = 0.5f + (vec)((bits)half_erf | ((bits)z & sign));
#endif
    return (curve){z * phi, phi + z * bell * (real)0.39894228040143267794};
}

#endif
