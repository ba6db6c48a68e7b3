// The innermost product of pairs in plain C, for tests.
//
// A vector of interleaved pairs (a.first, a.second, a.first, ...) times the right factor's pairs as they lie in memory
// gives the two halves of each sum in neighbouring lanes; they are added once, at the end.

#ifndef VITLAB_GEMM_H
#define VITLAB_GEMM_H

#include "half_pairs.h"

typedef struct {
    const pair *first;
    ptrdiff_t row, step;
} left;

INLINE vec alternate(pair x) {
    vec y;
    for (int i = 0; i < LANES; i += 2) y[i] = x.first, y[i + 1] = x.second;
    return y;
}

// Two rows by one vector of columns.
static void small_tile(real *c, ptrdiff_t width, left a, const pair *b, ptrdiff_t b_width, int steps, int add) {
    vec sum[2][2] = {0};
    for (int k = 0; k < steps; k++) {
        const real *right = &b[k * b_width].first;
        vec lower = load(right), upper = load(right + LANES);
        for (int r = 0; r < 2; r++) {
            vec both = alternate(a.first[r * a.row + k * a.step]);
            sum[r][0] += both * lower;
            sum[r][1] += both * upper;
        }
    }
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < LANES; i++) {
            vec source = sum[r][i >= LANES / 2];
            real pair_sum = source[2 * i % LANES] + source[2 * i % LANES + 1];
            c[r * width + i] = add ? c[r * width + i] + pair_sum : pair_sum;
        }
    }
}

// Columns are rounded up to whole vectors.
static void multiply(real *c, ptrdiff_t width, int rows, ptrdiff_t columns, left a, const pair *b, ptrdiff_t b_width,
                     int steps, int add) {
    for (int r = 0; r < rows; r += 2) {
        left from = {a.first + r * a.row, a.row, a.step};
        for (ptrdiff_t i = 0; i < columns; i += LANES) {
            small_tile(c + r * width + i, width, from, b + i, b_width, steps, add);
        }
    }
}

static void add_column_sums(real *sums, const pair *pairs, ptrdiff_t width, int vecs, int count) {
    for (int i = 0; i < count; i++) {
        for (int c = 0; c < vecs * LANES; c++) sums[c] += pairs[i * width + c].first + pairs[i * width + c].second;
    }
}

#endif
