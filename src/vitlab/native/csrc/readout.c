// From tokens to logits: the last norm, all tokens side by side, one dense layer; and the gradients of that.
//
// Groups of four images pass the dense layer together, so that each of its weights is fetched once for all of them.
// Products are in full precision; there are few.
//
// Letters: N tokens, D numbers of a token, a multiple of 16; W = N D, the length of an image's vector; K classes.

#include "sums.h"

#include <string.h>

#define API __attribute__((visibility("default")))

enum { GROUP = 4, ROWS = 8 };  // images that share a fetch; rows whose sums are added up at once
static const real NORM_EPS = (real)1e-6;

typedef struct {
    int batch, tokens, dim, classes, rms, threads;
} vitlab_readout_shape;

// Memory of a thread: normed tokens and vectors of a group; and the sums of the gradients of the piece at work.
typedef struct {
    real *normed, *vectors, *rstd, *d_weight, *d_bias, *d_gain, *d_offset;
} thread_memory;

static ptrdiff_t whole_lines(ptrdiff_t count) { return (count + LANES - 1) / LANES * LANES; }
static ptrdiff_t width_of(const vitlab_readout_shape *s) { return (ptrdiff_t)s->tokens * s->dim; }

static ptrdiff_t sums_of(const vitlab_readout_shape *s) {
    return s->classes * width_of(s) + whole_lines(s->classes) + 2 * s->dim;
}

static ptrdiff_t thread_reals(const vitlab_readout_shape *s) {
    return 2 * GROUP * width_of(s) + whole_lines(s->tokens + ROWS) * GROUP;
}

static int parts(const vitlab_readout_shape *s) { return parts_of(s->threads, (size_t)sums_of(s) * sizeof(real)); }
static ptrdiff_t pieces_of(const vitlab_readout_shape *s) { return (ptrdiff_t)s->threads * parts(s); }

static thread_memory memory_of(const vitlab_readout_shape *s, real *workspace, int thread) {
    thread_memory m = {.normed = workspace + thread * thread_reals(s)};
    m.vectors = m.normed + GROUP * width_of(s);
    m.rstd = m.vectors + GROUP * width_of(s);
    return m;
}

// Where a piece's sums lie: behind all threads' memory.
static void point_at_sums(const vitlab_readout_shape *s, real *workspace, ptrdiff_t piece, thread_memory *m) {
    m->d_weight = workspace + s->threads * thread_reals(s) + piece * sums_of(s);
    m->d_bias = m->d_weight + s->classes * width_of(s);
    m->d_gain = m->d_bias + whole_lines(s->classes);
    m->d_offset = m->d_gain + s->dim;
}

API size_t vitlab_readout_bytes(const vitlab_readout_shape *s) {
    return (size_t)(s->threads * thread_reals(s) + pieces_of(s) * sums_of(s)) * sizeof(real);
}

// Rows [row, row + rows) of x, rows at most 8: less their means, times 1 / their spreads, which are kept.
INLINE void norm_rows(const vitlab_readout_shape *s, const real *x, int rows, real *normed, real *rstd) {
    const int dim = s->dim;
    const real share = (real)1 / dim;
    real means[LANES] = {0}, spreads[LANES];
    vec part[ROWS] = {0};
    if (!s->rms) {
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < dim; i += LANES) part[r] += load(x + r * dim + i);
        store(means, sum_rows(part) * share);
    }
    for (int r = 0; r < rows; r++) {
        part[r] = zeros();
        for (int i = 0; i < dim; i += LANES) {
            const vec d = load(x + r * dim + i) - means[r];
            part[r] += d * d;
        }
    }
    store(spreads, 1 / square_root(sum_rows(part) * share + NORM_EPS));
    for (int r = 0; r < rows; r++) {
        rstd[r] = spreads[r];
        for (int i = 0; i < dim; i += LANES)
            store(normed + r * dim + i, (load(x + r * dim + i) - means[r]) * spreads[r]);
    }
}

