// Shares the work of one call among threads that sleep when there is none; and how a batch is cut for that.
//
// Work comes in pieces, more of them than threads, and a thread that has finished a piece takes the next one. So a
// thread that has lost its core to another program delays the others by no more than its piece. What a piece computes
// must not depend on who computes it: sums over a batch are kept for each piece (sums.h). Then the result depends on
// the pieces alone, which depend on the ``threads`` that were asked for, not on those that came.

#ifndef VITLAB_POOL_H
#define VITLAB_POOL_H

#include <stddef.h>

typedef struct job job;

// What one thread does in a call: prepare its memory, then take pieces until none are left. ``thread`` numbers those
// that take part from 0 to threads - 1; each number occurs at most once.
typedef void member(void *context, int thread, job *pieces);

// The next piece from 0 on, each handed out once; -1 when there are no more.
ptrdiff_t next_piece(job *pieces);

// Lets up to ``threads`` threads, of which the caller is one, do ``pieces`` pieces; returns when all are done.
void share_out(int threads, ptrdiff_t pieces, member *work, void *context);

typedef struct {
    ptrdiff_t first, end;
} range;

// Sums of this size or less are cheap enough for PARTS of them for each thread.
enum { PARTS = 3, CHEAP = 1 << 20 };

// Into how many parts each thread's share of a batch is cut, if every part has ``bytes`` of sums.
static inline int parts_of(int threads, size_t bytes) { return threads == 1 ? 1 : bytes <= CHEAP ? PARTS : PARTS - 1; }

// Items [first, end) of a piece, maybe none. All threads have equal shares; each is cut into ``parts``, every one of them
// two thirds of what is left, and the large ones are handed out first. Cuts are at multiples of ``step``.
static inline range range_of(ptrdiff_t items, int threads, int parts, ptrdiff_t step, ptrdiff_t piece) {
    const ptrdiff_t owner = piece % threads, part = piece / threads;
    range r = {items * owner / threads, items * (owner + 1) / threads};
    for (ptrdiff_t i = 0; i <= part && i + 1 < parts; i++) {
        const ptrdiff_t cut = r.first + (r.end - r.first) * 2 / 3 / step * step;
        if (i == part) return (range){r.first, cut};
        r.first = cut;
    }
    return r;
}

#endif
