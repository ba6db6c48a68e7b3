// What happens to each number of a tile alone: biases, activations, and moving tiles to where they are kept.

#ifndef VITLAB_ELEMENTWISE_H
#define VITLAB_ELEMENTWISE_H

#include "rows.h"

// The tile's first ``width`` columns plus bias (NULL: none) as row pairs, the first ``row_width`` of them also
// row-major; what lies behind ``tail`` becomes 0.
static void keep_tile(const plan *p, const scratch *c, int row, int rows, ptrdiff_t width, const real *bias, bits tail,
                      half *to_rows, ptrdiff_t row_width, pair *to_pairs) {
    for (int r = 0; r < rows; r += 2) {
        if (r % 8 == 0) keep_awake();
        const real *tile = c->tile + r * p->tile;
        for (ptrdiff_t i = 0; i < width; i += LANES) {
            vec x = load(tile + i), y = load(tile + p->tile + i);
            pair *pairs = to_pairs + (row + r) / PAIR * width + i;
            if (bias) x += load(bias + i), y += load(bias + i);
            if (i + LANES == width) x = keep(x, tail), y = keep(y, tail);
            if (i < row_width)
                put_both(to_rows + (row + r) * row_width + i, row_width, pairs, width, x, y);
            else
                put_pairs(pairs, width, x, y);
        }
    }
}

INLINE void activate_of(const int relu2, const int drop, const plan *p, const scratch *c, int row, int rows,
                        const real *bias, pair *z_pairs) {
    for (int r = 0; r < rows; r += 2) {
        if (!relu2 || r % 8 == 0) keep_awake();
        const real *tile = c->tile + r * p->tile;
        half *a_rows = c->a_rows + (row + r) * p->hidden;
        for (ptrdiff_t i = 0; i < p->hidden; i += LANES) {
            vec b = load(bias + i), z0 = load(tile + i) + b, z1 = load(tile + p->tile + i) + b;
            vec a0, a1;
            if (relu2) {
                z0 = vec_max(zeros(), z0), z1 = vec_max(zeros(), z1);
                a0 = z0 * z0, a1 = z1 * z1;
            } else {
                a0 = gelu(z0).value, a1 = gelu(z1).value;
            }
            const ptrdiff_t at = (row + r) / 2 * p->hidden + i, line = (row + r) / PAIR * p->hidden + i;
            if (drop) drop_pairs(c->drop + DROP_HIDDEN, at, &a0, &a1);
            put_pairs(z_pairs + line, p->hidden, z0, z1);
            put_rows(a_rows + i, p->hidden, a0, a1);
        }
    }
}

// A copy of a function for each activation, with dropout and without.
#define FOR_ACTIVATION(P, FUNCTION, ...)    \
    if ((P)->s.relu2 && (P)->s.dropout > 0) \
        FUNCTION(1, 1, P, __VA_ARGS__);     \
    else if ((P)->s.relu2)                  \
        FUNCTION(1, 0, P, __VA_ARGS__);     \
    else if ((P)->s.dropout > 0)            \
        FUNCTION(0, 1, P, __VA_ARGS__);     \
    else                                    \
        FUNCTION(0, 0, P, __VA_ARGS__);

// Hidden units: z = tile + bias is kept as row pairs (ReLU squared: its positive part), act(z) goes to c->a_rows.
static void activate(const plan *p, const scratch *c, int row, int rows, const real *bias, pair *z_pairs) {
    FOR_ACTIVATION(p, activate_of, c, row, rows, bias, z_pairs)
}

INLINE void activation_gradient_of(const int relu2, const int drop, const plan *p, const scratch *c, int row, int rows,
                                   const pair *z_pairs, pair *dz_pairs, pair *a_pairs) {
    for (int r = 0; r < rows; r += 2) {
        if (!relu2 || r % 8 == 0) keep_awake();
        const real *tile = c->tile + r * p->tile;
        half *dz_rows = c->dz_rows + (row + r) * p->hidden;
        for (ptrdiff_t i = 0; i < p->hidden; i += LANES) {
            const ptrdiff_t at = (row + r) / 2 * p->hidden + i, line = (row + r) / PAIR * p->hidden + i;
            two_rows z = get_pairs(z_pairs + line, p->hidden);
            vec d0 = load(tile + i), d1 = load(tile + p->tile + i);
            curve c0, c1;
            if (relu2)  // the slope is 2 z; the weights that made the tile were packed times 2
                c0 = (curve){z.first * z.first, z.first}, c1 = (curve){z.second * z.second, z.second};
            else
                c0 = gelu(z.first), c1 = gelu(z.second);
            if (drop) {
                drop_pairs(c->drop + DROP_HIDDEN, at, &c0.value, &c1.value);
                drop_pairs(c->drop + DROP_HIDDEN, at, &d0, &d1);
            }
            put_both(dz_rows + i, p->hidden, dz_pairs + line, p->hidden, d0 * c0.slope, d1 * c1.slope);
            put_pairs(a_pairs + line, p->hidden, c0.value, c1.value);
        }
    }
}

