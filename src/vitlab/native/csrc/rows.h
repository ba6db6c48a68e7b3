// What happens to a tile of sums when it leaves a product, where a row's numbers depend on each other: norm, softmax,
// and their gradients.
//
// Statistics of a row are sums over its vectors' lanes. Each alone would be a chain of shuffles that all wait for each
// other, so a tile's rows first leave one vector of partial sums each, and sum_tile adds up the lanes of all at once.
// FOR_WIDTH makes copies of a function in which the usual numbers of vectors are constants.

#ifndef VITLAB_ROWS_H
#define VITLAB_ROWS_H

#include "plan.h"

#define FOR_WIDTH(VECS, FUNCTION, ...)       \
    if ((VECS) == 3)                         \
        FUNCTION(3, __VA_ARGS__);            \
    else if ((VECS) == 4)                    \
        FUNCTION(4, __VA_ARGS__);            \
    else                                     \
        FUNCTION((int)(VECS), __VA_ARGS__);

static const real NORM_EPS = (real)1e-6;

// Where normed rows go: row-major for the next product, row pairs and 1 / spread for the backward pass.
typedef struct {
    half *rows;
    pair *pairs;
    real *rstd;
} normed;

// The means of a tile's rows x (layer norm; else zeros), and 1 / their spreads.
INLINE void statistics(const int vecs, const plan *p, const real *x, int rows, real *mean, real *rstd) {
    vec part[TILE_ROWS] = {0};
    store(mean, zeros());
    if (!p->s.rms) {
        for (int r = 0; r < rows; r++) {
            vec sum = zeros();
            UNROLL_VECS for (int v = 0; v < vecs; v++) sum += load(x + r * p->dim + v * LANES);
            part[r] = sum;
        }
        store(mean, sum_tile(part) * ((real)1 / p->s.dim));
    }
    for (int r = 0; r < rows; r++) {
        vec sum = zeros();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            vec d = load(x + r * p->dim + v * LANES) - mean[r];
            if (v == vecs - 1 && !p->s.rms) d = keep(d, p->dim_tail);
            sum += d * d;
        }
        part[r] = sum;
    }
    store(rstd, 1 / square_root(sum_tile(part) * ((real)1 / p->s.dim) + NORM_EPS));
}

INLINE void norm_tile(const int vecs, const plan *p, const real *x, int row, int rows, const normed *to) {
    real mean[LANES], rstd[LANES];
    statistics(vecs, p, x, rows, mean, rstd);
    for (int r = 0; r < rows; r += 2) {
        if (r % 8 == 0) keep_awake();
        half *to_rows = to->rows + (row + r) * p->dim;
        pair *pairs = to->pairs + (row + r) / PAIR * p->dim;
        to->rstd[row + r] = rstd[r], to->rstd[row + r + 1] = rstd[r + 1];
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            vec a = load(x + r * p->dim + v * LANES), b = load(x + (r + 1) * p->dim + v * LANES);
            if (!p->s.rms) {
                a -= mean[r], b -= mean[r + 1];
                if (v == vecs - 1) a = keep(a, p->dim_tail), b = keep(b, p->dim_tail);
            }
            put_both(to_rows + v * LANES, p->dim, pairs + v * LANES, p->dim, a * rstd[r], b * rstd[r + 1]);
        }
    }
}

// The norm of rows [row, row + rows) of x [..][dim].
static void norm(const plan *p, const real *x, int row, int rows, const normed *to) {
    FOR_WIDTH(p->dim / LANES, norm_tile, p, x + row * p->dim, row, rows, to)
}

INLINE void residual_tile(const int vecs, const plan *p, const scratch *c, int row, int rows, const real *bias,
                          const normed *to) {
    real *x = c->x + row * p->dim;
    for (int r = 0; r < rows; r++) {
        if (r % 8 == 0) keep_awake();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            real *at = x + r * p->dim + v * LANES;
            vec step = load(c->tile + r * p->tile + v * LANES);
            if (bias) step += load(bias + v * LANES);
            store(at, load(at) + step);
        }
    }
    if (to->rows) norm_tile(vecs, p, x, row, rows, to);
}

// x += tile + bias (NULL: none), and the norm of the sum (to->rows NULL: none).
static void residual(const plan *p, const scratch *c, int row, int rows, const real *bias, const normed *to) {
    FOR_WIDTH(p->dim / LANES, residual_tile, p, c, row, rows, bias, to)
}

