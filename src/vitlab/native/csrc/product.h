// The innermost product in full precision: a tile of sums stays in registers.
//
// Written with the compiler's vector types for any processor with multiply-add. UNIT is what one register holds. With
// 32 registers or more, a tile has up to 24 registers of sums, with 16 registers up to 12: enough that each sum waits
// for nothing but its own last addition, and few enough that factors fit in. The left factor's numbers are broadcast.
//
//   AVX-512: 8 rows by 3 vectors (8 x 48)   AVX2: 4 by 3, 6 by 2, 8 by 1 (4 x 24, 6 x 16, 8 x 8)
//   AArch64: as AVX2, where a vector of 8 numbers is two registers of 4

#ifndef VITLAB_PRODUCT_H
#define VITLAB_PRODUCT_H

#include "vec.h"

#if defined __AVX512F__
enum { REGISTER_BYTES = 64 };
#elif defined __AVX__
enum { REGISTER_BYTES = 32 };
#else
enum { REGISTER_BYTES = 16 };
#endif
enum { UNIT = REGISTER_BYTES / sizeof(real) < LANES ? REGISTER_BYTES / sizeof(real) : LANES, UNITS = LANES / UNIT };

// Without this gcc loads each number of the right factor once for each row.
#if defined __x86_64__
#define IN_REGISTER(X) __asm__("" : "+v"(X))
#elif defined __aarch64__
#define IN_REGISTER(X) __asm__("" : "+w"(X))
#else
#define IN_REGISTER(X) (void)(X)
#endif

typedef real unit __attribute__((vector_size(UNIT * sizeof(real)), aligned(sizeof(real)), may_alias));

// c [rows][vecs] = start (NULL: zeros) + a b: c, start [..][width], b [..][b_width]; the left factor's number of row r
// at step k is a[r * row + k * step].
INLINE void product_tile(const int rows, const int vecs, real *c, const real *start, ptrdiff_t width, const real *a,
                         ptrdiff_t row, ptrdiff_t step, const real *b, ptrdiff_t b_width, ptrdiff_t steps) {
    const int units = vecs * UNITS;
    unit sum[8][3 * UNITS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < units; v++) sum[r][v] = (unit){0};
    }
    if (start) {
        UNROLL for (int r = 0; r < rows; r++, start += width) {
            UNROLL for (int v = 0; v < units; v++) sum[r][v] = *(const unit *)(start + UNIT * v);
        }
    }
    const real *lower = a + 4 * row;  // two bases keep the addresses in few registers
    for (; steps > 0; steps--) {
        unit right[3 * UNITS];
        UNROLL for (int v = 0; v < units; v++) {
            right[v] = *(const unit *)(b + UNIT * v);
            IN_REGISTER(right[v]);
        }
        UNROLL for (int r = 0; r < rows; r++) {
            const unit left = (r < 4 ? a[r * row] : lower[(r - 4) * row]) - (unit){0};
            UNROLL for (int v = 0; v < units; v++) sum[r][v] += left * right[v];
        }
        a += step, lower += step, b += b_width;
    }
    UNROLL for (int r = 0; r < rows; r++, c += width) {
        UNROLL for (int v = 0; v < units; v++) *(unit *)(c + UNIT * v) = sum[r][v];
    }
}

#define PRODUCT_ARGUMENTS                                                                                          \
    real *c, const real *start, ptrdiff_t width, const real *a, ptrdiff_t row, ptrdiff_t step, const real *b, \
        ptrdiff_t b_width, ptrdiff_t steps
#define PRODUCT(ROWS, VECS)                                                                        \
    static __attribute__((noinline, unused)) void product_##ROWS##_##VECS(PRODUCT_ARGUMENTS) {     \
        product_tile(ROWS, VECS, c, start, width, a, row, step, b, b_width, steps);                \
    }
#define PRODUCTS(VECS) PRODUCT(1, VECS) PRODUCT(2, VECS) PRODUCT(4, VECS)
PRODUCTS(1) PRODUCTS(2) PRODUCTS(3) PRODUCT(8, 1)
#if WITH_AVX512
PRODUCT(8, 2) PRODUCT(8, 3)
#else
PRODUCT(6, 2)
#endif

#define AT_ROW(FUNCTION) \
    FUNCTION(c + at * width, start ? start + at * width : NULL, width, a + at * row, row, step, b, b_width, steps)
// Rows of one panel: whole tiles, then what is left. 6 + 2 are slower than 4 + 4.
#define PANEL_OF(VECS, TALLEST)                                                                        \
    INLINE void panel_of_##VECS(PRODUCT_ARGUMENTS, ptrdiff_t rows) {                                   \
        ptrdiff_t at = 0;                                                                              \
        for (; at + TALLEST <= rows && !(TALLEST == 6 && rows - at == 8); at += TALLEST)                 \
            AT_ROW(product_##TALLEST##_##VECS);                                                        \
        for (; at + 4 <= rows; at += 4) AT_ROW(product_4_##VECS);                                      \
        for (; at + 2 <= rows; at += 2) AT_ROW(product_2_##VECS);                                      \
        if (at < rows) AT_ROW(product_1_##VECS);                                                       \
    }
PANEL_OF(1, 8)
#if WITH_AVX512
PANEL_OF(2, 8)
PANEL_OF(3, 8)
#else
PANEL_OF(2, 6)
PANEL_OF(3, 4)
#endif

// c [rows][columns] = start (NULL: zeros) + a b for any number of rows; columns are rounded up to whole vectors. They go
// in panels of three vectors, with two of two or one of two, rather than a single one, at the end.
static __attribute__((unused)) void product(real *c, const real *start, ptrdiff_t width, ptrdiff_t rows,
                                            ptrdiff_t columns, const real *a, ptrdiff_t row, ptrdiff_t step,
                                            const real *b, ptrdiff_t b_width, ptrdiff_t steps) {
    ptrdiff_t vecs = (columns + LANES - 1) / LANES;
    for (ptrdiff_t now; vecs > 0; vecs -= now, c += now * LANES, b += now * LANES, start += start ? now * LANES : 0) {
        now = vecs == 4 || vecs < 3 ? (vecs < 2 ? vecs : 2) : 3;
        if (now == 3)
            panel_of_3(c, start, width, a, row, step, b, b_width, steps, rows);
        else if (now == 2)
            panel_of_2(c, start, width, a, row, step, b, b_width, steps, rows);
        else
            panel_of_1(c, start, width, a, row, step, b, b_width, steps, rows);
    }
}

#endif
