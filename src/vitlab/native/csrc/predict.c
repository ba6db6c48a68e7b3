// The whole network for prediction, from preprocessed images to logits, in one call: nothing is kept for a backward
// pass, and weights are packed once for many calls.
//
// A thread takes a group of images at a time through patches, blocks and head, so that each of the weights is fetched
// once for all of them while their activations stay in the second-level cache; attention is computed image by image.
// Products are in full precision in every variant of the library. An image's logits are the same bits in any company.
// A head that does not fit into that cache is left to the caller, who can take all images through it at once.
//
// Letters: N tokens, D numbers of a token, F features (D, or N D with all tokens side by side), K classes.

#if defined VITLAB_PAIRS
#undef VITLAB_PAIRS
#define VITLAB_DOUBLE
#endif
#undef VITLAB_BF16  // plain rows of full width in all that follows
#include "gemm_plain.h"
#include "gelu_value.h"
#include "plan.h"
#include "rows.h"
#include "weights.h"
#include "panels.h"
#include "patches.h"
#include "pool.h"

#include <string.h>

#define API __attribute__((visibility("default")))

enum { POOL_CLS, POOL_MEAN, POOL_FLATTEN };
// Images at a time, and what their activations may take; rows behind the last token, which may be read or spoilt.
enum { MOST_GROUP = 8, GROUP_BYTES = 256 << 10, SPARE_ROWS = 8 };

typedef struct {
    vitlab_shape blocks;      // batch, threads and dropout mean nothing here
    vitlab_patches patches;   // neither do batch and threads
    int pool;                 // POOL_CLS: there is a class token
    int classes;              // 0: there is no head, only features
} vitlab_network;

// Weights in front of and behind the blocks, in this order, then the blocks'; NULL where there is none.
enum { PATCH, PATCH_BIAS, PLACES, CLS, GAIN, OFFSET, HEAD, HEAD_BIAS, ENDS };

typedef struct {
    real *panels, *bias;
} layer_weights;

typedef struct {
    layer_weights mix, proj, fc1, fc2;
    real *table;
} block_weights;

typedef struct {
    plan p;
    sizes z;
    ptrdiff_t first;          // tokens in front of the patches
    ptrdiff_t features;       // F
    ptrdiff_t out;            // width of a row of attention's output, with room for a vector that may be spoilt
    ptrdiff_t group;          // images at a time
} layout;

// What all tokens begin with ([N][D]: bias and places, the class token), the last norm's gain and offset, the head.
typedef struct {
    layer_weights embed, head;
    real *start, *gain, *offset;
    int *flags;  // HAS_TABLE, HAS_GAIN
} ends;
enum { HAS_TABLE, HAS_GAIN, FLAGS };

static layout layout_of(const vitlab_network *n) {
    vitlab_shape shape = n->blocks;
    shape.batch = shape.threads = 1, shape.dropout = shape.attn_dropout = 0;
    layout l = {.z = sizes_of(&n->patches), .first = n->pool == POOL_CLS};
    shape.tokens = (int)(l.z.tokens + l.first);
    l.p = plan_of(&shape, 1);
    l.p.tile = l.p.keys;  // as in the table, with which scores begin
    l.features = n->pool == POOL_FLATTEN ? (ptrdiff_t)shape.tokens * shape.dim : shape.dim;
    l.out = l.p.out + LANES;
    const size_t row_bytes = sizeof(real) * (size_t)(2 * l.p.dim + widest(l.p.mix + l.out, l.p.hidden));
    l.group = (ptrdiff_t)(GROUP_BYTES / (row_bytes * (size_t)shape.tokens));
    l.group = l.group < 1 ? 1 : l.group > MOST_GROUP ? MOST_GROUP : l.group;
    return l;
}

static layer_weights take_layer(arena *memory, ptrdiff_t out, ptrdiff_t in) {
    layer_weights w = {.panels = take(memory, in * whole_vectors(out), sizeof(real))};
    w.bias = take(memory, whole_vectors(out), sizeof(real));
    return w;
}

