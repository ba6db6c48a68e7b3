// What happens to a tile of sums when it leaves a product: norm, softmax, activation, residual, and their gradients.
//
// Everything works on two rows at a time, since rows are stored in pairs. A function that needs a pair of rows more than
// once holds it in ``a`` [2 * vecs]; for the usual widths FOR_WIDTH makes copies of the function with a constant number
// of vectors, whose ``a`` is registers.

#ifndef VITLAB_ROWS_H
#define VITLAB_ROWS_H

#include "plan.h"

#define FOR_WIDTH(VECS, MEMORY, FUNCTION, ...)                 \
    switch (VECS) {                                            \
        case 3: {                                              \
            vec a_[6];                                         \
            FUNCTION(3, a_, __VA_ARGS__);                      \
            break;                                             \
        }                                                      \
        case 4: {                                              \
            vec a_[8];                                         \
            FUNCTION(4, a_, __VA_ARGS__);                      \
            break;                                             \
        }                                                      \
        default:                                               \
            FUNCTION((int)(VECS), MEMORY, __VA_ARGS__);        \
    }

#ifdef VITLAB_DOUBLE
#define square_root sqrt
#else
#define square_root sqrtf
#endif

static const real NORM_EPS = (real)1e-6;

// Where normed rows go: row-major for the next product, row pairs and 1 / spread for the backward pass.
typedef struct {
    half *rows;
    pair *pairs;
    real *rstd;
} normed;

// Centres one row (layer norm) and returns 1 / its spread.
INLINE real center(const int vecs, vec *a, const plan *p) {
    vec sum = zeros();
    if (!p->s.rms) {
        UNROLL_VECS for (int v = 0; v < vecs; v++) sum += a[v];
        vec mean = splat(sum_lanes(sum) / p->s.dim);
        UNROLL_VECS for (int v = 0; v < vecs; v++) a[v] -= mean;
        a[vecs - 1] = keep(a[vecs - 1], p->dim_tail);
    }
    vec square = zeros();
    UNROLL_VECS for (int v = 0; v < vecs; v++) square += a[v] * a[v];
    return 1 / square_root(sum_lanes(square) / p->s.dim + NORM_EPS);
}

INLINE void norm_pair(const int vecs, vec *a, const plan *p, int row, normed to) {
    const real first = center(vecs, a, p), second = center(vecs, a + vecs, p);
    to.rstd[row] = first, to.rstd[row + 1] = second;
    half *rows = to.rows + row * p->dim;
    pair *pairs = to.pairs + row / 2 * p->dim;
    UNROLL_VECS for (int v = 0; v < vecs; v++) {
        put_both(rows + v * LANES, p->dim, pairs + v * LANES, a[v] * first, a[vecs + v] * second);
    }
}

INLINE void norm_rows_of(const int vecs, vec *a, const plan *p, const real *x, normed to) {
    for (int row = 0; row < p->rows; row += 2) {
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            a[v] = load(x + row * p->dim + v * LANES);
            a[vecs + v] = load(x + (row + 1) * p->dim + v * LANES);
        }
        norm_pair(vecs, a, p, row, to);
    }
}

// The norm of a whole image x [rows][dim].
static void norm_rows(const plan *p, scratch *c, const real *x, normed to) {
    FOR_WIDTH(p->dim / LANES, c->row, norm_rows_of, p, x, to)
}

INLINE void residual_of(const int vecs, vec *a, const plan *p, scratch *c, int row, int rows, const real *bias, normed to) {
    for (int r = 0; r < rows; r += 2) {
        real *x = c->x + (row + r) * p->dim;
        const real *tile = c->tile + r * p->tile;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            vec b = load(bias + v * LANES);
            a[v] = load(x + v * LANES) + load(tile + v * LANES) + b;
            a[vecs + v] = load(x + p->dim + v * LANES) + load(tile + p->tile + v * LANES) + b;
            store(x + v * LANES, a[v]);
            store(x + p->dim + v * LANES, a[vecs + v]);
        }
        if (to.rows) norm_pair(vecs, a, p, row + r, to);
    }
}

// x += tile + bias, and the norm of the sum (to.rows NULL: none).
static void residual(const plan *p, scratch *c, int row, int rows, const real *bias, normed to) {
    FOR_WIDTH(p->dim / LANES, c->row, residual_of, p, c, row, rows, bias, to)
}

INLINE void norm_gradient_of(const int vecs, vec *a, const plan *p, scratch *c, int row, int rows, real *dx,
                             const pair *normed_pairs, const real *rstd, pair *to) {
    const real share = (real)1 / p->s.dim;
    for (int r = 0; r < rows; r += 2) {
        const pair *n = normed_pairs + (row + r) / 2 * p->dim;
        const real *tile = c->tile + r * p->tile;
        vec dot0 = zeros(), dot1 = zeros(), sum0 = zeros(), sum1 = zeros();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows x = get_pairs(n + v * LANES);
            a[v] = load(tile + v * LANES), a[vecs + v] = load(tile + p->tile + v * LANES);
            dot0 += a[v] * x.first, dot1 += a[vecs + v] * x.second;
            if (!p->s.rms) sum0 += a[v], sum1 += a[vecs + v];
        }
        const real d0 = sum_lanes(dot0) * share, d1 = sum_lanes(dot1) * share;
        const real m0 = p->s.rms ? 0 : sum_lanes(sum0) * share, m1 = p->s.rms ? 0 : sum_lanes(sum1) * share;
        const real r0 = rstd[row + r], r1 = rstd[row + r + 1];
        half *rows_to = c->dy_rows + (row + r) * p->dim;
        real *g = dx + (row + r) * p->dim;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows x = get_pairs(n + v * LANES);
            vec g0 = load(g + v * LANES) + (a[v] - x.first * d0 - m0) * r0;
            vec g1 = load(g + p->dim + v * LANES) + (a[vecs + v] - x.second * d1 - m1) * r1;
            if (v == vecs - 1) g0 = keep(g0, p->dim_tail), g1 = keep(g1, p->dim_tail);
            store(g + v * LANES, g0), store(g + p->dim + v * LANES, g1);
            put_both(rows_to + v * LANES, p->dim, to + (row + r) / 2 * p->dim + v * LANES, g0, g1);
        }
    }
}

