// The whole stack of transformer blocks, forward and backward, in one call each.
//
// A small ViT on a CPU loses most of its time between matrix products: each of torch's hundreds of small operations
// passes all images through memory. Here a thread takes an image (backward: a few) through all blocks while it is in
// its nearest cache. Images are dealt to threads in fixed ranges and gradients added in a fixed order, so that the
// result is the same, bit for bit, whenever the number of threads is.
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

#include <omp.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define API __attribute__((visibility("default")))

// Multiply by AMX tiles where the processor has them, or by vectors; returns whether by tiles. For tests.
API int vitlab_use_tiles(int wanted) { return use_tiles(wanted); }

// How many numbers a vector holds: columns are padded to multiples of it. For tests.
API int vitlab_lanes(void) { return LANES; }

// How many threads a team has for which ``threads`` were asked. From here on, the runtime does not shrink teams of the
// calling thread when the machine is busy.
API int vitlab_team(int threads) {
    int found = 1;
    omp_set_dynamic(0);
#pragma omp parallel num_threads(threads)
#pragma omp master
    found = omp_get_num_threads();
    return found;
}

typedef struct {
    packed *weights;                // of each block
    uintptr_t threads;              // where the threads' own memory begins
    size_t bytes;                   // of one thread
} shared_memory;

// Each thread's part: the sums of gradients [depth] first, then its scratch, then (inference) one slot of kept.
typedef struct {
    gradients *sums;
    scratch own;
    kept slot;
    char *first_sum, *end_of_sums;
} thread_memory;

static thread_memory take_thread(arena *memory, const plan *p, gradients *sums) {
    thread_memory t = {.sums = sums};
    take(memory, 0, 1);
    t.first_sum = (char *)memory->at;
    for (int block = 0; block < p->s.depth; block++) {
        gradients g = take_gradients(memory, p);
        if (sums) sums[block] = g;
    }
    t.end_of_sums = (char *)memory->at;
    t.own = take_scratch(memory, p);
    t.slot = take_kept(memory, p, 1);
    return t;
}

static size_t thread_bytes(const plan *p) {
    arena memory = {0};
    take(&memory, p->s.depth, sizeof(gradients));
    take_thread(&memory, p, NULL);
    return (memory.at + 4095) / 4096 * 4096;
}

static shared_memory take_shared(arena *memory, const plan *p, int measure) {
    shared_memory m = {.weights = take(memory, p->s.depth, sizeof(packed)), .bytes = thread_bytes(p)};
    for (int block = 0; block < p->s.depth; block++) {
        packed w = take_packed(memory, p);
        if (!measure) m.weights[block] = w;
    }
    m.threads = (memory->at + 4095) / 4096 * 4096;
    memory->at = m.threads + (size_t)p->s.threads * m.bytes;
    return m;
}

static thread_memory thread_at(const shared_memory *m, const plan *p, int thread) {
    arena memory = {m->threads + (size_t)thread * m->bytes};
    gradients *sums = take(&memory, p->s.depth, sizeof(gradients));
    return take_thread(&memory, p, sums);
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

// y [batch][tokens][dim] from x; ``saved`` NULL: nothing is kept.
API void vitlab_forward(const vitlab_shape *shape, const real *const *weights, const real *x, real *y, void *saved,
                        void *workspace) {
    const plan p = make_plan(shape);
    arena memory = {(uintptr_t)workspace}, behind = {(uintptr_t)saved};
    const shared_memory m = take_shared(&memory, &p, 0);
    const kept all = take_kept(&behind, &p, (ptrdiff_t)p.s.depth * p.s.batch);
    if (saved) prefer_large_pages(saved, behind.at - (uintptr_t)saved);
#pragma omp parallel num_threads(shape->threads)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        thread_memory t = thread_at(&m, &p, thread);
        for (int block = thread; block < shape->depth; block += threads) {
            pack_block(&p, m.weights + block, weights + block * WEIGHTS, (pair *)t.first_sum, 0);
        }
#pragma omp barrier
        const ptrdiff_t first = (ptrdiff_t)p.s.batch * thread / threads;
        const ptrdiff_t end = (ptrdiff_t)p.s.batch * (thread + 1) / threads;
        for (ptrdiff_t image = first; image < end; image++) {
            forward_image(&p, &t.own, m.weights, saved ? &all : &t.slot, image, saved ? image : 0,
                          saved ? p.s.batch : 0, x, y);
        }
        close_tiles();
    }
}

// The sums of all threads into the first one's, then the gradients of one block's weights.
static void finish_block(const plan *p, const shared_memory *m, int threads, int block, const real *const *weights,
                         real *const *grads) {
    const thread_memory t = thread_at(m, p, 0);
    arena memory = {0};
    take_gradients(&memory, p);
    const ptrdiff_t count = (ptrdiff_t)(memory.at / sizeof(real));
    real *sum = (real *)(p->s.attention ? t.sums[block].mix.weight : t.sums[block].fc1.weight);
    for (int thread = 1; thread < threads; thread++) {
        const real *other = (const real *)((const char *)sum + (size_t)thread * m->bytes);
        for (ptrdiff_t i = 0; i < count; i++) sum[i] += other[i];
    }
    unfold_block(p, t.sums + block, weights + block * WEIGHTS, grads + block * WEIGHTS);
}

// dx [batch][tokens][dim] and the gradients of all weights from dy and what vitlab_forward saved.
API void vitlab_backward(const vitlab_shape *shape, const real *const *weights, const real *dy, const void *saved,
                         real *dx, real *const *grads, void *workspace) {
    const plan p = make_plan(shape);
    arena memory = {(uintptr_t)workspace}, behind = {(uintptr_t)saved};
    const shared_memory m = take_shared(&memory, &p, 0);
    const kept all = take_kept(&behind, &p, (ptrdiff_t)p.s.depth * p.s.batch);
#pragma omp parallel num_threads(shape->threads)
    {
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
        thread_memory t = thread_at(&m, &p, thread);
        memset(t.first_sum, 0, (size_t)(t.end_of_sums - t.first_sum));
        for (int block = thread; block < shape->depth; block += threads) {
            pack_block(&p, m.weights + block, weights + block * WEIGHTS, NULL, 1);
        }
#pragma omp barrier
        const ptrdiff_t first = (ptrdiff_t)p.s.batch * thread / threads;
        const ptrdiff_t end = (ptrdiff_t)p.s.batch * (thread + 1) / threads;
        for (ptrdiff_t image = first; image < end; image += p.group) {
            const int images = end - image < p.group ? (int)(end - image) : p.group;
            backward_group(&p, &t.own, m.weights, &all, image, images, t.sums, dy, dx);
        }
        close_tiles();
#pragma omp barrier
        for (int block = thread; block < shape->depth; block += threads) {
            finish_block(&p, &m, threads, block, weights, grads);
        }
    }
}