static ends take_ends(arena *memory, const vitlab_network *n, const layout *l) {
    ends e = {.flags = take(memory, FLAGS, sizeof(int))};
    e.embed = take_layer(memory, n->blocks.dim, l->z.length);
    e.start = take(memory, l->p.s.tokens * l->p.dim, sizeof(real));
    e.gain = take(memory, l->p.dim, sizeof(real)), e.offset = take(memory, l->p.dim, sizeof(real));
    if (n->classes) e.head = take_layer(memory, n->classes, l->features);
    return e;
}

static block_weights take_block(arena *memory, const plan *p) {
    block_weights b = {0};
    if (p->s.attention) {
        b.mix = take_layer(memory, p->mix_used, p->s.dim);
        b.proj = take_layer(memory, p->s.dim, p->out_used);
        b.table = take(memory, p->s.heads * p->rows * p->keys, sizeof(real));
    }
    b.fc1 = take_layer(memory, p->s.hidden, p->s.dim);
    b.fc2 = take_layer(memory, p->s.dim, p->s.hidden);
    return b;
}

// Bytes of the packed weights.
API size_t vitlab_packed_bytes(const vitlab_network *n) {
    const layout l = layout_of(n);
    arena memory = {0};
    take_ends(&memory, n, &l);
    for (int block = 0; block < n->blocks.depth; block++) take_block(&memory, &l.p);
    return memory.at + 64;
}

// The memory that packing one layer takes: its rows padded, and its transpose.
static ptrdiff_t turning_reals(ptrdiff_t out, ptrdiff_t in) {
    return 2 * (whole_vectors(out) + LANES) * (whole_vectors(in) + LANES);
}

static ptrdiff_t pack_reals(const vitlab_network *n, const layout *l) {
    const plan *p = &l->p;
    ptrdiff_t most = widest(turning_reals(p->s.dim, l->z.length), turning_reals(n->classes, l->features));
    if (p->s.attention)
        most = widest(most, widest(turning_reals(p->mix_used, p->s.dim), turning_reals(p->s.dim, p->out_used)));
    return widest(most, turning_reals(p->s.hidden, p->s.dim));
}

// Bytes of the workspace of vitlab_pack.
API size_t vitlab_pack_bytes(const vitlab_network *n) {
    const layout l = layout_of(n);
    return (size_t)pack_reals(n, &l) * sizeof(real) + 64;
}

static void pack_layer(const layer *l, const layer_weights *to, real *memory) {
    const ptrdiff_t out = whole_vectors(l->out), in = whole_vectors(l->in);
    dense turned = {.forward = memory + (out + LANES) * (in + LANES), .bias = to->bias};
    pack_forward(l, &turned, memory);
    pack_panels(to->panels, turned.forward, l->in, out);
}

static void pack_row(real *to, const real *from, int count, ptrdiff_t padded) {
    for (ptrdiff_t i = 0; i < padded; i++) to[i] = i < count && from ? from[i] : 0;
}

static void pack_ends(const vitlab_network *n, const layout *l, const ends *e, const real *const *w, real *memory) {
    const int dim = n->blocks.dim;
    e->flags[HAS_GAIN] = w[GAIN] != NULL;
    pack_layer(&(layer){.out = dim, .in = (int)l->z.length, .weight = w[PATCH], .scale = 1}, &e->embed, memory);
    for (ptrdiff_t row = 0; row < l->p.s.tokens; row++) {
        real *to = e->start + row * l->p.dim;
        pack_row(to, row < l->first ? w[CLS] : w[PATCH_BIAS], dim, l->p.dim);
        if (w[PLACES])
            for (int i = 0; i < dim; i++) to[i] += w[PLACES][row * dim + i];
    }
    pack_row(e->gain, w[GAIN], dim, l->p.dim), pack_row(e->offset, w[OFFSET], dim, l->p.dim);
    const layer head = {
        .out = n->classes, .in = (int)l->features, .weight = w[HEAD], .bias = w[HEAD_BIAS], .scale = 1};
    if (n->classes) pack_layer(&head, &e->head, memory);
}

