// The whole stack of transformer blocks, forward and backward, in one call each.
//
// A small ViT on a CPU loses most of its time between matrix products: each of torch's hundreds of small operations
// passes all images through memory. Here a thread takes an image (backward: a few) through all blocks while it is in
// its nearest cache. Images are dealt to threads in fixed pieces (pool.h), and the gradients of the pieces are added in a
// fixed order, so that the result is the same, bit for bit, whenever the number of threads is.
//
// Files: vec.h functions of LANES numbers; random.h dropout; half_*.h storage and layouts; gemm_*.h and product.h the
// innermost products (gemm_amx.h, gradient_amx.h: on tiles); gelu_*.h one activation; plan.h sizes and memory; rows.h,
// elementwise.h what happens between products; weights.h packing; forward.h, backward.h the passes. What ends in
// _bf16.h needs AVX512-BF16, its _plain.h twin computes in full precision on any processor, _pairs.h is for tests.

#include "vec.h"
#if defined VITLAB_BF16
#include "gemm_bf16.h"
#include "gelu_bf16.h"
#elif defined VITLAB_PAIRS
#include "gemm_pairs.h"
#include "gelu_plain.h"
#else
#include "gemm_plain.h"
#include "gelu_plain.h"
#endif
#include "plan.h"
#include "rows.h"
#include "elementwise.h"
#include "weights.h"
#include "forward.h"
#include "backward.h"
#include "pool.h"
#include "sums.h"

#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define API __attribute__((visibility("default")))

// Multiply by AMX tiles where the processor has them, or by vectors; returns whether by tiles. For tests.
API int vitlab_use_tiles(int wanted) { return use_tiles(wanted); }

// How many numbers a vector holds: columns are padded to multiples of it. For tests.
API int vitlab_lanes(void) { return LANES; }

typedef struct {
    packed *weights;     // of each block
    uintptr_t sums;      // where the pieces' sums of gradients begin, [depth] for each; all of one size
    uintptr_t threads;   // where the threads' own memory begins
    size_t sum_bytes, thread_bytes;
    ptrdiff_t pieces;    // of the batch
    int parts;           // of a thread's share, see pool.h
} shared_memory;

// Each thread's part: its scratch, then (inference) one slot of kept.
typedef struct {
    scratch own;
    kept slot;
} thread_memory;

static void take_sums(arena *memory, const plan *p, gradients *sums) {
    for (int block = 0; block < p->s.depth; block++) {
        gradients g = take_gradients(memory, p);
        if (sums) sums[block] = g;
    }
}

static thread_memory take_thread(arena *memory, const plan *p) {
    thread_memory t = {.own = take_scratch(memory, p)};
    t.slot = take_kept(memory, p, 1);
    return t;
}

static uintptr_t whole_pages(uintptr_t bytes) { return (bytes + 4095) / 4096 * 4096; }

static shared_memory take_shared(arena *memory, const plan *p, int measure) {
    shared_memory m = {.weights = take(memory, p->s.depth, sizeof(packed))};
    for (int block = 0; block < p->s.depth; block++) {
        packed w = take_packed(memory, p);
        if (!measure) m.weights[block] = w;
    }
    arena sums = {0}, thread = {0};
    take_sums(&sums, p, NULL);
    take_thread(&thread, p);
    m.sum_bytes = whole_pages(sums.at), m.thread_bytes = whole_pages(thread.at);
    m.parts = parts_of(p->s.threads, m.sum_bytes), m.pieces = (ptrdiff_t)m.parts * p->s.threads;
    m.sums = whole_pages(memory->at), m.threads = m.sums + (size_t)m.pieces * m.sum_bytes;
    memory->at = m.threads + (size_t)p->s.threads * m.thread_bytes;
    return m;
}

static thread_memory thread_at(const shared_memory *m, const plan *p, int thread) {
    arena memory = {m->threads + (size_t)thread * m->thread_bytes};
    return take_thread(&memory, p);
}

// Bytes of ``saved`` for a forward pass whose backward pass will follow.
API size_t vitlab_saved_bytes(const vitlab_shape *shape) {
    const plan p = make_plan(shape);
    arena memory = {0};
    take_kept(&memory, &p, (ptrdiff_t)p.s.depth * p.s.batch);
    return memory.at + 64;
}

// Bytes of ``workspace``; its contents need not survive between calls.
API size_t vitlab_workspace_bytes(const vitlab_shape *shape) {
    const plan p = make_plan(shape);
    arena memory = {0};
    take_shared(&memory, &p, 1);
    return memory.at + 4096;  // the threads' parts begin at pages
}