// What an image gives the dense layer, [W]: its tokens, normed, with gain and offset, if there are any.
static const real *vector_of(const vitlab_readout_shape *s, const real *x, const real *gain, const real *offset,
                             const thread_memory *m, int slot) {
    const ptrdiff_t width = width_of(s);
    real *normed = m->normed + slot * width, *vector = m->vectors + slot * width;
    real *rstd = m->rstd + slot * whole_lines(s->tokens + ROWS);
    for (int row = 0; row < s->tokens; row += ROWS) {
        const int rows = s->tokens - row < ROWS ? s->tokens - row : ROWS;
        norm_rows(s, x + row * s->dim, rows, normed + row * s->dim, rstd + row);
    }
    if (!gain) return normed;
    for (ptrdiff_t row = 0; row < s->tokens; row++)
        for (int i = 0; i < s->dim; i += LANES) {
            const ptrdiff_t at = row * s->dim + i;
            store(vector + at, load(normed + at) * load(gain + i) + load(offset + i));
        }
    return vector;
}

// Vectors of images [image, image + images), and of the first one in the places that are left.
INLINE void vectors_of(const vitlab_readout_shape *s, const real *x, const real *gain, const real *offset,
                       const thread_memory *m, ptrdiff_t image, int images, const real **y) {
    for (int i = 0; i < images; i++) y[i] = vector_of(s, x + (image + i) * width_of(s), gain, offset, m, i);
    for (int i = images; i < GROUP; i++) y[i] = y[0];
}

typedef struct {
    const vitlab_readout_shape *s;
    const real *x, *gain, *offset, *weight, *bias, *d_logits;
    real *logits, *dx, *workspace;
} work;

static range images_of(const work *w, ptrdiff_t piece) {
    return range_of(w->s->batch, w->s->threads, parts(w->s), GROUP, piece);
}

// The logits of up to four images.
static void logits_of(const work *w, ptrdiff_t image, int images, const thread_memory *m) {
    const vitlab_readout_shape *s = w->s;
    const ptrdiff_t width = width_of(s);
    const real *y[GROUP];
    vectors_of(s, w->x, w->gain, w->offset, m, image, images, y);
    for (int k = 0; k < s->classes; k += 2) {
        const int other = k + 1 < s->classes ? k + 1 : k;
        const real *u = w->weight + k * width, *v = w->weight + other * width;
        vec sums[2 * GROUP] = {0};
        for (ptrdiff_t at = 0; at < width; at += LANES) {
            UNROLL for (int i = 0; i < GROUP; i++) {
                sums[i] += load(u + at) * load(y[i] + at);
                sums[GROUP + i] += load(v + at) * load(y[i] + at);
            }
        }
        real added[LANES];
        store(added, sum_rows(sums));
        for (int i = 0; i < images; i++) {
            real *to = w->logits + (image + i) * s->classes;
            to[k] = added[i] + w->bias[k];
            to[other] = added[GROUP * (other - k) + i] + w->bias[other];
        }
    }
}

static void readout_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    const thread_memory m = memory_of(w->s, w->workspace, thread);
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const range r = images_of(w, piece);
        for (ptrdiff_t image = r.first; image < r.end; image += GROUP)
            logits_of(w, image, r.end - image < GROUP ? (int)(r.end - image) : GROUP, &m);
    }
}

// logits [batch][K] = weight [K][W] times each image's vector, plus bias [K].
API void vitlab_readout(const vitlab_readout_shape *s, const real *x, const real *gain, const real *offset,
                        const real *weight, const real *bias, real *logits, real *workspace) {
    work w = {.s = s, .x = x, .gain = gain, .offset = offset, .weight = weight, .bias = bias};
    w.logits = logits, w.workspace = workspace;
    share_out(s->threads, pieces_of(s), readout_pieces, &w);
}

// Of a group's vectors: dy into ``dy`` [GROUP][W], and what they add to the dense layer's gradients.
INLINE void dense_gradients(const vitlab_readout_shape *s, const real *weight, const real (*dl)[GROUP],
                            const real *const *y, real *dy, const thread_memory *m) {
    const ptrdiff_t width = width_of(s);
    for (ptrdiff_t at = 0; at < width; at += LANES) {
        vec given[GROUP], sums[GROUP];
        UNROLL for (int i = 0; i < GROUP; i++) given[i] = load(y[i] + at), sums[i] = zeros();
        for (int k = 0; k < s->classes; k++) {
            const vec w = load(weight + k * width + at);
            vec d = load(m->d_weight + k * width + at);
            UNROLL for (int i = 0; i < GROUP; i++) sums[i] += dl[k][i] * w, d += dl[k][i] * given[i];
            store(m->d_weight + k * width + at, d);
        }
        UNROLL for (int i = 0; i < GROUP; i++) store(dy + i * width + at, sums[i]);
    }
    for (int k = 0; k < s->classes; k++)
        for (int i = 0; i < GROUP; i++) m->d_bias[k] += dl[k][i];
}

