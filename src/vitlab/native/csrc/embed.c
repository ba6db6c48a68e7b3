// From images to tokens: patches are cut out, projected, and told their places, in one pass; and the gradients of that.
//
// As torch operations (cut, copy, convert, multiply, convert, add) this costs more to start than to compute, and the
// smallest networks lose a sixth of their time there. Products are in full precision: the patches are there only once
// for all blocks, and converting them would cost what it saves.
//
// Letters: N tokens, P numbers of a patch, D numbers of a token, a multiple of 16.

#include "patches.h"
#include "product.h"
#include "sums.h"

#include <string.h>

#define API __attribute__((visibility("default")))

enum { GROUP = 4, TURNED = 8 };  // images whose patches are multiplied at once; rows of the projection in a piece

// A thread's memory: an image with its border of zeros; a group's patches; what the tokens of a group begin with.
typedef struct {
    real *bordered, *patches, *places;
} thread_memory;

static ptrdiff_t thread_reals(const vitlab_patches *s) {
    const sizes z = sizes_of(s);
    return room(s->channels * z.border * z.border) + room(GROUP * z.tokens * z.length) + GROUP * z.tokens * z.dim;
}

// The gradients that a piece of the batch sums up: of the projection, transposed, and of all places.
static ptrdiff_t sums_reals(const sizes *z) { return (z->length + z->tokens) * z->dim; }

static int parts(const vitlab_patches *s, const sizes *z) {
    return parts_of(s->threads, (size_t)sums_reals(z) * sizeof(real));
}

// Ready for images: the border is zero.
static thread_memory memory_of(const vitlab_patches *s, real *workspace, int thread) {
    const sizes z = sizes_of(s);
    thread_memory m = {.bordered = workspace + z.length * z.dim + thread * thread_reals(s)};
    m.patches = m.bordered + room(s->channels * z.border * z.border);
    m.places = m.patches + room(GROUP * z.tokens * z.length);
    memset(m.bordered, 0, (size_t)(s->channels * z.border * z.border) * sizeof(real));
    return m;
}

// The pieces' sums, behind all threads' memory.
static real *sums_at(const vitlab_patches *s, const sizes *z, real *workspace) {
    return workspace + z->length * z->dim + s->threads * thread_reals(s);
}

// Bytes of ``workspace``: the projection, transposed, each thread's memory, and each piece's sums.
API size_t vitlab_embed_bytes(const vitlab_patches *s) {
    const sizes z = sizes_of(s);
    const ptrdiff_t pieces = (ptrdiff_t)s->threads * parts(s, &z);
    return (size_t)(z.length * z.dim + s->threads * thread_reals(s) + pieces * sums_reals(&z)) * sizeof(real);
}

// The patches of images [image, image + images), below each other.
static void cut_group(const vitlab_patches *s, const sizes *z, const real *images, ptrdiff_t image, ptrdiff_t count,
                      const thread_memory *m) {
    const ptrdiff_t pixels = (ptrdiff_t)s->channels * s->side * s->side;
    for (ptrdiff_t i = 0; i < count; i++)
        cut_patches(s, z, images + (image + i) * pixels, m->bordered, m->patches + i * z->tokens * z->length);
}

// c [rows][width] = start (NULL: zeros) + a b, all c, start and b [..][width]; element (r, k) of a is a[r * a_row +
// k * a_step].
static void multiply(real *c, const real *start, ptrdiff_t rows, ptrdiff_t width, const real *a, ptrdiff_t a_row,
                     ptrdiff_t a_step, const real *b, ptrdiff_t depth) {
    product(c, start, width, rows, width, a, a_row, a_step, b, width, depth);
}

typedef struct {
    const vitlab_patches *s;
    sizes z;
    int parts;
    const real *images, *projection, *bias, *places, *dx;
    real *x, *workspace;
} work;

static range images_of(const work *w, ptrdiff_t piece) {
    return range_of(w->s->batch, w->s->threads, w->parts, GROUP, piece);
}

static void turn_pieces(void *context, int thread, job *pieces) {
    (void)thread;
    const work *w = context;
    const sizes z = w->z;
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        for (ptrdiff_t p = piece * TURNED; p < (piece + 1) * TURNED && p < z.length; p++)
            for (ptrdiff_t i = 0; i < z.dim; i++) w->workspace[p * z.dim + i] = w->projection[i * z.length + p];
    }
}