// Packs the weights for vitlab_predict, on the same processor: they are not to be kept in files.
API void vitlab_pack(const vitlab_network *n, const real *const *weights, void *packed, void *workspace) {
    const layout l = layout_of(n);
    real *memory = take(&(arena){(uintptr_t)workspace}, 0, 1);
    arena at = {(uintptr_t)packed};
    const ends e = take_ends(&at, n, &l);
    pack_ends(n, &l, &e, weights, memory);
    e.flags[HAS_TABLE] = 0;
    for (int block = 0; block < n->blocks.depth; block++) {
        const block_weights b = take_block(&at, &l.p);
        const real *const *w = weights + ENDS + block * WEIGHTS;
        const layer_weights *to[LAYERS] = {&b.mix, &b.proj, &b.fc1, &b.fc2};
        for (int which = l.p.s.attention ? LAYER_MIX : LAYER_FC1; which < LAYERS; which++) {
            const layer one = describe(&l.p, w, which);
            pack_layer(&one, to[which], memory);
        }
        if (!l.p.s.attention || !w[TABLE]) continue;
        e.flags[HAS_TABLE] = 1;
        pack_table(&l.p, b.table, w[TABLE]);
    }
}

// A thread's memory.
typedef struct {
    real *bordered, *patches;          // an image with its border of zeros; its patches
    real *x, *n, *mix, *u, *hidden;    // of a group
    real *weights, *rstd, *zeros;      // attention weights of one head; what nobody reads; what a bias may be
    real *features, *logits;           // of a group, padded to vectors: features as a whole, logits row by row
    scratch c;
} memory;

static memory take_memory(arena *from, const vitlab_network *n, const layout *l, ptrdiff_t group) {
    const plan *p = &l->p;
    const ptrdiff_t rows = group * p->s.tokens + SPARE_ROWS;
    memory m = {.bordered = take(from, room(n->patches.channels * l->z.border * l->z.border), sizeof(real))};
    m.patches = take(from, room(l->z.tokens * l->z.length), sizeof(real));
    m.x = take(from, rows * p->dim, sizeof(real)), m.n = take(from, rows * p->dim, sizeof(real));
    m.hidden = take(from, rows * p->hidden, sizeof(real));
    if (p->s.attention) {
        m.mix = take(from, rows * p->mix, sizeof(real)), m.u = take(from, rows * l->out, sizeof(real));
        m.weights = take(from, (p->rows + SPARE_ROWS) * p->keys, sizeof(real));
        m.c.columns = take(from, (p->head_pairs + 7) * p->keys, sizeof(real));
        m.c.tile = take(from, TILE_ROWS * p->tile, sizeof(real));
    }
    m.rstd = take(from, rows, sizeof(real)), m.zeros = take(from, p->dim, sizeof(real));
    m.features = take(from, group * l->features + LANES, sizeof(real));
    m.logits = take(from, group * whole_vectors(n->classes), sizeof(real));
    return m;
}

static uintptr_t whole_pages(uintptr_t bytes) { return (bytes + 4095) / 4096 * 4096; }

// Into how many pieces a batch is cut: of no more than a group, as many for each thread.
static ptrdiff_t pieces_of(const layout *l, ptrdiff_t batch, int threads) {
    const ptrdiff_t least = (batch + l->group - 1) / l->group;
    return (least + threads - 1) / threads * threads;
}

static size_t thread_bytes(const vitlab_network *n, const layout *l, ptrdiff_t group) {
    arena one = {0};
    take_memory(&one, n, l, group);
    return whole_pages(one.at);
}

// Bytes of the workspace of vitlab_predict.
API size_t vitlab_predict_bytes(const vitlab_network *n, int batch, int threads) {
    const layout l = layout_of(n);
    return (size_t)threads * thread_bytes(n, &l, (batch - 1) / pieces_of(&l, batch, threads) + 1) + 4096;
}

typedef struct {
    const vitlab_network *network;
    layout l;
    ends e;
    uintptr_t blocks, workspace;  // where the blocks' weights and the threads' memory begin
    size_t bytes;                 // of a thread's memory
    ptrdiff_t batch, pieces, group;  // group: images in the largest piece
    const real *images;
    real *features, *logits;      // features may be NULL
} work;

