// Sums over a batch, of which each piece of it has made its own, one behind the other in memory.

#ifndef VITLAB_SUMS_H
#define VITLAB_SUMS_H

#include "pool.h"
#include "vec.h"

enum { SUMS_AT_ONCE = 4096 };  // of which a part stays in the nearest cache

// The first of ``count`` numbers in the sums of piece 0; ``stride`` numbers farther are those of piece 1.
typedef struct {
    real *first;
    ptrdiff_t count, stride, pieces;
} sums;

static void add_some(void *context, int thread, job *pieces) {
    (void)thread;
    const sums *s = context;
    for (ptrdiff_t at; (at = next_piece(pieces) * SUMS_AT_ONCE) >= 0;) {
        const ptrdiff_t count = s->count - at < SUMS_AT_ONCE ? s->count - at : SUMS_AT_ONCE;
        real *to = s->first + at;
        for (ptrdiff_t piece = 1; piece < s->pieces; piece++) {
            const real *from = to + piece * s->stride;
            for (ptrdiff_t i = 0; i < count; i++) to[i] += from[i];
        }
    }
}

// Adds the sums of all pieces to those of the first, in order.
static void add_sums(int threads, sums s) {
    if (s.pieces > 1) share_out(threads, (s.count + SUMS_AT_ONCE - 1) / SUMS_AT_ONCE, add_some, &s);
}

#endif