// The tile is the gradient of act(z); that of z goes to c->dz_rows and dz_pairs, and act(z) once more to a_pairs.
static void activation_gradient(const plan *p, const scratch *c, int row, int rows, const pair *z_pairs, pair *dz_pairs,
                                pair *a_pairs) {
    FOR_ACTIVATION(p, activation_gradient_of, c, row, rows, z_pairs, dz_pairs, a_pairs)
}

// The MLP's output, tile + bias, through what comes behind it; y_pairs keeps what GELU is applied to.
static void change_output(const plan *p, const scratch *c, int row, int rows, const real *bias, pair *y_pairs) {
    for (int r = 0; r < rows; r += 2) {
        keep_awake();
        real *tile = c->tile + r * p->tile;
        for (ptrdiff_t i = 0; i < p->dim; i += LANES) {
            const ptrdiff_t at = (row + r) / 2 * p->dim + i, line = (row + r) / PAIR * p->dim + i;
            vec b = load(bias + i), y0 = load(tile + i) + b, y1 = load(tile + p->tile + i) + b;
            if (p->s.last_gelu) {
                put_pairs(y_pairs + line, p->dim, y0, y1);
                y0 = gelu(y0).value, y1 = gelu(y1).value;
            }
            if (p->s.dropout > 0) drop_pairs(c->drop + DROP_OUTPUT, at, &y0, &y1);
            store(tile + i, y0), store(tile + p->tile + i, y1);
        }
    }
}

// From the gradient dy [rows][dim] of the MLP's changed output to that of its second dense layer's, in both layouts.
static void output_gradient(const plan *p, const scratch *c, int row, int rows, const real *dy, const pair *y_pairs,
                            half *to_rows, pair *to_pairs) {
    for (int r = 0; r < rows; r += 2) {
        keep_awake();
        const real *from = dy + (row + r) * p->dim;
        for (ptrdiff_t i = 0; i < p->dim; i += LANES) {
            const ptrdiff_t at = (row + r) / 2 * p->dim + i, line = (row + r) / PAIR * p->dim + i;
            vec d0 = load(from + i), d1 = load(from + p->dim + i);
            if (p->s.dropout > 0) drop_pairs(c->drop + DROP_OUTPUT, at, &d0, &d1);
            if (p->s.last_gelu) {
                two_rows y = get_pairs(y_pairs + line, p->dim);
                d0 *= gelu(y.first).slope, d1 *= gelu(y.second).slope;
            }
            put_both(to_rows + (row + r) * p->dim + i, p->dim, to_pairs + line, p->dim, d0, d1);
        }
    }
}

// How many tokens of packed image ``image`` the caller has.
INLINE int tokens_of(const plan *p, ptrdiff_t image) {
    const ptrdiff_t rest = p->all_tokens - image * p->s.tokens;
    return rest < p->s.tokens ? (int)rest : p->s.tokens;
}

// An image [tokens][dim] of the caller's to padded rows; the next one is fetched into the cache.
static void fetch_image(const plan *p, real *to, const real *from, int tokens) {
    const int dim = p->s.dim, whole = dim / LANES * LANES;
    for (int row = 0; row < tokens; row++) {
        int i = 0;
        for (; i < whole; i += LANES) __builtin_prefetch(from + ((ptrdiff_t)p->s.tokens + row) * dim + i, 0, 2);
        for (i = 0; i < whole; i += LANES) store(to + row * p->dim + i, load(from + (ptrdiff_t)row * dim + i));
        for (; i < dim; i++) to[row * p->dim + i] = from[(ptrdiff_t)row * dim + i];
        for (; i < p->dim; i++) to[row * p->dim + i] = 0;
    }
    for (ptrdiff_t i = tokens * p->dim; i < p->rows * p->dim; i++) to[i] = 0;
}

static void return_image(const plan *p, real *to, const real *from, int tokens) {
    if (from == to) return;
    const int dim = p->s.dim, whole = dim / LANES * LANES;
    for (int row = 0; row < tokens; row++) {
        int i = 0;
        for (; i < whole; i += LANES) __builtin_prefetch(to + ((ptrdiff_t)p->s.tokens + row) * dim + i, 0, 2);
        for (i = 0; i < whole; i += LANES) store(to + (ptrdiff_t)row * dim + i, load(from + row * p->dim + i));
        for (; i < dim; i++) to[(ptrdiff_t)row * dim + i] = from[row * p->dim + i];
    }
}

#endif