static void embed_image(const work *w, const memory *m, const real *image, real *x) {
    const layout *l = &w->l;
    const ptrdiff_t dim = l->p.dim;
    memcpy(x, w->e.start, (size_t)(l->p.s.tokens * dim) * sizeof(real));
    cut_patches(&w->network->patches, &l->z, image, m->bordered, m->patches);
    multiply_packed(x + l->first * dim, dim, l->z.tokens, dim, m->patches, l->z.length, w->e.embed.panels, l->z.length,
                    m->zeros, 1);
}

// n = the norm of x, ``rows`` of them.
static void norm_all(const plan *p, const memory *m, ptrdiff_t rows) {
    const normed to = {NULL, m->n, m->rstd};
    for (ptrdiff_t row = 0; row < rows; row += TILE_ROWS)
        norm(p, m->x, (int)row, rows - row < TILE_ROWS ? (int)(rows - row) : TILE_ROWS, &to);
}

// u [N] = softmax(q k^T) v of one image, whose normed tokens and queries (keys, values) begin at n and mix.
static void attend(const layout *l, const memory *m, const real *n, const real *mix, const real *table, real *u) {
    const plan *p = &l->p;
    const int merged = p->s.attention == MERGED, tokens = p->s.tokens;
    const ptrdiff_t from = merged ? p->dim : p->mix;
    for (int head = 0; head < p->s.heads; head++) {
        const ptrdiff_t at = head * p->s.head_dim;
        const real *keys = merged ? n : mix + p->key_at + at, *values = merged ? n : mix + p->value_at + at;
        column_pairs(m->c.columns, p->keys, keys, from, tokens, p->s.head_dim);
        for (int row = 0; row < tokens; row += TILE_ROWS) {
            const int rows = tokens - row < TILE_ROWS ? tokens - row : TILE_ROWS;
            const real *start = table ? table + (head * p->rows + row) * p->keys : NULL;
            product(m->c.tile, start, p->tile, rows, p->keys, mix + at + row * p->mix, p->mix, 1, m->c.columns, p->keys,
                    p->s.head_dim);
            softmax(p, &m->c, row, rows, NULL, 0, NULL, m->weights);
        }
        product(u + at, NULL, l->out, tokens, p->s.head_dim, m->weights, p->keys, 1, values, from, tokens);
    }
}

static void activate(real *x, ptrdiff_t count, int relu2) {
    for (ptrdiff_t i = 0; i < count; i += LANES) {
        const vec z = load(x + i), positive = vec_max(zeros(), z);
        store(x + i, relu2 ? positive * positive : gelu_value(z));
    }
}

static void through_block(const layout *l, const memory *m, const block_weights *b, int has_table, ptrdiff_t images) {
    const plan *p = &l->p;
    const ptrdiff_t tokens = p->s.tokens, rows = images * tokens;
    if (p->s.attention) {
        norm_all(p, m, rows);
        multiply_packed(m->mix, p->mix, rows, p->mix, m->n, p->dim, b->mix.panels, p->s.dim, b->mix.bias, 0);
        for (ptrdiff_t at = 0; at < rows; at += tokens)
            attend(l, m, m->n + at * p->dim, m->mix + at * p->mix, has_table ? b->table : NULL, m->u + at * l->out);
        multiply_packed(m->x, p->dim, rows, p->dim, m->u, l->out, b->proj.panels, p->out_used, b->proj.bias, 1);
    }
    norm_all(p, m, rows);
    multiply_packed(m->hidden, p->hidden, rows, p->hidden, m->n, p->dim, b->fc1.panels, p->s.dim, b->fc1.bias, 0);
    activate(m->hidden, rows * p->hidden, p->s.relu2);
    real *to = p->s.last_gelu ? m->n : m->x;
    multiply_packed(to, p->dim, rows, p->dim, m->hidden, p->hidden, b->fc2.panels, p->s.hidden, b->fc2.bias, to == m->x);
    if (!p->s.last_gelu) return;
    activate(m->n, rows * p->dim, 0);
    for (ptrdiff_t i = 0; i < rows * p->dim; i += LANES) store(m->x + i, load(m->x + i) + load(m->n + i));
}