static void embed_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    const sizes z = w->z;
    const thread_memory m = memory_of(w->s, w->workspace, thread);
    for (ptrdiff_t row = 0; row < GROUP * z.tokens; row++)
        for (ptrdiff_t i = 0; i < z.dim; i++)
            m.places[row * z.dim + i] = w->bias[i] + (w->places ? w->places[row % z.tokens * z.dim + i] : 0);
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const range r = images_of(w, piece);
        for (ptrdiff_t image = r.first; image < r.end; image += GROUP) {
            const ptrdiff_t count = r.end - image < GROUP ? r.end - image : GROUP;
            cut_group(w->s, &z, w->images, image, count, &m);
            multiply(w->x + image * z.tokens * z.dim, m.places, count * z.tokens, z.dim, m.patches, z.length, 1,
                     w->workspace, z.length);
        }
    }
}

// x [batch][N][D] = projection [D][P] times each patch, plus the bias [D], plus places [N][D] unless that is NULL.
API void vitlab_embed(const vitlab_patches *s, const real *images, const real *projection, const real *bias,
                      const real *places, real *x, real *workspace) {
    work w = {.s = s, .z = sizes_of(s), .images = images, .projection = projection, .bias = bias, .places = places};
    w.x = x, w.workspace = workspace, w.parts = parts(s, &w.z);
    share_out(s->threads, (w.z.length + TURNED - 1) / TURNED, turn_pieces, &w);
    share_out(s->threads, (ptrdiff_t)s->threads * w.parts, embed_pieces, &w);
}

static void gradient_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    const sizes z = w->z;
    const ptrdiff_t width = z.tokens * z.dim;
    const thread_memory m = memory_of(w->s, w->workspace, thread);
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const range r = images_of(w, piece);
        real *d_projection = sums_at(w->s, &z, w->workspace) + piece * sums_reals(&z);
        real *d_places = d_projection + z.length * z.dim;
        memset(d_projection, 0, (size_t)sums_reals(&z) * sizeof(real));
        for (ptrdiff_t image = r.first; image < r.end; image += GROUP) {
            const ptrdiff_t count = r.end - image < GROUP ? r.end - image : GROUP;
            const real *from = w->dx + image * width;
            cut_group(w->s, &z, w->images, image, count, &m);
            multiply(d_projection, d_projection, z.length, z.dim, m.patches, 1, z.length, from, count * z.tokens);
            for (ptrdiff_t i = 0; i < count * width; i += width)
                for (ptrdiff_t at = 0; at < width; at += LANES)
                    store(d_places + at, load(d_places + at) + load(from + i + at));
        }
    }
}

// Gradients of the projection, the bias, and (unless NULL) the places, from dx [batch][N][D].
API void vitlab_embed_gradients(const vitlab_patches *s, const real *images, const real *dx, real *d_projection,
                                real *d_bias, real *d_places, real *workspace) {
    work w = {.s = s, .z = sizes_of(s), .images = images, .dx = dx, .workspace = workspace};
    const sizes z = w.z;
    w.parts = parts(s, &z);
    const ptrdiff_t pieces = (ptrdiff_t)s->threads * w.parts;
    real *all = sums_at(s, &z, workspace);
    const real *all_places = all + z.length * z.dim;
    share_out(s->threads, pieces, gradient_pieces, &w);
    add_sums(s->threads, (sums){all, sums_reals(&z), sums_reals(&z), pieces});
    for (ptrdiff_t i = 0; i < z.dim; i++)
        for (ptrdiff_t p = 0; p < z.length; p++) d_projection[i * z.length + p] = all[p * z.dim + i];
    memset(d_bias, 0, (size_t)z.dim * sizeof(real));
    for (ptrdiff_t token = 0; token < z.tokens; token++)
        for (ptrdiff_t i = 0; i < z.dim; i++) d_bias[i] += all_places[token * z.dim + i];
    if (d_places) memcpy(d_places, all_places, (size_t)(z.tokens * z.dim) * sizeof(real));
}
