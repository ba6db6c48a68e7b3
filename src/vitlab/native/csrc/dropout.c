// A random mask for dropout: torch draws its own from a generator that gives one number after the other.

#include "pool.h"
#include "random.h"

#define API __attribute__((visibility("default")))

typedef uint16_t words16 __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(2), may_alias));

enum { CHUNKS_AT_ONCE = 512 };

typedef struct {
    uint16_t *mask;
    ptrdiff_t chunks;
    drops dropped;
} work;

static void draw_pieces(void *context, int thread, job *pieces) {
    (void)thread;
    const work *w = context;
    for (ptrdiff_t chunk; (chunk = next_piece(pieces) * CHUNKS_AT_ONCE) >= 0;) {
        const ptrdiff_t end = chunk + CHUNKS_AT_ONCE < w->chunks ? chunk + CHUNKS_AT_ONCE : w->chunks;
        for (; chunk < end; chunk++) {
            const words drawn = draw_words(&w->dropped, chunk * LANES);
            const words lower = (words)((drawn & 0xffff) >= w->dropped.threshold) & 1;
            const words upper = (words)((drawn >> 16) >= w->dropped.threshold) & 1;
            uint16_t *to = w->mask + 2 * LANES * chunk;
            *(words16 *)to = __builtin_convertvector(lower, words16);
            *(words16 *)(to + LANES) = __builtin_convertvector(upper, words16);
        }
    }
}

// mask [32 chunks]: 0 with probability ``rate``, else 1.
API void vitlab_dropout_mask(uint16_t *mask, ptrdiff_t chunks, double rate, unsigned seed, int threads) {
    work w = {mask, chunks, open_drops(rate, seed, 0, 0, 0)};
    share_out(threads, (chunks + CHUNKS_AT_ONCE - 1) / CHUNKS_AT_ONCE, draw_pieces, &w);
}