INLINE void norm_gradient_tile(const int vecs, const plan *p, const scratch *c, int row, int rows, real *dx,
                               const pair *n, const real *rstd, half *to_rows, pair *to_pairs) {
    const real share = (real)1 / p->s.dim;
    vec part[TILE_ROWS] = {0}, sums[TILE_ROWS] = {0};
    real dots[LANES], means[LANES];
    for (int r = 0; r < rows; r += 2) {
        if (r % 8 == 0) keep_awake();
        vec dot0 = zeros(), dot1 = zeros(), sum0 = zeros(), sum1 = zeros();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows x = get_pairs(n + (row + r) / PAIR * p->dim + v * LANES, p->dim);
            vec a = load(c->tile + r * p->tile + v * LANES), b = load(c->tile + (r + 1) * p->tile + v * LANES);
            dot0 += a * x.first, dot1 += b * x.second;
            if (!p->s.rms) sum0 += a, sum1 += b;
        }
        part[r] = dot0, part[r + 1] = dot1, sums[r] = sum0, sums[r + 1] = sum1;
    }
    store(dots, sum_tile(part) * share);
    store(means, p->s.rms ? zeros() : sum_tile(sums) * share);
    for (int r = 0; r < rows; r += 2) {
        if (r % 8 == 0) keep_awake();
        const real r0 = rstd[row + r], r1 = rstd[row + r + 1];
        const ptrdiff_t at = (row + r) * p->dim;
        real *g = dx + at;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows x = get_pairs(n + (row + r) / PAIR * p->dim + v * LANES, p->dim);
            vec a = load(c->tile + r * p->tile + v * LANES), b = load(c->tile + (r + 1) * p->tile + v * LANES);
            a -= x.first * dots[r], b -= x.second * dots[r + 1];
            if (!p->s.rms) {
                a -= means[r], b -= means[r + 1];
                if (v == vecs - 1) a = keep(a, p->dim_tail), b = keep(b, p->dim_tail);
            }
            a = load(g + v * LANES) + a * r0, b = load(g + p->dim + v * LANES) + b * r1;
            store(g + v * LANES, a), store(g + p->dim + v * LANES, b);
            put_both(to_rows + at + v * LANES, p->dim, to_pairs + at / PAIR + v * LANES, p->dim, a, b);
        }
    }
}

// dx += the norm's gradient, where the tile is that of its output n: (dn - n mean(dn n) - mean(dn)) / spread. The sum
// is also stored in both layouts.
static void norm_gradient(const plan *p, const scratch *c, int row, int rows, real *dx, const pair *n, const real *rstd,
                          half *to_rows, pair *to_pairs) {
    FOR_WIDTH(p->dim / LANES, norm_gradient_tile, p, c, row, rows, dx, n, rstd, to_rows, to_pairs)
}

// Score vector v of a tile's row; the columns that pad it get ``padding``.
INLINE vec score(const plan *p, const real *tile, const real *table, int v, int last, vec padding) {
    vec x = load(tile + v * LANES);
    if (table) x += load(table + v * LANES);
    return last ? (vec)(((bits)x & p->key_tail) | ((bits)padding & ~p->key_tail)) : x;
}

INLINE void softmax_tile(const int vecs, const plan *p, const scratch *c, int row, int rows, const real *table,
                         ptrdiff_t place, half *to_rows, pair *to_pairs) {
    const vec far_below = splat((real)-1e30);
    const ptrdiff_t table_step = table ? p->keys : 0;
    vec part[TILE_ROWS] = {0};
    real stat[LANES];
    for (int r = 0; r < rows; r++) {
        if (r % 4 == 0) keep_awake();
        vec max = far_below;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            max = vec_max(max, score(p, c->tile + r * p->tile, table + r * table_step, v, v == vecs - 1, far_below));
        }
        part[r] = max;
    }
    store(stat, max_tile(part));
    for (int r = 0; r < rows; r++) {
        if (r % 4 == 0) keep_awake();
        real *tile = c->tile + r * p->tile;
        vec sum = zeros();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            vec x = score(p, tile, table + r * table_step, v, v == vecs - 1, far_below);
            x = exp_negative(x - stat[r]);
            if (v == vecs - 1) x = keep(x, p->key_tail);
            store(tile + v * LANES, x);
            sum += x;
        }
        part[r] = sum;
    }
    store(stat, 1 / sum_tile(part));
    for (int r = 0; r < rows; r += 2) {
        if (r % 4 == 0) keep_awake();
        const real *tile = c->tile + r * p->tile;
        const ptrdiff_t at = place + (row + r) * p->keys;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            vec a = load(tile + v * LANES) * stat[r], b = load(tile + p->tile + v * LANES) * stat[r + 1];
            if (p->s.attn_dropout > 0) {
                put_pairs(to_pairs + at / PAIR + v * LANES, p->keys, a, b);
                drop_pairs(c->drop + DROP_WEIGHTS, at / 2 + v * LANES, &a, &b);
                put_rows(to_rows + at + v * LANES, p->keys, a, b);
            } else {
                put_both(to_rows + at + v * LANES, p->keys, to_pairs + at / PAIR + v * LANES, p->keys, a, b);
            }
        }
    }
}

