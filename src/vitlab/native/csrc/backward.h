// The backward pass of a group of images through one block. Gradients with respect to x are in c->x; weight gradients
// are sums over all rows of the group, computed last, in products that are long enough to be worth their loads.

#ifndef VITLAB_BACKWARD_H
#define VITLAB_BACKWARD_H

#include "forward.h"

// From dy (c->dy_rows) through fc2, activation, fc1 and norm; then c->dy_rows and dx_pairs hold the sum's gradient.
static void mlp_backward(const plan *p, scratch *c, const packed *w, const kept *k, int image) {
    const ptrdiff_t hidden_at = image * p->row_pairs * p->hidden, dim_at = image * p->rows * p->dim;
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left dy = by_rows(c->dy_rows + dim_at, p->dim, c->dy_pairs + dim_at / PAIR, p->dim, row);
        if (p->s.last_gelu) look_ahead(p, k->y, p->dim, row, rows);
        if (p->changes_output) {
            output_gradient(p, c, row, rows, c->x + dim_at, k->y, c->branch_rows, c->branch_pairs + dim_at / PAIR);
            dy = by_rows(c->branch_rows, p->dim, c->branch_pairs + dim_at / PAIR, p->dim, row);
        }
        multiply_tile(p, c->tile, rows, p->hidden, dy, w->fc2.backward, p->hidden, p->dim_pairs, 0);
        look_ahead(p, k->z, p->hidden, row, rows);
        activation_gradient(p, c, row, rows, k->z, c->dz_pairs + hidden_at, c->a_pairs + hidden_at);
    }
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left dz = by_rows(c->dz_rows, p->hidden, c->dz_pairs + hidden_at, p->hidden, row);
        multiply_tile(p, c->tile, rows, p->dim, dz, w->fc1.backward, p->dim, p->hidden_pairs, 0);
        look_ahead(p, k->n2, p->dim, row, rows);
        norm_gradient(p, c, row, rows, c->x + dim_at, k->n2, k->rstd2, c->dy_rows + dim_at, c->dx_pairs + dim_at / PAIR);
    }
}

// du = dx Wo, in both layouts.
static void projection_gradient(const plan *p, scratch *c, const packed *w, int image) {
    const ptrdiff_t at = image * p->rows * p->dim;
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left dx = by_rows(c->dy_rows + at, p->dim, c->dx_pairs + at / PAIR, p->dim, row);
        multiply_tile(p, c->tile, rows, p->out, dx, w->proj.backward, p->out, p->dim_pairs, 0);
        keep_tile(p, c, row, rows, p->out, NULL, p->out_tail, c->du_rows, p->out, c->du_pairs);
    }
}

// The gradient of all heads' scores, to c->p_rows and c->ds_pairs, and its sum over images to ``table``.
static void scores_gradient(const plan *p, scratch *c, const kept *k, real *table) {
    const int merged = p->s.attention == MERGED;
    for (int head = 0; head < p->s.heads; head++) {
        const ptrdiff_t at = head * p->s.head_dim, place = head * p->rows * p->keys;
        if (merged)
            transpose_head(p, c, k->n1, p->dim);
        else
            transpose_head(p, c, k->mix + p->value_at + at, p->mix);
        for (int row = 0, rows; row < p->rows; row += rows) {
            rows = tile_rows(p, p->rows - row);
            left du = by_rows(c->du_rows + at, p->out, c->du_pairs + at, p->out, row);
            multiply_tile(p, c->tile, rows, p->s.tokens, du, c->columns, p->keys, p->head_pairs, 0);
            look_ahead(p, k->p + place / PAIR, p->keys, row, rows);
            softmax_gradient(p, c, row, rows, k->p, table, place, c->p_rows, c->ds_pairs);
        }
    }
}

// The attention weights as they met the values.
INLINE const pair *used_weights(const plan *p, const scratch *c, const kept *k) {
    return p->s.attn_dropout > 0 ? c->dropped_pairs : k->p;
}

