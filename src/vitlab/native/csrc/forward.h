// The forward pass of one image through one block, in c->x [rows][dim].

#ifndef VITLAB_FORWARD_H
#define VITLAB_FORWARD_H

#include "elementwise.h"

// Rows of the next tile, of an even number that is left: 8 or 6 as far as it goes, since smaller tiles are slower.
INLINE int tile_rows(const plan *p, ptrdiff_t rest) {
    if (WITH_AMX) return rest < p->height ? (int)rest : p->height;
    if (PAIR == 1) return rest < TILE_ROWS ? (int)rest : TILE_ROWS;  // a product cuts them as it likes
    const ptrdiff_t over = rest % TILE_ROWS;
    return rest < TILE_ROWS ? (int)rest : over == 0 || over == 6 ? TILE_ROWS : 6;
}

// A product to some columns of the tile, whose rows behind ``rows`` it may spoil.
INLINE void multiply_tile(const plan *p, real *to, int rows, ptrdiff_t columns, left a, const pair *b,
                          ptrdiff_t b_width, int steps, int add) {
    multiply(to, p->tile, WITH_AMX ? p->height : rows, columns, a, b, b_width, steps, add);
}

// Row-major halves as left factor: sums over their columns. Without pairs they are where the row pairs are, in ``lines``.
INLINE left by_rows(const half *rows, ptrdiff_t width, const pair *lines, ptrdiff_t line_width, ptrdiff_t row) {
    if (PAIR == 1) return (left){lines + row * line_width, line_width, 1};
    return (left){(const pair *)(rows + row * width), width / PAIR, 1};
}

// Row pairs as left factor, transposed: sums over their rows, one row of the product for each column.
INLINE left by_columns(const pair *pairs, ptrdiff_t width, ptrdiff_t column) {
    return (left){pairs + column, 1, width};
}

// Fetches rows [row, row + rows) of the next image's row pairs into the second-level cache. What is saved passes
// through each core once a call, so it is never there by itself, neither to be read nor to be written.
INLINE void look_ahead(const plan *p, const pair *pairs, ptrdiff_t width, int row, int rows) {
    const char *from = (const char *)(pairs + (p->row_pairs + row / PAIR) * width);
    const ptrdiff_t bytes = rows / PAIR * width * (ptrdiff_t)sizeof(pair);
    for (ptrdiff_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
    keep_awake();
}

// One head's keys or values, the columns of row pairs [..][width], as right factor of q k^T or du v^T.
static void transpose_head(const plan *p, const scratch *c, const pair *pairs, ptrdiff_t width) {
    keep_awake();
    column_pairs(c->columns, p->keys, pairs, width, p->row_pairs, p->head_pairs);
    if (p->s.head_dim % PAIR) drop_seconds(c->columns + (p->head_pairs - 1) * p->keys, (int)p->keys);
}

static void attention_weights(const plan *p, scratch *c, const packed *w, const kept *k) {
    const int merged = p->s.attention == MERGED;
    for (int head = 0; head < p->s.heads; head++) {
        const ptrdiff_t at = head * p->s.head_dim, place = head * p->rows * p->keys;
        if (merged)
            transpose_head(p, c, k->n1, p->dim);
        else
            transpose_head(p, c, k->mix + p->key_at + at, p->mix);
        for (int row = 0, rows; row < p->rows; row += rows) {
            rows = tile_rows(p, p->rows - row);
            left queries = by_rows(c->q_rows + at, p->out, k->mix + at, p->mix, row);
            multiply_tile(p, c->tile, rows, p->s.tokens, queries, c->columns, p->keys, p->head_pairs, 0);
            look_ahead(p, k->p + place / PAIR, p->keys, row, rows);
            softmax(p, c, row, rows, w->table, place, c->p_rows, k->p);
        }
    }
}

// x += proj(softmax(q k^T) v); c->n_rows and k->n1 hold the normed x, and ``next`` receives the norm of the sum.
static void attention_forward(const plan *p, scratch *c, const packed *w, const kept *k, const normed *next) {
    const int merged = p->s.attention == MERGED;
    const pair *met = p->s.attn_dropout > 0 ? (const pair *)c->p_rows : k->p;  // what meets the values, without pairs
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left tokens = by_rows(c->n_rows, p->dim, k->n1, p->dim, row);
        multiply_tile(p, c->tile, rows, p->mix, tokens, w->mix.forward, p->mix, p->dim_pairs, 0);
        look_ahead(p, k->mix, p->mix, row, rows);
        keep_tile(p, c, row, rows, p->mix, w->mix.bias, p->mix_tail, c->q_rows, p->out, k->mix);
    }
    attention_weights(p, c, w, k);
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        for (int head = 0; head < p->s.heads; head++) {  // in order: a head's last vector spoils the next's columns
            const ptrdiff_t at = head * p->s.head_dim, width = merged ? p->dim : p->mix;
            const ptrdiff_t place = head * p->rows * p->keys;
            left weights = by_rows(c->p_rows + place, p->keys, met + place / PAIR, p->keys, row);
            const pair *values = merged ? k->n1 : k->mix + p->value_at + at;
            multiply_tile(p, c->tile + at, rows, p->s.head_dim, weights, values, width, p->row_pairs, 0);
        }
        look_ahead(p, k->u, p->out, row, rows);
        keep_tile(p, c, row, rows, p->out, NULL, p->out_tail, c->u_rows, p->out, k->u);
    }
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left mixed = by_rows(c->u_rows, p->out, k->u, p->out, row);
        multiply_tile(p, c->tile, rows, p->dim, mixed, w->proj.forward, p->dim, p->out_pairs, 0);
        if (next->rows) look_ahead(p, next->pairs, p->dim, row, rows);
        residual(p, c, row, rows, w->proj.bias, next);
    }
}