// The tile's scores (plus a table [heads][rows][keys], if any) to attention weights, of the head that begins at
// ``place``: to_pairs as they are, to_rows after dropout.
static void softmax(const plan *p, const scratch *c, int row, int rows, const real *table, ptrdiff_t place,
                    half *to_rows, pair *to_pairs) {
    if (table) {
        table += place + row * p->keys;
        FOR_WIDTH(p->keys / LANES, softmax_tile, p, c, row, rows, table, place, to_rows, to_pairs)
    } else {
        FOR_WIDTH(p->keys / LANES, softmax_tile, p, c, row, rows, NULL, place, to_rows, to_pairs)
    }
}

INLINE void softmax_gradient_tile(const int vecs, const plan *p, const scratch *c, int row, int rows,
                                  const pair *weights, real *table, ptrdiff_t place, half *to_rows, pair *to_pairs) {
    vec part[TILE_ROWS] = {0};
    real dots[LANES];
    for (int r = 0; r < rows; r += 2) {
        if (r % 8 == 0) keep_awake();
        real *tile = c->tile + r * p->tile;
        const ptrdiff_t at = place + (row + r) * p->keys;
        vec dot0 = zeros(), dot1 = zeros();
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows w = get_pairs(weights + at / PAIR + v * LANES, p->keys);
            vec a = load(tile + v * LANES), b = load(tile + p->tile + v * LANES);
            if (v == vecs - 1) a = keep(a, p->key_tail), b = keep(b, p->key_tail);
            if (p->s.attn_dropout > 0) {
                vec kept0 = w.first, kept1 = w.second;
                drop_pairs(c->drop + DROP_WEIGHTS, at / 2 + v * LANES, &kept0, &kept1);
                put_pairs(c->dropped_pairs + at / PAIR + v * LANES, p->keys, kept0, kept1);
                drop_pairs(c->drop + DROP_WEIGHTS, at / 2 + v * LANES, &a, &b);
                store(tile + v * LANES, a), store(tile + p->tile + v * LANES, b);
            }
            dot0 += a * w.first, dot1 += b * w.second;
        }
        part[r] = dot0, part[r + 1] = dot1;
    }
    store(dots, sum_tile(part));
    for (int r = 0; r < rows; r += 2) {
        if (r % 8 == 0) keep_awake();
        const real *tile = c->tile + r * p->tile;
        const ptrdiff_t at = place + (row + r) * p->keys;
        UNROLL_VECS for (int v = 0; v < vecs; v++) {
            two_rows w = get_pairs(weights + at / PAIR + v * LANES, p->keys);
            vec a = (load(tile + v * LANES) - dots[r]) * w.first;
            vec b = (load(tile + p->tile + v * LANES) - dots[r + 1]) * w.second;
            if (v == vecs - 1) a = keep(a, p->key_tail), b = keep(b, p->key_tail);
            put_both(to_rows + at + v * LANES, p->keys, to_pairs + at / PAIR + v * LANES, p->keys, a, b);
            if (table) {
                real *t = table + at + v * LANES;
                store(t, load(t) + a), store(t + p->keys, load(t + p->keys) + b);
            }
        }
    }
}

// The tile is the gradient of the attention weights w of the head that begins at ``place``, after dropout; that of the
// scores is w (dw - sum(dw w)), also added to ``table``. c->dropped_pairs receives w after dropout, if there is any.
static void softmax_gradient(const plan *p, const scratch *c, int row, int rows, const pair *weights, real *table,
                             ptrdiff_t place, half *to_rows, pair *to_pairs) {
    FOR_WIDTH(p->keys / LANES, softmax_gradient_tile, p, c, row, rows, weights, table, place, to_rows, to_pairs)
}

#endif