// One tile of the gradients of queries, keys and values: dq = ds k, dk = ds^T q, dv = p^T du. The heads' columns are
// computed from left to right: the last vector of each spoils the first columns of the next.
static void heads_gradient(const plan *p, scratch *c, const kept *k, int row, int rows) {
    const int heads = p->s.heads, width = p->s.head_dim;
    real *to = c->tile;
    for (int head = 0; head < heads; head++, to += width) {
        const ptrdiff_t place = head * p->rows * p->keys;
        left ds = by_rows(c->p_rows + place, p->keys, c->ds_pairs + place / PAIR, p->keys, row);
        multiply_tile(p, to, rows, width, ds, k->mix + p->key_at + head * width, p->mix, p->row_pairs, 0);
    }
    for (int head = 0; head < heads; head++, to += width) {
        left ds = by_columns(c->ds_pairs + head * p->row_pairs * p->keys, p->keys, row);
        multiply_tile(p, to, rows, width, ds, k->mix + head * width, p->mix, p->row_pairs, 0);
    }
    for (int head = 0; head < heads; head++, to += width) {
        left weights = by_columns(used_weights(p, c, k) + head * p->row_pairs * p->keys, p->keys, row);
        multiply_tile(p, to, rows, width, weights, c->du_pairs + head * width, p->out, p->row_pairs, 0);
    }
}

// From dx (c->dy_rows) through projection, attention and norm; then c->dy_rows and dy_pairs hold the sum's gradient.
static void attention_backward(const plan *p, scratch *c, const packed *w, const kept *k, int image, real *table) {
    const int merged = p->s.attention == MERGED;
    const ptrdiff_t dim_at = image * p->rows * p->dim;
    pair *dmix_pairs = c->dmix_pairs + image * p->row_pairs * p->mix;
    projection_gradient(p, c, w, image);
    scores_gradient(p, c, k, table);
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        if (merged) {
            left ds = by_rows(c->p_rows, p->keys, c->ds_pairs, p->keys, row);
            multiply_tile(p, c->tile, rows, p->dim, ds, k->n1, p->dim, p->row_pairs, 0);
        } else {
            heads_gradient(p, c, k, row, rows);
        }
        look_ahead(p, k->mix, p->mix, row, rows);
        look_ahead(p, k->u, p->out, row, rows);
        keep_tile(p, c, row, rows, p->mix, NULL, p->mix_tail, c->dmix_rows, p->mix, dmix_pairs);
    }
    for (int row = 0, rows; row < p->rows; row += rows) {
        rows = tile_rows(p, p->rows - row);
        left dmix = by_rows(c->dmix_rows, p->mix, dmix_pairs, p->mix, row);
        multiply_tile(p, c->tile, rows, p->dim, dmix, w->mix.backward, p->dim, p->mix_pairs, 0);
        if (merged) {  // the tokens were keys and values too
            left ds = by_columns(c->ds_pairs, p->keys, row);
            left weights = by_columns(used_weights(p, c, k), p->keys, row);
            multiply_tile(p, c->tile, rows, p->dim, ds, k->mix, p->mix, p->row_pairs, 1);
            multiply_tile(p, c->tile, rows, p->dim, weights, c->du_pairs, p->out, p->row_pairs, 1);
        }
        look_ahead(p, k->n1, p->dim, row, rows);
        norm_gradient(p, c, row, rows, c->x + dim_at, k->n1, k->rstd1, c->dy_rows + dim_at, c->dy_pairs + dim_at / PAIR);
    }
}

// Rows of which a product's panels stay in the nearest cache.
enum { NEAR_ROWS = 96 };

