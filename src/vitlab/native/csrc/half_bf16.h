// Storage of 16 bits: conversion, and the two layouts that the processor's bf16 product wants.
//
// vdpbf16ps multiplies pairs: acc[lane] += a.first * b.first + a.second * b.second. So both factors are stored in pairs
// along the dimension that is summed over:
//   row-major  [rows][columns] halves: pairs of columns, for products that sum over columns;
//   row pairs  [rows / 2][columns] pairs: two rows interleaved, for products that sum over rows;
//   column pairs [columns / 2][rows] pairs: the transpose of row-major, 32 bits at a time, as the right factor.
// half_plain.h has the same without pairs (PAIR is 1), half_pairs.h with pairs of full width.

#ifndef VITLAB_HALF_H
#define VITLAB_HALF_H

#include "vec.h"

typedef uint16_t half;
// Pairs begin at any column, also an odd one.
typedef uint32_t pair __attribute__((aligned(2), may_alias));
enum { PAIR = 2 };  // numbers in one

typedef struct {
    vec first, second;
} two_rows;

// 16 pairs as float: a bf16 number is the upper half of a float.
INLINE two_rows get_pairs(const pair *from, ptrdiff_t width) {
    (void)width;
    __m512i pairs = _mm512_loadu_si512(from);
    return (two_rows){(vec)_mm512_slli_epi32(pairs, 16), (vec)_mm512_and_si512(pairs, _mm512_set1_epi32(-65536))};
}

// Column i's pair is word i of the first row and word i of the second, which the conversion puts 16 words later.
INLINE __m512i interleave(void) {
    return _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                            23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
}

INLINE void put_pairs(pair *to, ptrdiff_t width, vec first, vec second) {
    (void)width;
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
INLINE void put_both(half *rows, ptrdiff_t row_width, pair *pairs, ptrdiff_t width, vec first, vec second) {
    __m512i words = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    (void)width;
    put_row_words(rows, row_width, words);
    _mm512_storeu_si512(pairs, _mm512_permutexvar_epi16(interleave(), words));
}

// Sixteen columns of one row pair, as eight 64-bit items: column pair i of both rows.
INLINE __m512i column_items(const pair *from) {
    const __m512i order = _mm512_broadcast_i32x4(_mm_set_epi8(15, 14, 11, 10, 13, 12, 9, 8, 7, 6, 3, 2, 5, 4, 1, 0));
    return _mm512_shuffle_epi8(_mm512_loadu_si512(from), order);
}

// Row pairs [row_pairs][width] to column pairs [count][to_width]: 16 rows by 16 columns at a time, the transpose of an
// 8 x 8 matrix of 64-bit items. Rows that fill up to_width become zeros. Reads up to a vector, and writes up to seven
// pairs, more than ``count``.
static void column_pairs(pair *to, ptrdiff_t to_width, const pair *from, ptrdiff_t width, int row_pairs, int count) {
    for (int row = 0; row < to_width / 2; row += 8) {
        for (int i = 0; i < count; i += 8) {
            __m512i x[8], y[8];
            UNROLL for (int r = 0; r < 8; r++) {
                const pair *at = from + (row + r) * width + 2 * i;
                x[r] = row + r < row_pairs ? column_items(at) : _mm512_setzero_si512();
            }
            UNROLL for (int r = 0; r < 8; r += 2) {
                y[r] = _mm512_unpacklo_epi64(x[r], x[r + 1]), y[r + 1] = _mm512_unpackhi_epi64(x[r], x[r + 1]);
            }
            UNROLL for (int h = 0; h < 2; h++) {  // even and odd column pairs
                __m512i a = _mm512_shuffle_i64x2(y[h], y[2 + h], 0x88), c = _mm512_shuffle_i64x2(y[h], y[2 + h], 0xdd);
                __m512i b = _mm512_shuffle_i64x2(y[4 + h], y[6 + h], 0x88);
                __m512i d = _mm512_shuffle_i64x2(y[4 + h], y[6 + h], 0xdd);
                pair *out = to + (i + h) * to_width + 2 * row;
                _mm512_storeu_si512(out, _mm512_shuffle_i64x2(a, b, 0x88));
                _mm512_storeu_si512(out + 2 * to_width, _mm512_shuffle_i64x2(c, d, 0x88));
                _mm512_storeu_si512(out + 4 * to_width, _mm512_shuffle_i64x2(a, b, 0xdd));
                _mm512_storeu_si512(out + 6 * to_width, _mm512_shuffle_i64x2(c, d, 0xdd));
            }
        }
    }
}

// Zero the second half of each pair: an odd number of columns leaves the last one alone.
static void drop_seconds(pair *pairs, int count) {
    for (int i = 0; i < count; i++) pairs[i] &= 0xffffu;
}

#endif
