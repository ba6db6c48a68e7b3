// The blocks' weights, packed for products, and the way back for their gradients.
//
// Three things are multiplied into weights once a call instead of into activations: the 1 / sqrt(d) of the scores goes
// into the queries; layer norm's gain g and offset o into the dense layer that follows, W (g n + o) + b =
// (W g) n + (b + W o), so that blocks only see n = (x - mean) / spread; and the 2 of relu2's slope. In merged
// attention the normed tokens are also keys and values: as keys, g goes into the queries' rows, and o adds the same
// number to all scores of a row, which softmax does not see; as values, both go into the projection, since the
// attention weights of a row sum to 1.

#ifndef VITLAB_WEIGHTS_H
#define VITLAB_WEIGHTS_H

#include "plan.h"

// A dense layer y = W x + b with what is folded into it. ``scaled`` output rows are multiplied by scale, and by
// row_gain where that is given; NULL stands for ones (gains) and zeros (bias, offset).
typedef struct {
    int out, in;
    const real *weight, *bias, *gain, *offset, *row_gain;
    int scaled;
    real scale;
} layer;

// Gradients of the same, as the caller wants them: written (weight, bias) and added to (gain, offset, row_gain).
typedef struct {
    real *weight, *bias, *gain, *offset, *row_gain;
} layer_gradients;

enum { LAYER_MIX, LAYER_PROJ, LAYER_FC1, LAYER_FC2, LAYERS };

static layer describe(const plan *p, const real *const *w, int which) {
    const int merged = p->s.attention == MERGED;
    const real *gain = merged ? w[GAIN1] : NULL, *offset = merged ? w[OFFSET1] : NULL;
    const real scale = (real)(1 / sqrt((double)p->s.head_dim));
    switch (which) {
        case LAYER_MIX:
            return (layer){p->mix_used, p->s.dim, w[MIX], w[MIX_BIAS], w[GAIN1], w[OFFSET1], gain, p->out_used, scale};
        case LAYER_PROJ:
            return (layer){p->s.dim, p->out_used, w[PROJ], w[PROJ_BIAS], gain, offset, NULL, 0, 1};
        case LAYER_FC1:
            return (layer){p->s.hidden, p->s.dim, w[FC1], w[FC1_BIAS], w[GAIN2], w[OFFSET2], NULL, 0, 1};
        default:
            return (layer){p->s.dim, p->s.hidden, w[FC2], w[FC2_BIAS], NULL, NULL, NULL, 0, 1};
    }
}

static real row_scale(const layer *l, int row) {
    if (row >= l->scaled) return 1;
    return l->row_gain ? l->scale * l->row_gain[row] : l->scale;
}

// Up to 16 numbers, zeros behind them.
static vec load_some(const real *from, ptrdiff_t count) {
    if (count >= LANES) return load(from);
    vec x = zeros();
    for (ptrdiff_t i = 0; i < count; i++) x[i] = from[i];
    return x;
}

static vec folded(const layer *l, int row, ptrdiff_t column, real factor) {
    if (row >= l->out) return zeros();
    const ptrdiff_t count = l->in - column;
    vec x = load_some(l->weight + (ptrdiff_t)row * l->in + column, count) * (row_scale(l, row) * factor);
    return l->gain ? x * load_some(l->gain + column, count) : x;
}