// sum [out][in] += dy^T x; both are row pairs.
static void outer_products(real *sum, const pair *dy, ptrdiff_t out, const pair *x, ptrdiff_t in, int pairs) {
#if WITH_AMX
    if (tiles_used && pairs >= TILE_PAIRS) {
        add_outer_products(sum, dy, out, x, in, pairs);
        return;
    }
#endif
    for (int now; pairs > 0; pairs -= now, dy += now * out, x += now * in) {
        now = PAIR == 1 && pairs > NEAR_ROWS ? NEAR_ROWS : pairs;
        for (ptrdiff_t row = 0, rows; row < out; row += rows) {
            rows = PAIR == 1 ? out : TILE_ROWS;
            multiply(sum + row * in, in, (int)rows, in, by_columns(dy, out, row), x, in, now, 1);
        }
    }
}

// sum->weight [out][in] += dy^T x and sum->bias += the sum of dy over rows; both are row pairs.
static void weight_gradient(const dense *w, const gradient *sum, const pair *dy, ptrdiff_t out, const pair *x,
                            ptrdiff_t in, int pairs) {
    outer_products(sum->weight, dy, out, x, in, pairs);
    if (w->bias_gradient) add_column_sums(sum->bias, dy, out, (int)out / LANES, pairs);
}

// One block of ``images`` images whose gradients are in c->x and c->dy_pairs; k is the first image's.
static void backward_block(const plan *p, scratch *c, const packed *w, const kept *saved, int block, ptrdiff_t first,
                           int images, const gradients *sum, int has_table) {
    const ptrdiff_t slot = block * (ptrdiff_t)p->s.batch + first;
    const kept k = kept_at(saved, p, slot);
    const int pairs = images * p->row_pairs;
    for (int image = 0; image < images; image++) {
        const kept one = kept_at(saved, p, slot + image);
        choose_drops(p, c, block, first + image);
        mlp_backward(p, c, w, &one, image);
    }
    weight_gradient(&w->fc2, &sum->fc2, p->changes_output ? c->branch_pairs : c->dy_pairs, p->dim, c->a_pairs, p->hidden, pairs);
    weight_gradient(&w->fc1, &sum->fc1, c->dz_pairs, p->hidden, k.n2, p->dim, pairs);
    if (!p->s.attention) {
        pair *swap = c->dy_pairs;
        c->dy_pairs = c->dx_pairs, c->dx_pairs = swap;
        return;
    }
    for (int image = 0; image < images; image++) {
        const kept one = kept_at(saved, p, slot + image);
        choose_drops(p, c, block, first + image);
        attention_backward(p, c, w, &one, image, has_table ? sum->table : NULL);
    }
    weight_gradient(&w->proj, &sum->proj, c->dx_pairs, p->dim, k.u, p->out, pairs);
    weight_gradient(&w->mix, &sum->mix, c->dmix_pairs, p->mix, k.n1, p->dim, pairs);
}

// All blocks for images [first, first + images): from dy to dx [tokens][dim] of each.
static void backward_group(const plan *p, scratch *c, const packed *w, const kept *saved, ptrdiff_t first, int images,
                           const gradients *sums, const real *dy, real *dx) {
    const ptrdiff_t outside = (ptrdiff_t)p->s.tokens * p->s.dim, inside = p->rows * p->dim;
    c->x = p->unpadded && tokens_of(p, first + images - 1) == p->s.tokens ? dx + first * outside : c->own_x;
    for (int image = 0; image < images; image++) {
        real *to = c->x + image * inside;
        fetch_image(p, to, dy + (first + image) * outside, tokens_of(p, first + image));
        for (ptrdiff_t row = 0; row < p->rows; row += 2) {
            for (ptrdiff_t i = 0; i < p->dim; i += LANES) {
                const ptrdiff_t at = (image * p->rows + row) * p->dim;
                const real *from = to + row * p->dim + i;
                put_both(c->dy_rows + at + i, p->dim, c->dy_pairs + at / PAIR + i, p->dim, load(from), load(from + p->dim));
            }
        }
    }
    for (int block = p->s.depth - 1; block >= 0; block--) {
        backward_block(p, c, w + block, saved, block, first, images, sums + block, w[block].table != NULL);
    }
    for (int image = 0; image < images; image++) {
        return_image(p, dx + (first + image) * outside, c->x + image * inside, tokens_of(p, first + image));
    }
}

#endif