// x += fc2(act(fc1(n))); c->n_rows holds the normed x, and ``next`` receives the norm of the sum.
static void mlp_forward(const plan *p, scratch *c, const packed *w, const kept *k, const normed *next) {
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left tokens = by_rows(c->n_rows, p->dim, k->n2, p->dim, row);
        multiply_tile(p, c->tile, rows, p->hidden, tokens, w->fc1.forward, p->hidden, p->dim_pairs, 0);
        look_ahead(p, k->z, p->hidden, row, rows);
        activate(p, c, row, rows, w->fc1.bias, k->z);
    }
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left units = by_rows(c->a_rows, p->hidden, (const pair *)c->a_rows, p->hidden, row);
        multiply_tile(p, c->tile, rows, p->dim, units, w->fc2.forward, p->dim, p->hidden_pairs, 0);
        if (next->rows) look_ahead(p, next->pairs, p->dim, row, rows);
        if (p->s.last_gelu) look_ahead(p, k->y, p->dim, row, rows);
        if (p->changes_output) change_output(p, c, row, rows, w->fc2.bias, k->y);
        residual(p, c, row, rows, p->changes_output ? NULL : w->fc2.bias, next);
    }
}

// Where the norm in front of a block's first step goes.
static normed first_norm(const plan *p, scratch *c, const kept *k) {
    return p->s.attention ? (normed){c->n_rows, k->n1, k->rstd1} : (normed){c->n_rows, k->n2, k->rstd2};
}

// What is dropped in one block of one image.
static void choose_drops(const plan *p, scratch *c, int block, ptrdiff_t image) {
    for (int place = 0; place < DROP_PLACES; place++) {
        const double rate = place == DROP_WEIGHTS ? p->s.attn_dropout : p->s.dropout;
        if (rate > 0) c->drop[place] = open_drops(rate, p->s.seed, block, place, image);
    }
}

// All blocks, from x to y [..][dim], all images of the caller's. Where ``saved`` keeps block b is slot + b * stride.
static void forward_image(const plan *p, scratch *c, const packed *w, const kept *saved, ptrdiff_t image,
                          ptrdiff_t slot, ptrdiff_t stride, const real *x, real *y) {
    const ptrdiff_t at = image * p->s.tokens * p->s.dim;
    const int tokens = tokens_of(p, image);
    kept k = kept_at(saved, p, slot);
    normed next = first_norm(p, c, &k);
    c->x = p->unpadded && tokens == p->s.tokens ? y + at : c->own_x;
    fetch_image(p, c->x, x + at, tokens);
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        look_ahead(p, next.pairs, p->dim, row, rows);
        norm(p, c->x, row, rows, &next);
    }
    for (int block = 0; block < p->s.depth; block++) {
        const kept after = block + 1 < p->s.depth ? kept_at(saved, p, slot + (block + 1) * stride) : k;
        next = (normed){c->n_rows, k.n2, k.rstd2};
        choose_drops(p, c, block, image);
        if (p->s.attention) attention_forward(p, c, w + block, &k, &next);
        next = block + 1 < p->s.depth ? first_norm(p, c, &after) : (normed){0};
        mlp_forward(p, c, w + block, &k, &next);
        k = after;
    }
    return_image(p, y + at, c->x, tokens);
}

#endif
