// Weight gradients with AMX: long sums of outer products, which find their factors in the second-level cache.
//
// Two by two tiles of sums need one load for each product, and each number of the right factor once for 32 rows. All
// eight tiles are in use, so there are none for the pairs left over by sixteens: the last tiles are those of the last
// sixteen pairs, and in the left factor, which is transposed anyhow, those that were there before become zeros. A NaN
// that is multiplied by them has been in the same sum once already.

#ifndef VITLAB_GRADIENT_AMX_H
#define VITLAB_GRADIENT_AMX_H

#include "gemm_amx.h"

// Pairs in one go: two rows of turned tiles, 32 kB, stay in the nearest cache.
enum { LONGEST = 16 * TILE_PAIRS, TILE_SIZE = TILE_PAIRS * TILE_PAIRS };

// 16 columns of ``count`` pairs as left factor: its tiles one behind the other. 16 pairs lie here or before.
static void turn_all(pair *to, const pair *from, ptrdiff_t width, int count) {
    const int rest = count % TILE_PAIRS;
    for (; count >= TILE_PAIRS; count -= TILE_PAIRS, from += TILE_PAIRS * width, to += TILE_SIZE) {
        turn_tile(to, from, width, TILE_PAIRS);
    }
    if (rest == 0) return;
    turn_tile(to, from - (TILE_PAIRS - rest) * width, width, TILE_PAIRS);
    const __mmask16 new = (__mmask16)(0xffffu << (TILE_PAIRS - rest));
    for (int r = 0; r < TILE_PAIRS; r++) {
        pair *row = to + r * TILE_PAIRS;
        _mm512_storeu_si512(row, _mm512_maskz_loadu_epi32(new, row));
    }
}

// rows x columns tiles of sums, each 1 or 2; room for LONGEST pairs is between the left factor's rows of tiles.
INLINE void add_square(const int rows, const int columns, real *c, ptrdiff_t width, const pair *a, const pair *b,
                       ptrdiff_t b_width, int pairs) {
    const ptrdiff_t c_stride = width * 4, a_stride = 4 * TILE_PAIRS, b_stride = b_width * 4;
    real *lower = c + LANES * width;
    LOAD_TILE(0, c, c_stride);
    if (columns > 1) LOAD_TILE(1, c + LANES, c_stride);
    if (rows > 1) LOAD_TILE(2, lower, c_stride);
    if (rows > 1 && columns > 1) LOAD_TILE(3, lower + LANES, c_stride);
    for (; pairs > 0; pairs -= TILE_PAIRS, a += TILE_SIZE, b += TILE_PAIRS * b_width) {
        if (pairs < TILE_PAIRS) b -= (TILE_PAIRS - pairs) * b_width;
        LOAD_TILE(4, a, a_stride);
        LOAD_TILE(6, b, b_stride);
        MULTIPLY_TILES(0, 4, 6);
        if (rows > 1) LOAD_TILE(5, a + LONGEST * TILE_PAIRS, a_stride);
        if (rows > 1) MULTIPLY_TILES(2, 5, 6);
        if (columns > 1) LOAD_TILE(7, b + LANES, b_stride);
        if (columns > 1) MULTIPLY_TILES(1, 4, 7);
        if (rows > 1 && columns > 1) MULTIPLY_TILES(3, 5, 7);
    }
    STORE_TILE(0, c, c_stride);
    if (columns > 1) STORE_TILE(1, c + LANES, c_stride);
    if (rows > 1) STORE_TILE(2, lower, c_stride);
    if (rows > 1 && columns > 1) STORE_TILE(3, lower + LANES, c_stride);
}

// Two tiles of columns at a time.
INLINE void add_rows(const int rows, real *c, ptrdiff_t width, const pair *a, const pair *b, int pairs) {
    ptrdiff_t i = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) add_square(rows, 2, c + i, width, a, b + i, width, pairs);
    if (i < width) add_square(rows, 1, c + i, width, a, b + i, width, pairs);
}

// sum [out][in] += the transpose of dy [pairs][out] times x [pairs][in]: whole vectors, 16 pairs or more.
static void add_outer_products(real *sum, const pair *dy, ptrdiff_t out, const pair *x, ptrdiff_t in, int pairs) {
    pair turned[2 * LONGEST * TILE_PAIRS] __attribute__((aligned(64)));
    shape_tiles(LANES, TILE_PAIRS);
    for (int now; pairs > 0; pairs -= now, dy += now * out, x += now * in) {
        now = pairs < LONGEST ? pairs : LONGEST;
        for (ptrdiff_t row = 0; row < out; row += 2 * LANES) {
            const int rows = row + LANES < out ? 2 : 1;
            for (int r = 0; r < rows; r++) turn_all(turned + r * LONGEST * TILE_PAIRS, dy + row + r * LANES, out, now);
            if (rows == 2)
                add_rows(2, sum + row * in, in, turned, x, now);
            else
                add_rows(1, sum + row * in, in, turned, x, now);
        }
    }
}

#endif