// From dy to dx of at most 8 rows, and what they add to the gradients of gain and offset.
INLINE void norm_gradients(const vitlab_readout_shape *s, const real *gain, const real *normed, const real *rstd,
                           real *dy, int rows, real *dx, const thread_memory *m) {
    const int dim = s->dim;
    const real share = (real)1 / dim;
    real dots[LANES], means[LANES] = {0};
    vec part[ROWS] = {0}, sums[ROWS] = {0};
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < dim; i += LANES) {
            const vec n = load(normed + r * dim + i);
            vec d = load(dy + r * dim + i);
            if (gain) {
                store(m->d_gain + i, load(m->d_gain + i) + d * n), store(m->d_offset + i, load(m->d_offset + i) + d);
                d *= load(gain + i), store(dy + r * dim + i, d);
            }
            part[r] += d * n, sums[r] += d;
        }
    store(dots, sum_rows(part) * share);
    if (!s->rms) store(means, sum_rows(sums) * share);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < dim; i += LANES) {
            const ptrdiff_t at = r * dim + i;
            store(dx + at, (load(dy + at) - means[r] - load(normed + at) * dots[r]) * rstd[r]);
        }
}

// dx of up to four images, and what they add to the sums.
static void gradients_of(const work *w, ptrdiff_t image, int images, const thread_memory *m) {
    const vitlab_readout_shape *s = w->s;
    const ptrdiff_t width = width_of(s);
    const real *y[GROUP];
    real dl[s->classes][GROUP];
    vectors_of(s, w->x, w->gain, w->offset, m, image, images, y);
    for (int k = 0; k < s->classes; k++)
        for (int i = 0; i < GROUP; i++) dl[k][i] = i < images ? w->d_logits[(image + i) * s->classes + k] : 0;
    dense_gradients(s, w->weight, (const real(*)[GROUP])dl, y, m->vectors, m);
    for (int i = 0; i < images; i++)
        for (int row = 0; row < s->tokens; row += ROWS) {
            const int rows = s->tokens - row < ROWS ? s->tokens - row : ROWS;
            const ptrdiff_t at = i * width + (ptrdiff_t)row * s->dim;
            norm_gradients(s, w->gain, m->normed + at, m->rstd + i * whole_lines(s->tokens + ROWS) + row,
                           m->vectors + at, rows, w->dx + image * width + at, m);
        }
}

static void gradient_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    thread_memory m = memory_of(w->s, w->workspace, thread);
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const range r = images_of(w, piece);
        point_at_sums(w->s, w->workspace, piece, &m);
        memset(m.d_weight, 0, (size_t)sums_of(w->s) * sizeof(real));
        for (ptrdiff_t image = r.first; image < r.end; image += GROUP)
            gradients_of(w, image, r.end - image < GROUP ? (int)(r.end - image) : GROUP, &m);
    }
}

// dx and the gradients of all weights (gain's and offset's: unless NULL) from d_logits [batch][K]. K is at most 1024.
API void vitlab_readout_gradients(const vitlab_readout_shape *s, const real *x, const real *gain, const real *offset,
                                  const real *weight, const real *d_logits, real *dx, real *d_gain, real *d_offset,
                                  real *d_weight, real *d_bias, real *workspace) {
    work w = {.s = s, .x = x, .gain = gain, .offset = offset, .weight = weight, .d_logits = d_logits};
    w.dx = dx, w.workspace = workspace;
    thread_memory all = {0};
    point_at_sums(s, workspace, 0, &all);
    share_out(s->threads, pieces_of(s), gradient_pieces, &w);
    add_sums(s->threads, (sums){all.d_weight, sums_of(s), sums_of(s), pieces_of(s)});
    memcpy(d_weight, all.d_weight, (size_t)(s->classes * width_of(s)) * sizeof(real));
    memcpy(d_bias, all.d_bias, (size_t)s->classes * sizeof(real));
    if (!gain) return;
    memcpy(d_gain, all.d_gain, (size_t)s->dim * sizeof(real));
    memcpy(d_offset, all.d_offset, (size_t)s->dim * sizeof(real));
}
