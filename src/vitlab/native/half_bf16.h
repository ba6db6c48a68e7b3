// Storage of 16 bits: conversion, and the two layouts that the processor's bf16 product wants.
//
// vdpbf16ps multiplies pairs: acc[lane] += a.first * b.first + a.second * b.second. So both factors are stored in pairs
// along the dimension that is summed over:
//   row-major  [rows][columns] halves: pairs of columns, for products that sum over columns;
//   row pairs  [rows / 2][columns] pairs: two rows interleaved, for products that sum over rows;
//   column pairs [columns / 2][rows] pairs: the transpose of row-major, 32 bits at a time, as the right factor.

#ifndef VITLAB_HALF_H
#define VITLAB_HALF_H

#include "vec.h"

typedef uint16_t half;
// Pairs begin at any column, also an odd one.
typedef uint32_t pair __attribute__((aligned(2), may_alias));

typedef struct {
    vec first, second;
} two_rows;

INLINE half to_half(real x) { return (half)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(x)), 0); }

// 16 pairs as float: a bf16 number is the upper half of a float.
INLINE two_rows get_pairs(const pair *from) {
    __m512i pairs = _mm512_loadu_si512(from);
    return (two_rows){(vec)_mm512_slli_epi32(pairs, 16), (vec)_mm512_and_si512(pairs, _mm512_set1_epi32(-65536))};
}

// Column i's pair is word i of the first row and word i of the second, which the conversion puts 16 words later.
INLINE __m512i interleave(void) {
    return _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                            23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
}

INLINE __m512i deinterleave(void) {
    return _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1,  //
                            30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
}

INLINE void put_pairs(pair *to, vec first, vec second) {
    __m512i words = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(interleave(), words));
}

INLINE void put_row_words(half *rows, ptrdiff_t width, __m512i words) {
    _mm256_storeu_si256((__m256i *)rows, _mm512_castsi512_si256(words));
    _mm256_storeu_si256((__m256i *)(rows + width), _mm512_extracti64x4_epi64(words, 1));
}

// Two rows, 16 columns, row-major.
INLINE void put_rows(half *rows, ptrdiff_t width, vec first, vec second) {
    put_row_words(rows, width, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

// Both layouts for one conversion.
INLINE void put_both(half *rows, ptrdiff_t width, pair *pairs, vec first, vec second) {
    __m512i words = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    put_row_words(rows, width, words);
    _mm512_storeu_si512(pairs, _mm512_permutexvar_epi16(interleave(), words));
}

// Row pairs [rows / 2][width] to row-major [rows][width], ``columns`` of them (a multiple of 16).
static void rows_from_pairs(half *to, const pair *from, ptrdiff_t width, int rows, int columns) {
    for (int row = 0; row < rows; row += 2) {
        for (int i = 0; i < columns; i += LANES) {
            __m512i pairs = _mm512_loadu_si512(from + row / 2 * width + i);
            put_row_words(to + row * width + i, width, _mm512_permutexvar_epi16(deinterleave(), pairs));
        }
    }
}

// Four times four 32-bit words from rows 0, 4, 8, 12 on: each 128-bit lane gets one row's.
INLINE __m512i four_rows(const half *from, ptrdiff_t width) {
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)from));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 4 * width)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 8 * width)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 12 * width)), 3);
}

// Row-major to column pairs [count][to_width]: 16 rows by four pairs at a time, each transposed within 128-bit lanes.
// ``rows`` is a multiple of 16; reads and writes up to three pairs more than ``count``.
static void column_pairs(pair *to, ptrdiff_t to_width, const half *from, ptrdiff_t width, int rows, int count) {
    for (int row = 0; row < rows; row += LANES) {
        for (int i = 0; i < count; i += 4) {
            const half *at = from + row * width + 2 * i;
            pair *out = to + i * to_width + row;
            __m512i a = four_rows(at, width), b = four_rows(at + width, width);
            __m512i c = four_rows(at + 2 * width, width), d = four_rows(at + 3 * width, width);
            __m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
            _mm512_storeu_si512(out, _mm512_unpacklo_epi64(ab, cd));
            _mm512_storeu_si512(out + to_width, _mm512_unpackhi_epi64(ab, cd));
            ab = _mm512_unpackhi_epi32(a, b), cd = _mm512_unpackhi_epi32(c, d);
            _mm512_storeu_si512(out + 2 * to_width, _mm512_unpacklo_epi64(ab, cd));
            _mm512_storeu_si512(out + 3 * to_width, _mm512_unpackhi_epi64(ab, cd));
        }
    }
}

// Zero the second half of each pair: an odd number of columns leaves the last one alone.
static void drop_seconds(pair *pairs, int count) {
    for (int i = 0; i < count; i++) pairs[i] &= 0xffffu;
}

#endif