static real dot(const real *a, const real *b, int count) {
    real sum = 0;
    for (int i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

// The bias of row ``row`` before its scale.
static real shifted_bias(const layer *l, int row) {
    real b = l->bias ? l->bias[row] : 0;
    return l->offset ? b + dot(l->weight + (ptrdiff_t)row * l->in, l->offset, l->in) : b;
}

static void pack_forward(const layer *l, dense *to, pair *memory) {
    const ptrdiff_t out = whole_vectors(l->out), in = whole_vectors(l->in);
    for (int row = 0; row < out; row += 2) {
        for (ptrdiff_t i = 0; i < in; i += LANES) {
            put_pairs(memory + row / PAIR * in + i, in, folded(l, row, i, 1), folded(l, row + 1, i, 1));
        }
    }
    column_pairs(to->forward, out, memory, in, pairs_of((int)out), pairs_of(l->in));
    for (int row = 0; row < out; row++) to->bias[row] = row < l->out ? shifted_bias(l, row) * row_scale(l, row) : 0;
}

static void pack_backward(const layer *l, dense *to, real factor) {
    to->bias_gradient = l->bias || l->offset;
    const ptrdiff_t out = whole_vectors(l->out), in = whole_vectors(l->in);
    for (int row = 0; row < out; row += 2) {
        for (ptrdiff_t i = 0; i < in; i += LANES) {
            put_pairs(to->backward + row / PAIR * in + i, in, folded(l, row, i, factor), folded(l, row + 1, i, factor));
        }
    }
}

// The attention bias of each pack; between its images there is none but -1e30, and no attention.
static void pack_table(const plan *p, real *to, const real *table) {
    const ptrdiff_t own = p->own_tokens;
    for (ptrdiff_t row = 0; row < p->s.heads * p->rows; row++) {
        const ptrdiff_t head = row / p->rows, token = row % p->rows;
        for (ptrdiff_t i = 0; i < p->keys; i++) {
            const int exists = token < p->s.tokens && i < p->s.tokens, together = token / own == i / own;
            const real bias = exists && table ? table[(head * own + token % own) * own + i % own] : 0;
            to[row * p->keys + i] = exists && !together ? (real)-1e30 : bias;
        }
    }
}

static dense *dense_of(packed *w, int which) {
    dense *all[LAYERS] = {&w->mix, &w->proj, &w->fc1, &w->fc2};
    return all[which];
}

// Packs one block for the forward pass, or for the backward pass.
static void pack_block(const plan *p, packed *to, const real *const *w, pair *memory, int backward) {
    for (int which = p->s.attention ? LAYER_MIX : LAYER_FC1; which < LAYERS; which++) {
        const layer l = describe(p, w, which);
        if (backward)
            pack_backward(&l, dense_of(to, which), which == LAYER_FC2 && p->s.relu2 ? 2 : 1);
        else
            pack_forward(&l, dense_of(to, which), memory);
    }
    if (!p->s.attention || (!w[TABLE] && (backward || p->pack == 1)))
        to->table = NULL;
    else if (!backward)
        pack_table(p, to->table, w[TABLE]);
}

// The gradients of a layer's own numbers from those of its folded weights, sum->weight [out][in] and sum->bias [out].
static void unfold(const layer *l, const gradient *sum, layer_gradients to) {
    const ptrdiff_t in = whole_vectors(l->in);
    for (int row = 0; row < l->out; row++) {
        const real *w = l->weight + (ptrdiff_t)row * l->in, *dw = sum->weight + row * in;
        const real scale = row_scale(l, row), db = sum->bias[row] * scale;
        real *out = to.weight + (ptrdiff_t)row * l->in, through_gain = 0;
        if (l->gain) {
            for (int i = 0; i < l->in; i++) {
                out[i] = scale * dw[i] * l->gain[i] + db * l->offset[i];
                to.gain[i] += scale * dw[i] * w[i];
                to.offset[i] += db * w[i];
                through_gain += dw[i] * w[i] * l->gain[i];
            }
        } else {
            for (int i = 0; i < l->in; i++) out[i] = scale * dw[i];
        }
        if (to.bias) to.bias[row] = db;
        if (to.row_gain) to.row_gain[row] += l->scale * (through_gain + sum->bias[row] * shifted_bias(l, row));
    }
}

static void unfold_table(const plan *p, real *to, const real *sum) {
    const ptrdiff_t own = p->own_tokens;
    for (ptrdiff_t i = 0; i < p->s.heads * own * own; i++) to[i] = 0;
    for (ptrdiff_t head = 0; head < p->s.heads; head++) {
        for (ptrdiff_t row = 0; row < p->s.tokens; row++) {
            const real *from = sum + (head * p->rows + row) * p->keys + row / own * own;
            for (ptrdiff_t i = 0; i < own; i++) to[(head * own + row % own) * own + i] += from[i];
        }
    }
}

static void clear(real *to, ptrdiff_t count) {
    for (ptrdiff_t i = 0; to && i < count; i++) to[i] = 0;
}

// Writes the gradients of one block's weights; its sums are over all images.
static void unfold_block(const plan *p, const gradients *sum, const real *const *w, real *const *grads) {
    const int merged = p->s.attention == MERGED && w[GAIN1];
    const gradient *sums[LAYERS] = {&sum->mix, &sum->proj, &sum->fc1, &sum->fc2};
    for (int i = 0; i < 2; i++) {
        clear(grads[i ? GAIN2 : GAIN1], p->s.dim);
        clear(grads[i ? OFFSET2 : OFFSET1], p->s.dim);
    }
    for (int which = p->s.attention ? LAYER_MIX : LAYER_FC1; which < LAYERS; which++) {
        const layer l = describe(p, w, which);
        real *gain = grads[which == LAYER_FC1 ? GAIN2 : GAIN1], *offset = grads[which == LAYER_FC1 ? OFFSET2 : OFFSET1];
        layer_gradients to = {.gain = gain, .offset = offset, .row_gain = which == LAYER_MIX && merged ? gain : NULL};
        const int at[LAYERS] = {MIX, PROJ, FC1, FC2};
        to.weight = grads[at[which]], to.bias = grads[at[which] + 1];
        unfold(&l, sums[which], to);
    }
    if (p->s.attention && w[TABLE]) unfold_table(p, grads[TABLE], sum->table);
}

#endif
