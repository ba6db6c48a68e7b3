// Sizes, and where everything lies in the two blocks of memory that the caller lends: ``saved`` and ``workspace``.
//
// Columns are padded with zeros to whole vectors, an image's tokens to an even number (rows come in pairs). Nothing is
// allocated here and nothing is global, so that calls from several threads do not meet.

#ifndef VITLAB_PLAN_H
#define VITLAB_PLAN_H

#include "random.h"

typedef struct {
    int batch, tokens, dim, depth, heads, head_dim, hidden;
    int attention;  // 0 none, 1 queries, keys and values, 2 merged: the normed tokens are keys and values
    int rms;        // 1 root mean square norm, 0 layer norm
    int relu2;      // 1 ReLU squared, 0 GELU
    int last_gelu;  // 1: GELU behind the second dense layer too
    int threads;
    unsigned seed;  // of what is dropped
    double dropout, attn_dropout;  // rates: hidden units and the MLP's output; attention weights
} vitlab_shape;

enum { NO_ATTENTION, QKV, MERGED };

// Pointers to the weights of one block, in this order; NULL where there is none.
enum { GAIN1, OFFSET1, MIX, MIX_BIAS, PROJ, PROJ_BIAS, TABLE, GAIN2, OFFSET2, FC1, FC1_BIAS, FC2, FC2_BIAS, WEIGHTS };

enum { TILE_ROWS = WITH_AMX ? 16 : 8 };

// Images of few tokens are packed: ``pack`` of them count as one image of s.tokens = pack * own_tokens tokens, s.batch
// of which there are, and attention between them is masked. A NaN in one reaches all of its pack.
typedef struct {
    vitlab_shape s;
    int pack, own_tokens;
    ptrdiff_t all_tokens;              // of the caller's batch, which may end within a pack
    ptrdiff_t rows, keys;              // tokens, padded: as rows; as columns of the scores
    ptrdiff_t dim, mix, out, hidden;   // columns, padded; mix: queries (keys, values) of all heads; out: their result
    int mix_used, out_used;            // columns, not padded
    int key_at, value_at;              // where the first head's keys and values begin in a row of mix
    int dim_pairs, mix_pairs, out_pairs, hidden_pairs, head_pairs, row_pairs;
    ptrdiff_t tile;                    // width of a tile's row: the widest product, and one vector that may be spoilt
    int group;                         // images whose weight gradients are computed in one go
    int unpadded;                      // whether an image of the caller's is as it would be here
    int changes_output;                // whether anything comes behind the second dense layer
    int height;                        // with AMX: rows of every product of an image, also where fewer are left
    bits dim_tail, key_tail, mix_tail, out_tail;
} plan;