// Gain and offset of ``rows`` normed tokens, where there are any; the columns that pad a row stay 0.
static void scale_rows(const work *w, real *n, ptrdiff_t rows) {
    const ptrdiff_t dim = w->l.p.dim;
    if (!w->e.flags[HAS_GAIN]) return;
    for (ptrdiff_t row = 0; row < rows; row++, n += dim)
        for (ptrdiff_t i = 0; i < dim; i += LANES)
            store(n + i, load(n + i) * load(w->e.gain + i) + load(w->e.offset + i));
}

// The features [F] of an image from its tokens n.
static void pool_image(const work *w, const real *n, real *to) {
    const plan *p = &w->l.p;
    const int tokens = p->s.tokens, dim = p->s.dim;
    if (w->network->pool == POOL_MEAN) {
        for (ptrdiff_t i = 0; i < p->dim; i += LANES) {
            vec sum = load(n + i);
            for (ptrdiff_t row = 1; row < tokens; row++) sum += load(n + row * p->dim + i);
            store(to + i, sum / (real)tokens);
        }
    } else {  // from the first on, in order: what is too much of a row, the next one replaces
        for (ptrdiff_t row = 0; row < (w->network->pool == POOL_CLS ? 1 : tokens); row++)
            for (ptrdiff_t i = 0; i < p->dim; i += LANES) store(to + row * dim + i, load(n + row * p->dim + i));
    }
}

static void read_out(const work *w, const memory *m, ptrdiff_t image, ptrdiff_t images) {
    const layout *l = &w->l;
    const int classes = w->network->classes;
    norm_all(&l->p, m, images * l->p.s.tokens);
    scale_rows(w, m->n, images * l->p.s.tokens);
    for (ptrdiff_t i = 0; i < images; i++)  // in order: what a copy by vectors spoils, the next one replaces
        pool_image(w, m->n + i * l->p.s.tokens * l->p.dim, m->features + i * l->features);
    if (w->features)
        memcpy(w->features + image * l->features, m->features, (size_t)(images * l->features) * sizeof(real));
    if (!classes) return;
    const ptrdiff_t width = whole_vectors(classes);
    multiply_few(m->logits, width, images, width, m->features, l->features, w->e.head.panels, l->features,
                 w->e.head.bias);
    for (ptrdiff_t i = 0; i < images; i++)
        memcpy(w->logits + (image + i) * classes, m->logits + i * width, (size_t)classes * sizeof(real));
}

static void predict_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    const vitlab_network *n = w->network;
    arena own = {w->workspace + (size_t)thread * w->bytes};
    const memory m = take_memory(&own, n, &w->l, w->group);
    const ptrdiff_t pixels = (ptrdiff_t)n->patches.channels * n->patches.side * n->patches.side;
    memset(m.bordered, 0, (size_t)(n->patches.channels * w->l.z.border * w->l.z.border) * sizeof(real));
    memset(m.zeros, 0, (size_t)w->l.p.dim * sizeof(real));
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const ptrdiff_t image = piece * w->batch / w->pieces, images = (piece + 1) * w->batch / w->pieces - image;
        for (ptrdiff_t i = 0; i < images; i++)
            embed_image(w, &m, w->images + (image + i) * pixels, m.x + i * w->l.p.s.tokens * w->l.p.dim);
        arena at = {w->blocks};
        for (int block = 0; block < n->blocks.depth; block++) {
            const block_weights b = take_block(&at, &w->l.p);
            through_block(&w->l, &m, &b, w->e.flags[HAS_TABLE], images);
        }
        read_out(w, &m, image, images);
    }
}

// logits [batch][K], unless K is 0, and features [batch][F], unless they are NULL, of preprocessed images
// [batch][channels][side][side].
API void vitlab_predict(const vitlab_network *n, const void *packed, int batch, int threads, const real *images,
                        real *features, real *logits, void *workspace) {
    work w = {.network = n, .l = layout_of(n), .batch = batch, .images = images, .features = features, .logits = logits};
    arena at = {(uintptr_t)packed};
    w.e = take_ends(&at, n, &w.l);
    w.blocks = at.at, w.pieces = pieces_of(&w.l, batch, threads), w.group = (batch - 1) / w.pieces + 1;
    w.bytes = thread_bytes(n, &w.l, w.group), w.workspace = whole_pages((uintptr_t)workspace);
    share_out(threads, w.pieces, predict_pieces, &w);
}
