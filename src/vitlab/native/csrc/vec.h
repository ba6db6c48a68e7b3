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

// Tiles of sums in registers of their own, of which gemm_amx.h knows.
#if defined VITLAB_BF16 && defined __AMX_BF16__ && defined __linux__
#define WITH_AMX 1
#else
#define WITH_AMX 0
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_VECS _Pragma("GCC unroll 4")

enum { LANES = 16, HALF_LANES = 8 };

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
#if WITH_INTRINSICS
    return _mm512_sqrt_ps(x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sizeof(real) == sizeof(float) ? sqrtf((float)x[i]) : sqrt(x[i]);
    return x;
#endif
}

#ifdef VITLAB_DOUBLE

INLINE vec exp_negative(vec x) {
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}

#else

// e^x for x <= 0 with a relative error of about 1e-6 where the result is not negligible; 0 far below, NaN for NaN.
// x log2(e) = n + r with a whole n and |r| <= 1/2, a polynomial for 2^r (least maximum error, fitted), times 2^n.
INLINE vec exp_negative(vec x) {
#if WITH_INTRINSICS
    vec t = vec_max(splat(-160.0f), x * 1.44269504f);
    vec n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    const real shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, which lands in the low bits
    vec t = vec_max(splat(-126.0f), x * 1.44269504f), shifted = t + shift, n = shifted - shift;
#endif
    vec r = t - n;
    vec y = splat(0.00133002243f);
    y = y * r + 0.00966975846f;
    y = y * r + 0.0555056017f;
    y = y * r + 0.240222807f;
    y = y * r + 0.693147181f;
    y = y * r + 1.0f;
#if WITH_INTRINSICS
#if WITH_AMX  // Intel: a result too small to be normal would take 150 cycles
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n, splat(-126.0f), _CMP_NLT_UQ), y, n);
#else
    return _mm512_scalef_ps(y, n);
#endif
#else
    return y * (vec)(((bits)shifted + 127) << 23);  // a product, so that a NaN stays one
#endif
}

#endif

#endif