INLINE ptrdiff_t whole_vectors(ptrdiff_t columns) { return (columns + LANES - 1) / LANES * LANES; }
INLINE int pairs_of(int count) { return (count + PAIR - 1) / PAIR; }
INLINE ptrdiff_t widest(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

// A group's activations should stay in the second-level cache. But if the sums of all weight gradients do not, they pass
// through it once a group, so that fewer, larger groups are faster (measured: docs/log.md).
static void choose_group(plan *p, size_t image_bytes) {
    const ptrdiff_t weights = p->dim * (p->mix + p->out + 2 * p->hidden);
    const int sums_stay = (size_t)(p->s.depth * weights) * sizeof(real) <= 1 << 20;
    const int most = sums_stay ? 8 : 32;
    p->group = (int)((sums_stay ? 384 << 10 : 2 << 20) / image_bytes);
    p->group = p->group < 1 ? 1 : p->group > most ? most : p->group;
}

// As few tiles as can be, of as few rows as can be: all of one height, since changing it costs more than some rows.
static int choose_height(ptrdiff_t rows) {
    const ptrdiff_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    return (int)((rows / 2 + tiles - 1) / tiles * 2);
}

// ``pack``: images that count as one.
static plan plan_of(const vitlab_shape *shape, int pack) {
    plan p = {.s = *shape, .own_tokens = shape->tokens, .all_tokens = (ptrdiff_t)shape->batch * shape->tokens};
    const vitlab_shape *s = &p.s;
    p.pack = pack;
    p.s.tokens = p.pack * s->tokens, p.s.batch = (s->batch + p.pack - 1) / p.pack;
    const int width = s->heads * s->head_dim;
    p.rows = (s->tokens + 1) / 2 * 2, p.keys = whole_vectors(s->tokens);
    p.mix_used = s->attention == QKV ? 3 * width : s->dim, p.out_used = s->attention == QKV ? width : s->dim;
    p.key_at = width, p.value_at = 2 * width;
    p.dim = whole_vectors(s->dim), p.hidden = whole_vectors(s->hidden);
    p.mix = whole_vectors(p.mix_used), p.out = whole_vectors(p.out_used);
    p.dim_pairs = pairs_of(s->dim), p.hidden_pairs = pairs_of(s->hidden), p.head_pairs = pairs_of(s->head_dim);
    p.mix_pairs = pairs_of(p.mix_used), p.out_pairs = pairs_of(p.out_used), p.row_pairs = pairs_of((int)p.rows);
    p.tile = widest(widest(widest(p.dim, p.mix), widest(p.hidden, p.keys)), p.out) + LANES;
    const size_t row_bytes = sizeof(real) * (size_t)p.dim + sizeof(half) * (size_t)(4 * p.dim + 2 * p.hidden + p.mix);
    choose_group(&p, (size_t)p.rows * row_bytes);
    if (WITH_AMX) p.height = choose_height(p.rows);
    p.unpadded = p.rows == s->tokens && p.dim == s->dim;
    p.changes_output = s->last_gelu || s->dropout > 0;
    p.dim_tail = tail_mask(s->dim), p.key_tail = tail_mask(s->tokens);
    p.mix_tail = tail_mask(p.mix_used), p.out_tail = tail_mask(p.out_used);
    return p;
}

static plan make_plan(const vitlab_shape *s) {
    return plan_of(s, s->attention == NO_ATTENTION || s->tokens > LANES / 2 ? 1 : LANES / s->tokens);
}

// A piece of memory being cut up; starting from 0 it only measures.
typedef struct {
    uintptr_t at;
} arena;

// ``count`` numbers of ``size`` bytes. A vector more may be read behind them: a head's columns can end anywhere.
static void *take(arena *memory, ptrdiff_t count, size_t size) {
    uintptr_t start = (memory->at + 63) / 64 * 64;
    memory->at = start + (size_t)count * size + LANES * 2 * sizeof(half);
    return (void *)start;
}

// What the backward pass needs from the forward pass, for one block and image, as row pairs; rstd: 1 / spread of a row.
typedef struct {
    pair *n1, *mix, *p, *u, *n2, *z, *y;  // y: what last_gelu is applied to
    real *rstd1, *rstd2;
} kept;

static kept take_kept(arena *memory, const plan *p, ptrdiff_t count) {
    kept k = {0};
    if (p->s.attention) {
        k.n1 = take(memory, count * p->row_pairs * p->dim, sizeof(pair));
        k.mix = take(memory, count * p->row_pairs * p->mix, sizeof(pair));
        k.p = take(memory, count * p->row_pairs * p->keys * p->s.heads, sizeof(pair));
        k.u = take(memory, count * p->row_pairs * p->out, sizeof(pair));
        k.rstd1 = take(memory, count * p->rows, sizeof(real));
    }
    k.n2 = take(memory, count * p->row_pairs * p->dim, sizeof(pair));
    k.z = take(memory, count * p->row_pairs * p->hidden, sizeof(pair));
    if (p->s.last_gelu) k.y = take(memory, count * p->row_pairs * p->dim, sizeof(pair));
    k.rstd2 = take(memory, count * p->rows, sizeof(real));
    return k;
}

static kept kept_at(const kept *all, const plan *p, ptrdiff_t slot) {
    kept k = *all;
    if (p->s.attention) {
        k.n1 += slot * p->row_pairs * p->dim;
        k.mix += slot * p->row_pairs * p->mix;
        k.p += slot * p->row_pairs * p->keys * p->s.heads;
        k.u += slot * p->row_pairs * p->out;
        k.rstd1 += slot * p->rows;
    }
    k.n2 += slot * p->row_pairs * p->dim;
    k.z += slot * p->row_pairs * p->hidden;
    if (p->s.last_gelu) k.y += slot * p->row_pairs * p->dim;
    k.rstd2 += slot * p->rows;
    return k;
}

// A dense layer, packed as right factor: of x W^T (forward) and of dy W (backward).
typedef struct {
    pair *forward, *backward;
    real *bias;
    int bias_gradient;  // whether anybody wants to know it
} dense;

typedef struct {
    dense mix, proj, fc1, fc2;
    real *table;  // attention bias, NULL if none
} packed;

static dense take_dense(arena *memory, ptrdiff_t out, ptrdiff_t in) {
    dense d = {.forward = take(memory, (in / PAIR + 8) * out, sizeof(pair))};
    d.backward = d.forward;  // a call needs only one of them, and they are of one size
    d.bias = take(memory, out, sizeof(real));
    return d;
}

static packed take_packed(arena *memory, const plan *p) {
    packed w = {0};
    if (p->s.attention) {
        w.mix = take_dense(memory, p->mix, p->dim);
        w.proj = take_dense(memory, p->dim, p->out);
        w.table = take(memory, p->s.heads * p->rows * p->keys, sizeof(real));
    }
    w.fc1 = take_dense(memory, p->hidden, p->dim);
    w.fc2 = take_dense(memory, p->dim, p->hidden);
    return w;
}

// A thread's sums of weight gradients for one block: [out][in], padded, of the packed weights.
typedef struct {
    real *weight, *bias;
} gradient;

typedef struct {
    gradient mix, proj, fc1, fc2;
    real *table;
} gradients;

static gradient take_gradient(arena *memory, ptrdiff_t out, ptrdiff_t in) {
    gradient g = {.weight = take(memory, out * in, sizeof(real))};
    g.bias = take(memory, out, sizeof(real));
    return g;
}

static gradients take_gradients(arena *memory, const plan *p) {
    gradients g = {0};
    if (p->s.attention) {
        g.mix = take_gradient(memory, p->mix, p->dim);
        g.proj = take_gradient(memory, p->dim, p->out);
        g.table = take(memory, p->s.heads * p->rows * p->keys, sizeof(real));
    }
    g.fc1 = take_gradient(memory, p->hidden, p->dim);
    g.fc2 = take_gradient(memory, p->dim, p->hidden);
    return g;
}

// A thread's working memory. Names with ``rows`` are row-major halves, with ``pairs`` row pairs.
typedef struct {
    real *x, *own_x, *tile;                       // x may be the caller's
    drops drop[DROP_PLACES];                      // of the image and block at work
    half *n_rows, *q_rows, *u_rows, *a_rows;      // forward
    half *p_rows;                                 // attention weights; in backward their scores' gradient
    pair *columns;                                // one head's keys or values as column pairs
    half *dz_rows, *du_rows, *dmix_rows;          // backward, of one image
    pair *du_pairs, *ds_pairs, *dropped_pairs;    // the last: attention weights after dropout
    half *branch_rows;                            // the gradient of the MLP's output, where it is not dy
    half *dy_rows;                                // of a group of images
    pair *dy_pairs, *dz_pairs, *a_pairs, *dx_pairs, *dmix_pairs, *branch_pairs;  // for the weight gradients
} scratch;

static scratch take_scratch(arena *memory, const plan *p) {
    const ptrdiff_t heads = p->s.heads, group = p->group;
    const ptrdiff_t copied = PAIR == 1 ? 0 : p->rows;  // rows that lie row-major as well as in pairs
    scratch c = {.own_x = take(memory, group * p->rows * p->dim, sizeof(real))};
    c.tile = take(memory, TILE_ROWS * p->tile, sizeof(real));
    c.n_rows = take(memory, copied * p->dim, sizeof(half));
    c.q_rows = take(memory, copied * p->out, sizeof(half));
    c.u_rows = c.du_rows = take(memory, copied * p->out, sizeof(half));
    c.a_rows = c.dz_rows = take(memory, p->rows * p->hidden, sizeof(half));
    c.p_rows = take(memory, heads * (p->s.attn_dropout > 0 ? p->rows : copied) * p->keys, sizeof(half));
    c.columns = take(memory, (p->head_pairs + 7) * p->keys, sizeof(pair));
    c.dy_rows = take(memory, group * copied * p->dim, sizeof(half));
    c.dmix_rows = take(memory, copied * p->mix, sizeof(half));
    c.du_pairs = take(memory, p->row_pairs * p->out, sizeof(pair));
    c.ds_pairs = take(memory, heads * p->row_pairs * p->keys, sizeof(pair));
    c.dy_pairs = take(memory, group * p->row_pairs * p->dim, sizeof(pair));
    c.dz_pairs = take(memory, group * p->row_pairs * p->hidden, sizeof(pair));
    c.a_pairs = take(memory, group * p->row_pairs * p->hidden, sizeof(pair));
    c.dx_pairs = take(memory, group * p->row_pairs * p->dim, sizeof(pair));
    c.dmix_pairs = take(memory, group * p->row_pairs * p->mix, sizeof(pair));
    if (p->changes_output) {
        c.branch_rows = take(memory, copied * p->dim, sizeof(half));
        c.branch_pairs = take(memory, group * p->row_pairs * p->dim, sizeof(pair));
    }
    if (p->s.attn_dropout > 0) c.dropped_pairs = take(memory, heads * p->row_pairs * p->keys, sizeof(pair));
    if (WITH_AMX) take(memory, TILE_ROWS * p->tile, sizeof(half));  // the last product of an image reads so far
    return c;
}

#endif
