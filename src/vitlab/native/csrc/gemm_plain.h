// Products of blocks in full precision: product.h on the plain rows of half_plain.h.

#ifndef VITLAB_GEMM_H
#define VITLAB_GEMM_H

#include "half_plain.h"
#include "product.h"

// The left factor of a product: the number of row r at step k is first[r * row + k * step].
typedef struct {
    const pair *first;
    ptrdiff_t row, step;
} left;

// c[rows][columns] = a b, or c += a b: columns are rounded up to whole vectors.
INLINE void multiply(real *c, ptrdiff_t width, int rows, ptrdiff_t columns, left a, const pair *b, ptrdiff_t b_width,
                     int steps, int add) {
    product(c, add ? c : NULL, width, rows, columns, a.first, a.row, a.step, b, b_width, steps);
}

// The column sums of rows [count][width], added to ``sums``.
static void add_column_sums(real *sums, const pair *rows, ptrdiff_t width, int vecs, int count) {
    for (int v = 0; v < vecs; v++) {
        vec even = load(sums + v * LANES), odd = zeros();
        const pair *from = rows + v * LANES;
        int i = 0;
        for (; i + 1 < count; i += 2) even += load(from + i * width), odd += load(from + (i + 1) * width);
        if (i < count) even += load(from + i * width);
        store(sums + v * LANES, even + odd);
    }
}

#endif
