// Products with weights that were packed once for many calls.
//
// The right factor lies in panels of up to three vectors of columns, each as the innermost product reads it, from front
// to back. A panel stays in the nearest cache while all rows of the left factor pass it. See product.h for the sizes.

#ifndef VITLAB_PANELS_H
#define VITLAB_PANELS_H

#include "product.h"

// How many vectors the next panel has if ``vecs`` are left: three, with two of two or one of two at the end.
INLINE ptrdiff_t panel_vecs(ptrdiff_t vecs) { return vecs == 4 || vecs < 3 ? (vecs < 2 ? vecs : 2) : 3; }

// From [steps][width], whole vectors, to panels.
static void pack_panels(real *to, const real *from, ptrdiff_t steps, ptrdiff_t width) {
    ptrdiff_t vecs = width / LANES;
    for (ptrdiff_t now; vecs > 0; vecs -= now, from += now * LANES) {
        now = panel_vecs(vecs);
        for (ptrdiff_t k = 0; k < steps; k++)
            for (ptrdiff_t v = 0; v < now; v++, to += LANES) store(to, load(from + k * width + v * LANES));
    }
}

// c [rows][vecs] = bias + a b, or c += bias + a b: a [rows][steps], b [steps][vecs] without a gap.
INLINE void packed_tile(const int rows, const int vecs, real *c, ptrdiff_t width, const real *a, ptrdiff_t row,
                        const real *b, ptrdiff_t steps, const real *bias, int add) {
    const int units = vecs * UNITS;
    unit sum[8][3 * UNITS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < units; v++) sum[r][v] = *(const unit *)(bias + UNIT * v);
    }
    const real *lower = a + 4 * row;
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
        a++, lower++, b += vecs * LANES;
    }
    if (add) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < units; v++) sum[r][v] += *(const unit *)(c + r * width + UNIT * v);
        }
    }
    UNROLL for (int r = 0; r < rows; r++, c += width) {
        UNROLL for (int v = 0; v < units; v++) *(unit *)(c + UNIT * v) = sum[r][v];
    }
}

#define PACKED_ARGUMENTS \
    real *c, ptrdiff_t width, const real *a, ptrdiff_t row, const real *b, ptrdiff_t steps, const real *bias, int add
#define PACKED(ROWS, VECS)                                                              \
    static __attribute__((noinline)) void packed_##ROWS##_##VECS(PACKED_ARGUMENTS) {    \
        packed_tile(ROWS, VECS, c, width, a, row, b, steps, bias, add);                 \
    }
#define PACKEDS(VECS) PACKED(1, VECS) PACKED(2, VECS) PACKED(4, VECS)
PACKEDS(1) PACKEDS(2) PACKEDS(3) PACKED(8, 1)
#if WITH_AVX512
PACKED(8, 2) PACKED(8, 3)
#else
PACKED(6, 2)
#endif

#define PACKED_AT(FUNCTION) FUNCTION(c + at * width, width, a + at * row, row, b, steps, bias, add)
#define PACKED_OF(VECS, TALLEST)                                                                      \
    INLINE void packed_of_##VECS(PACKED_ARGUMENTS, ptrdiff_t rows) {                                  \
        ptrdiff_t at = 0;                                                                             \
        for (; at + TALLEST <= rows && !(TALLEST == 6 && rows - at == 8); at += TALLEST)                \
            PACKED_AT(packed_##TALLEST##_##VECS);                                                     \
        for (; at + 4 <= rows; at += 4) PACKED_AT(packed_4_##VECS);                                   \
        for (; at + 2 <= rows; at += 2) PACKED_AT(packed_2_##VECS);                                   \
        if (at < rows) PACKED_AT(packed_1_##VECS);                                                    \
    }
PACKED_OF(1, 8)
#if WITH_AVX512
PACKED_OF(2, 8)
PACKED_OF(3, 8)
#else
PACKED_OF(2, 6)
PACKED_OF(3, 4)
#endif

// c [rows][columns] = bias + a b, or with ``add`` c += bias + a b; columns are whole vectors, b is packed.
static void multiply_packed(real *c, ptrdiff_t width, ptrdiff_t rows, ptrdiff_t columns, const real *a, ptrdiff_t row,
                            const real *b, ptrdiff_t steps, const real *bias, int add) {
    ptrdiff_t vecs = columns / LANES;
    for (ptrdiff_t now; vecs > 0; vecs -= now, c += now * LANES, b += now * LANES * steps, bias += now * LANES) {
        now = panel_vecs(vecs);
        if (now == 3)
            packed_of_3(c, width, a, row, b, steps, bias, add, rows);
        else if (now == 2)
            packed_of_2(c, width, a, row, b, steps, bias, add, rows);
        else
            packed_of_1(c, width, a, row, b, steps, bias, add, rows);
    }
}

// The same for few columns and many steps, as at the end of a network: even and odd steps have sums of their own, since
// those of so few columns would wait for each other.
INLINE void long_tile(const int rows, const int vecs, real *c, ptrdiff_t width, const real *a, ptrdiff_t row,
                      const real *b, ptrdiff_t steps, const real *bias) {
    const int units = vecs * UNITS;
    unit sum[2][2][2 * UNITS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < units; v++) sum[r][0][v] = *(const unit *)(bias + UNIT * v), sum[r][1][v] = (unit){0};
    }
    for (ptrdiff_t k = 0; k + 1 < steps; k += 2) {
        UNROLL for (int odd = 0; odd < 2; odd++) {
            UNROLL for (int r = 0; r < rows; r++) {
                const unit left = a[r * row + k + odd] - (unit){0};
                UNROLL for (int v = 0; v < units; v++)
                    sum[r][odd][v] += left * *(const unit *)(b + ((k + odd) * vecs * LANES + UNIT * v));
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++, c += width) {
        UNROLL for (int v = 0; v < units; v++) {
            if (steps % 2) sum[r][0][v] += a[r * row + steps - 1] * *(const unit *)(b + (steps - 1) * vecs * LANES + UNIT * v);
            *(unit *)(c + UNIT * v) = sum[r][0][v] + sum[r][1][v];
        }
    }
}

static __attribute__((noinline)) void long_rows(real *c, ptrdiff_t width, ptrdiff_t rows, int vecs, const real *a,
                                                ptrdiff_t row, const real *b, ptrdiff_t steps, const real *bias) {
    for (ptrdiff_t at = 0; at < rows; at += 2, c += 2 * width, a += 2 * row) {
        const int two = at + 1 < rows;
        if (vecs == 1 && two)
            long_tile(2, 1, c, width, a, row, b, steps, bias);
        else if (vecs == 1)
            long_tile(1, 1, c, width, a, row, b, steps, bias);
        else if (two)
            long_tile(2, 2, c, width, a, row, b, steps, bias);
        else
            long_tile(1, 2, c, width, a, row, b, steps, bias);
    }
}

// c [rows][columns] = bias + a b, as multiply_packed, where there are often few columns.
static void multiply_few(real *c, ptrdiff_t width, ptrdiff_t rows, ptrdiff_t columns, const real *a, ptrdiff_t row,
                         const real *b, ptrdiff_t steps, const real *bias) {
    if (columns <= 2 * LANES)
        long_rows(c, width, rows, (int)(columns / LANES), a, row, b, steps, bias);
    else
        multiply_packed(c, width, rows, columns, a, row, b, steps, bias, 0);
}

#endif