// dx += the norm's gradient, where the tile is that of its output n: (dn - n mean(dn n) - mean(dn)) / spread. The sum
// also goes to c->dy_rows and, as row pairs, to ``to``.
static void norm_gradient(const plan *p, scratch *c, int row, int rows, real *dx, const pair *normed_pairs,
                          const real *rstd, pair *to) {
    FOR_WIDTH(p->dim / LANES, c->row, norm_gradient_of, p, c, row, rows, dx, normed_pairs, rstd, to)
}

// One row of scores to weights, in place.
INLINE void softmax_row(const int vecs, vec *a, bits tail) {
    const bits far_below = (bits)splat((real)-1e30) & ~tail;
    a[vecs - 1] = (vec)(((bits)a[vecs - 1] & tail) | far_below);
    vec max = a[0], sum = zeros();
    UNROLL_VECS for (int v = 1; v < vecs; v++) max = vec_max(max, a[v]);
    const vec top = splat(max_lanes(max));
    UNROLL_VECS for (int v = 0; v < vecs; v++) {
        a[v] = exp_negative(a[v] - top);
        if (v == vecs - 1) a[v] = keep(a[v], tail);
        sum += a[v];
    }
    const vec scale = splat(1 / sum_lanes(sum));
    UNROLL_VECS for (int v = 0; v < vecs; v++) a[v] *= scale;
}

INLINE void softmax_of(const int vecs, vec *a, const plan *p, scratch *c, int row, int rows, const real *table,
                       half *to_rows, pair *to_pairs) {
    for (int r = 0; r < rows; r += 2) {
        const real *tile = c->tile + r * p->tile;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            a[v] = load(tile + v * LANES), a[vecs + v] = load(tile + p->tile + v * LANES);
            if (table) {
                a[v] += load(table + (row + r) * p->keys + v * LANES);
                a[vecs + v] += load(table + (row + r + 1) * p->keys + v * LANES);
            }
        }
        softmax_row(vecs, a, p->key_tail);
        softmax_row(vecs, a + vecs, p->key_tail);
        half *rows_at = to_rows + (row + r) * p->keys;
        pair *pairs_at = to_pairs + (row + r) / 2 * p->keys;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            put_both(rows_at + v * LANES, p->keys, pairs_at + v * LANES, a[v], a[vecs + v]);
        }
    }
}

// The tile's scores (plus a table [rows][keys], if any) to attention weights.
static void softmax(const plan *p, scratch *c, int row, int rows, const real *table, half *to_rows, pair *to_pairs) {
    FOR_WIDTH(p->keys / LANES, c->row, softmax_of, p, c, row, rows, table, to_rows, to_pairs)
}

INLINE void softmax_gradient_of(const int vecs, vec *a, const plan *p, scratch *c, int row, int rows,
                                const pair *weights, real *table, half *to_rows, pair *to_pairs) {
    for (int r = 0; r < rows; r += 2) {
        const pair *w = weights + (row + r) / 2 * p->keys;
        const real *tile = c->tile + r * p->tile;
        vec dot0 = zeros(), dot1 = zeros();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows x = get_pairs(w + v * LANES);
            a[v] = load(tile + v * LANES), a[vecs + v] = load(tile + p->tile + v * LANES);
            dot0 += a[v] * x.first, dot1 += a[vecs + v] * x.second;
        }
        const real d0 = sum_lanes(dot0), d1 = sum_lanes(dot1);
        half *rows_at = to_rows + (row + r) * p->keys;
        pair *pairs_at = to_pairs + (row + r) / 2 * p->keys;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows x = get_pairs(w + v * LANES);
            vec s0 = (a[v] - d0) * x.first, s1 = (a[vecs + v] - d1) * x.second;
            put_both(rows_at + v * LANES, p->keys, pairs_at + v * LANES, s0, s1);
            if (table) {
                real *t = table + (row + r) * p->keys + v * LANES;
                store(t, load(t) + s0), store(t + p->keys, load(t + p->keys) + s1);
            }
        }
    }
}

// The tile is the gradient of the attention weights; that of the scores is w (dw - sum(dw w)), also added to ``table``.
static void softmax_gradient(const plan *p, scratch *c, int row, int rows, const pair *weights, real *table,
                             half *to_rows, pair *to_pairs) {
    FOR_WIDTH(p->keys / LANES, c->row, softmax_gradient_of, p, c, row, rows, weights, table, to_rows, to_pairs)
}

#endif