// Asks for large pages: what is saved passes through memory once a call, and each small page of it costs a fault when
// it is new and a look-up whenever it is used.
static void prefer_large_pages(void *memory, size_t bytes) {
#if defined __linux__ && defined MADV_HUGEPAGE
    const uintptr_t page = 2 << 20, first = ((uintptr_t)memory + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)memory + bytes) / page * page;
    if (end > first) madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

// All that a call works on; what one of the passes lacks is NULL.
typedef struct {
    plan p;
    shared_memory m;
    kept all;
    const real *const *weights;
    int backward, keeps;
    const real *from;  // x, or dy
    real *to;          // y, or dx
    real *const *grads;
} work;

static work open_work(const vitlab_shape *shape, const real *const *weights, uintptr_t saved, void *workspace) {
    work w = {.p = make_plan(shape), .weights = weights, .keeps = saved != 0};
    arena memory = {(uintptr_t)workspace}, behind = {saved};
    w.m = take_shared(&memory, &w.p, 0);
    w.all = take_kept(&behind, &w.p, (ptrdiff_t)w.p.s.depth * w.p.s.batch);
    return w;
}

static range images_of(const work *w, ptrdiff_t piece) {
    return range_of(w->p.s.batch, w->p.s.threads, w->m.parts, w->p.group, piece);
}

static void pack_blocks(void *context, int thread, job *pieces) {
    const work *w = context;
    pair *scratch = (pair *)(w->m.sums + (size_t)thread * w->m.sum_bytes);  // free until all are packed
    for (ptrdiff_t block; (block = next_piece(pieces)) >= 0;) {
        pack_block(&w->p, w->m.weights + block, w->weights + block * WEIGHTS, scratch, w->backward);
    }
}

static void forward_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    const plan *p = &w->p;
    thread_memory t = thread_at(&w->m, p, thread);
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const range images = images_of(w, piece);
        for (ptrdiff_t image = images.first; image < images.end; image++) {
            forward_image(p, &t.own, w->m.weights, w->keeps ? &w->all : &t.slot, image, w->keeps ? image : 0,
                          w->keeps ? p->s.batch : 0, w->from, w->to);
        }
    }
    close_tiles();
}

// y [batch][tokens][dim] from x; ``saved`` NULL: nothing is kept.
API void vitlab_forward(const vitlab_shape *shape, const real *const *weights, const real *x, real *y, void *saved,
                        void *workspace) {
    work w = open_work(shape, weights, (uintptr_t)saved, workspace);
    w.from = x, w.to = y;
    if (saved) prefer_large_pages(saved, vitlab_saved_bytes(shape));
    share_out(shape->threads, shape->depth, pack_blocks, &w);
    share_out(shape->threads, w.m.pieces, forward_pieces, &w);
}

static void backward_pieces(void *context, int thread, job *pieces) {
    const work *w = context;
    const plan *p = &w->p;
    thread_memory t = thread_at(&w->m, p, thread);
    gradients sums[p->s.depth];
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) {
        const range images = images_of(w, piece);
        arena memory = {w->m.sums + (size_t)piece * w->m.sum_bytes};
        memset((void *)memory.at, 0, w->m.sum_bytes);
        take_sums(&memory, p, sums);
        for (ptrdiff_t image = images.first; image < images.end; image += p->group) {
            const int count = images.end - image < p->group ? (int)(images.end - image) : p->group;
            backward_group(p, &t.own, w->m.weights, &w->all, image, count, sums, w->from, w->to);
        }
    }
    close_tiles();
}

// From the sums of the first piece, to which all others have been added, to the gradients of one block's weights.
static void unfold_blocks(void *context, int thread, job *pieces) {
    (void)thread;
    const work *w = context;
    gradients sums[w->p.s.depth];
    take_sums(&(arena){w->m.sums}, &w->p, sums);
    for (ptrdiff_t block; (block = next_piece(pieces)) >= 0;) {
        unfold_block(&w->p, sums + block, w->weights + block * WEIGHTS, w->grads + block * WEIGHTS);
    }
}

// dx [batch][tokens][dim] and the gradients of all weights from dy and what vitlab_forward saved.
API void vitlab_backward(const vitlab_shape *shape, const real *const *weights, const real *dy, const void *saved,
                         real *dx, real *const *grads, void *workspace) {
    work w = open_work(shape, weights, (uintptr_t)saved, workspace);
    w.backward = 1, w.from = dy, w.to = dx, w.grads = grads;
    share_out(shape->threads, shape->depth, pack_blocks, &w);
    share_out(shape->threads, w.m.pieces, backward_pieces, &w);
    const ptrdiff_t reals = (ptrdiff_t)(w.m.sum_bytes / sizeof(real));
    add_sums(shape->threads, (sums){(real *)w.m.sums, reals, reals, w.m.pieces});
    share_out(shape->threads, shape->depth, unfold_blocks, &w);
}
