// The forward pass of one image through one block, in c->x [rows][dim].

#ifndef VITLAB_FORWARD_H
#define VITLAB_FORWARD_H

#include "elementwise.h"

// The next tile: 8 rows, or what leaves no tile of 2 rows behind.
INLINE int tile_rows(ptrdiff_t left_rows) {
    return left_rows <= TILE_ROWS ? (int)left_rows : left_rows == TILE_ROWS + 2 ? 6 : TILE_ROWS;
}

// Row-major halves as left factor: sums over their columns.
INLINE left by_rows(const half *rows, ptrdiff_t width, ptrdiff_t row) {
    return (left){(const pair *)(rows + row * width), width / 2, 1};
}

// Row pairs as left factor, transposed: sums over their rows, one row of the product for each column.
INLINE left by_columns(const pair *pairs, ptrdiff_t width, ptrdiff_t column) {
    return (left){pairs + column, 1, width};
}

// One head's keys or values, the columns from ``at`` of rows [keys][width], as right factor of q k^T or du v^T.
static void transpose_head(const plan *p, scratch *c, const half *rows, ptrdiff_t width, ptrdiff_t at) {
    column_pairs(c->columns, p->keys, rows + at, width, (int)p->keys, p->head_pairs);
    if (p->s.head_dim % 2) drop_seconds(c->columns + (p->head_pairs - 1) * p->keys, (int)p->keys);
}

static void attention_weights(const plan *p, scratch *c, const packed *w, const kept *k) {
    const int merged = p->s.attention == MERGED;
    for (int head = 0; head < p->s.heads; head++) {
        const ptrdiff_t at = head * p->s.head_dim, place = head * p->rows * p->keys;
        if (merged)
            transpose_head(p, c, c->n_rows, p->dim, 0);
        else
            transpose_head(p, c, c->mix_rows, p->mix, p->key_at + at);
        for (int row = 0, rows; row < p->rows; row += rows) {
            rows = tile_rows(p->rows - row);
            left queries = by_rows(c->mix_rows + at, p->mix, row);
            multiply(c->tile, p->tile, rows, (int)p->keys / LANES, queries, c->columns, p->keys, p->head_pairs, 0);
            softmax(p, c, row, rows, w->table ? w->table + place : NULL, c->p_rows + place, k->p + place / 2);
        }
    }
}

// x += proj(softmax(q k^T) v); c->n_rows and k->n1 hold the normed x, and ``next`` receives the norm of the sum.
static void attention_forward(const plan *p, scratch *c, const packed *w, const kept *k, normed next) {
    const int merged = p->s.attention == MERGED;
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p->rows - row);
        left tokens = by_rows(c->n_rows, p->dim, row);
        multiply(c->tile, p->tile, rows, (int)p->mix / LANES, tokens, w->mix.forward, p->mix, p->dim_pairs, 0);
        keep_tile(p, c, row, rows, p->mix, w->mix.bias, p->mix_tail, c->mix_rows, k->mix);
    }
    attention_weights(p, c, w, k);
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p->rows - row);
        for (int head = 0; head < p->s.heads; head++) {  // in this order: a head's last vector spoils the next's columns
            const ptrdiff_t at = head * p->s.head_dim, width = merged ? p->dim : p->mix;
            left weights = by_rows(c->p_rows + head * p->rows * p->keys, p->keys, row);
            const pair *values = merged ? k->n1 : k->mix + p->value_at + at;
            multiply(c->tile + at, p->tile, rows, p->head_vecs, weights, values, width, p->row_pairs, 0);
        }
        keep_tile(p, c, row, rows, p->out, NULL, p->out_tail, c->u_rows, k->u);
    }
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p->rows - row);
        left mixed = by_rows(c->u_rows, p->out, row);
        multiply(c->tile, p->tile, rows, (int)p->dim / LANES, mixed, w->proj.forward, p->dim, p->out_pairs, 0);
        residual(p, c, row, rows, w->proj.bias, next);
    }
}

// x += fc2(act(fc1(n))); c->n_rows holds the normed x, and ``next`` receives the norm of the sum.
static void mlp_forward(const plan *p, scratch *c, const packed *w, const kept *k, normed next) {
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p->rows - row);
        left tokens = by_rows(c->n_rows, p->dim, row);
        multiply(c->tile, p->tile, rows, (int)p->hidden / LANES, tokens, w->fc1.forward, p->hidden, p->dim_pairs, 0);
        activate(p, c, row, rows, w->fc1.bias, k->z);
    }
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p->rows - row);
        left units = by_rows(c->a_rows, p->hidden, row);
        multiply(c->tile, p->tile, rows, (int)p->dim / LANES, units, w->fc2.forward, p->dim, p->hidden_pairs, 0);
        residual(p, c, row, rows, w->fc2.bias, next);
    }
}

// Where the norm in front of a block's first step goes.
static normed first_norm(const plan *p, scratch *c, const kept *k) {
    return p->s.attention ? (normed){c->n_rows, k->n1, k->rstd1} : (normed){c->n_rows, k->n2, k->rstd2};
}

// All blocks, from x to y [tokens][dim]. slots: where ``saved`` keeps block b of this image is slot + b * stride.
static void forward_image(const plan *p, scratch *c, const packed *w, const kept *saved, ptrdiff_t slot,
                          ptrdiff_t stride, const real *x, real *y) {
    kept k = kept_at(saved, p, slot);
    fetch_image(p, c->x, x);
    norm_rows(p, c, c->x, first_norm(p, c, &k));
    for (int block = 0; block < p->s.depth; block++) {
        const kept after = block + 1 < p->s.depth ? kept_at(saved, p, slot + (block + 1) * stride) : k;
        const normed nothing = {0};
        if (p->s.attention) attention_forward(p, c, w + block, &k, (normed){c->n_rows, k.n2, k.rstd2});
        mlp_forward(p, c, w + block, &k, block + 1 < p->s.depth ? first_norm(p, c, &after) : nothing);
        k = after;
    }
    return_image(p, y, c->x);
}

#endif
