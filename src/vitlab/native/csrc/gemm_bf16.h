// The innermost product with AVX512-BF16: a tile of up to 8 rows by 3 vectors of sums (6 by 4) stays in registers.
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

// ``halves`` half vectors of columns: an odd one is computed in 256 bits, in half the time.
INLINE void tile_of(const int rows, const int halves, real *c, ptrdiff_t width, const pair *a, ptrdiff_t row,
                    ptrdiff_t step, const pair *b, ptrdiff_t b_width, int steps, int add) {
    const int vecs = halves / 2, odd = halves % 2;
    __m512 sum[8][4];
    __m256 half_sum[8];
    const real *from = c;
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = _mm512_setzero_ps();
        if (odd) half_sum[r] = _mm256_setzero_ps();
    }
    if (add) {
        UNROLL for (int r = 0; r < rows; r++, from += width) {
            UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = _mm512_loadu_ps(from + LANES * v);
            if (odd) half_sum[r] = _mm256_loadu_ps(from + LANES * vecs);
        }
    }
    const pair *lower = a + 4 * row;  // two bases keep the addresses in few registers
    for (; steps > 0; steps--) {
        __m512bh right[4];
        __m256bh half_right;
        UNROLL for (int v = 0; v < vecs; v++) right[v] = (__m512bh)_mm512_loadu_si512(b + LANES * v);
        if (odd) half_right = (__m256bh)_mm256_loadu_si256((const __m256i *)(b + LANES * vecs));
        UNROLL for (int r = 0; r < rows; r++) {
            __m512i both = _mm512_set1_epi32((int)(r < 4 ? a[r * row] : lower[(r - 4) * row]));
            UNROLL for (int v = 0; v < vecs; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)both, right[v]);
            if (odd) half_sum[r] = _mm256_dpbf16_ps(half_sum[r], (__m256bh)_mm512_castsi512_si256(both), half_right);
        }
        a += step, lower += step, b += b_width;
    }
    __asm__("" : "+r"(c), "+r"(width));  // or the compiler computes all addresses at the start and spills them
    UNROLL for (int r = 0; r < rows; r++, c += width) {
        UNROLL for (int v = 0; v < vecs; v++) _mm512_storeu_ps(c + LANES * v, sum[r][v]);
        if (odd) _mm256_storeu_ps(c + LANES * vecs, half_sum[r]);
    }
}

// Arguments one by one: a struct on the stack would be read back before its stores have left for the cache, behind
// those of the last tile.
#define TILE_ARGUMENTS                                                                                                \
    real *c, ptrdiff_t width, const pair *a, ptrdiff_t row, ptrdiff_t step, const pair *b, ptrdiff_t b_width, \
        int steps, int add
#define TILE(ROWS, HALVES)                                                       \
    static __attribute__((noinline)) void tile_##ROWS##_##HALVES(TILE_ARGUMENTS) { \
        tile_of(ROWS, HALVES, c, width, a, row, step, b, b_width, steps, add);     \
    }
#define TILES(ROWS) TILE(ROWS, 1) TILE(ROWS, 2) TILE(ROWS, 3) TILE(ROWS, 4) TILE(ROWS, 5) TILE(ROWS, 6)
#define WIDE_TILES(ROWS) TILES(ROWS) TILE(ROWS, 7) TILE(ROWS, 8)
WIDE_TILES(2) WIDE_TILES(4) WIDE_TILES(6) TILES(8)

typedef void tile_function(TILE_ARGUMENTS);
#define TILE_ROW(ROWS) \
    tile_##ROWS##_1, tile_##ROWS##_2, tile_##ROWS##_3, tile_##ROWS##_4, tile_##ROWS##_5, tile_##ROWS##_6
static tile_function *const tiles[4][8] = {
    {TILE_ROW(2), tile_2_7, tile_2_8},
    {TILE_ROW(4), tile_4_7, tile_4_8},
    {TILE_ROW(6), tile_6_7, tile_6_8},
    {TILE_ROW(8)},
};

enum { VECTOR_ROWS = 8 };

// c[rows][columns] = a b, or c += a b: rows even and at most 8, steps pairs are summed over. Columns, rounded up to
// half vectors, go in panels of six of them, with a last one of at most 8; no more are written.
INLINE void vector_product(real *c, ptrdiff_t width, int rows, ptrdiff_t columns, left a, const pair *b,
                           ptrdiff_t b_width, int steps, int add) {
    int halves = (int)(columns + HALF_LANES - 1) / HALF_LANES;
    for (int now; halves > 0; halves -= now, b += now * HALF_LANES, c += now * HALF_LANES) {
        now = halves == 7 || halves == 8 || halves < 6 ? halves : 6;
        if (now > 6 && rows == 8) {  // its sums would not fit
            tiles[1][now - 1](c, width, a.first, a.row, a.step, b, b_width, steps, add);
            tiles[1][now - 1](c + 4 * width, width, a.first + 4 * a.row, a.row, a.step, b, b_width, steps, add);
        } else {
            tiles[rows / 2 - 1][now - 1](c, width, a.first, a.row, a.step, b, b_width, steps, add);
        }
    }
}

#if WITH_AMX
#include "gemm_amx.h"
#include "gradient_amx.h"
#else
#define multiply vector_product
#endif

// The column sums of row pairs [count][width], added to ``sums``.
static void add_column_sums(real *sums, const pair *pairs, ptrdiff_t width, int vecs, int count) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int v = 0; v < vecs; v++) {
        keep_awake();
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
