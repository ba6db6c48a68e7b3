// The innermost product with AVX512-BF16: a tile of up to 8 rows by 4 vectors of sums stays in registers.
//
// Zen 4 starts one 512-bit vdpbf16ps a cycle and needs at least six independent sums to do so; 8 x 3 sums with three
// vectors of the right factor and one broadcast pair of the left use 28 of the 32 registers and 11 loads in 24 cycles.

#ifndef VITLAB_GEMM_H
#define VITLAB_GEMM_H

#include "half_bf16.h"

// The left factor of a product: the pair of row r at step k is first[r * row + k * step].
typedef struct {
    const pair *first;
    ptrdiff_t row, step;
} left;

INLINE void tile_of(const int rows, const int vecs, real *c, ptrdiff_t width, const pair *a, ptrdiff_t row,
                    ptrdiff_t step, const pair *b, ptrdiff_t b_width, int steps, int add) {
    __m512 sum[8][4];
    const real *from = c;
    UNROLL for (int r = 0; r < rows; r++, from += width) {
        UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = add ? _mm512_loadu_ps(from + LANES * v) : _mm512_setzero_ps();
    }
    const pair *lower = a + 4 * row;  // two bases keep the addresses in few registers
    for (; steps > 0; steps--) {
        __m512bh right[4];
        UNROLL for (int v = 0; v < vecs; v++) right[v] = (__m512bh)_mm512_loadu_si512(b + LANES * v);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512bh both = (__m512bh)_mm512_set1_epi32((int)(r < 4 ? a[r * row] : lower[(r - 4) * row]));
            UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], both, right[v]);
        }
        a += step, lower += step, b += b_width;
    }
    __asm__("" : "+r"(c), "+r"(width));  // or the compiler computes all addresses at the start and spills them
    UNROLL for (int r = 0; r < rows; r++, c += width) {
        UNROLL for (int v = 0; v < vecs; v++) _mm512_storeu_ps(c + LANES * v, sum[r][v]);
    }
}

// Arguments one by one: a struct on the stack would be read back before its stores have left for the cache, behind
// those of the last tile.
#define TILE_ARGUMENTS                                                                                               \
    real *c, ptrdiff_t width, const pair *a, ptrdiff_t row, ptrdiff_t step, const pair *b, ptrdiff_t b_width, int steps, int add
#define TILE(ROWS, VECS)                                                           \
    static __attribute__((noinline)) void tile_##ROWS##_##VECS(TILE_ARGUMENTS) {   \
        if (add)                                                                   \
            tile_of(ROWS, VECS, c, width, a, row, step, b, b_width, steps, 1);     \
        else                                                                       \
            tile_of(ROWS, VECS, c, width, a, row, step, b, b_width, steps, 0);     \
    }
#define TILES(ROWS) TILE(ROWS, 1) TILE(ROWS, 2) TILE(ROWS, 3)
TILES(2) TILES(4) TILES(6) TILES(8)
TILE(2, 4) TILE(4, 4) TILE(6, 4)

typedef void tile_function(TILE_ARGUMENTS);
static tile_function *const tiles[4][4] = {
    {tile_2_1, tile_2_2, tile_2_3, tile_2_4},
    {tile_4_1, tile_4_2, tile_4_3, tile_4_4},
    {tile_6_1, tile_6_2, tile_6_3, tile_6_4},
    {tile_8_1, tile_8_2, tile_8_3, NULL},
};

// c[rows][16 vecs] = a b, or c += a b: rows even and at most 8, steps pairs are summed over. Columns go in panels of
// three vectors, with a last one of 1, 2 or 4.
INLINE void multiply(real *c, ptrdiff_t width, int rows, int vecs, left a, const pair *b, ptrdiff_t b_width, int steps,
                     int add) {
    for (int v = 0, now; v < vecs; v += now, b += now * LANES, c += now * LANES) {
        now = vecs - v == 4 ? 4 : vecs - v < 3 ? vecs - v : 3;
        if (now == 4 && rows == 8) {  // 32 sums would not fit
            tile_4_4(c, width, a.first, a.row, a.step, b, b_width, steps, add);
            tile_4_4(c + 4 * width, width, a.first + 4 * a.row, a.row, a.step, b, b_width, steps, add);
        } else {
            tiles[rows / 2 - 1][now - 1](c, width, a.first, a.row, a.step, b, b_width, steps, add);
        }
    }
}

// The column sums of row pairs [count][width], added to ``sums``.
static void add_column_sums(real *sums, const pair *pairs, ptrdiff_t width, int vecs, int count) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int v = 0; v < vecs; v++) {
        __m512 even = _mm512_loadu_ps(sums + v * LANES), odd = _mm512_setzero_ps();
        const pair *from = pairs + v * LANES;
        for (int i = 0; i < count; i += 2) {
            even = _mm512_dpbf16_ps(even, ones, (__m512bh)_mm512_loadu_si512(from + i * width));
            if (i + 1 < count) odd = _mm512_dpbf16_ps(odd, ones, (__m512bh)_mm512_loadu_si512(from + (i + 1) * width));
        }
        store(sums + v * LANES, even + odd);
    }
}

#endif
