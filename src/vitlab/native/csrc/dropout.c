// A random mask for dropout: torch draws its own from a generator that gives one number after the other.

#include "pool.h"
#include "random.h"

#define API __attribute__((visibility("default")))

typedef uint16_t words16 __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(2), may_alias));

enum { CHUNK = 32, CHUNKS_AT_ONCE = 512 };  // numbers that 16 words decide on; chunks in a piece

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
            for (int i = 0; i < CHUNK / 2; i += LANES) {
                const words drawn = draw_words(&w->dropped, chunk * (CHUNK / 2) + i);
                const words lower = (words)((drawn & 0xffff) >= w->dropped.threshold) & 1;
                const words upper = (words)((drawn >> 16) >= w->dropped.threshold) & 1;
                *(words16 *)(w->mask + CHUNK * chunk + i) = __builtin_convertvector(lower, words16);
                *(words16 *)(w->mask + CHUNK * chunk + CHUNK / 2 + i) = __builtin_convertvector(upper, words16);
            }
        }
    }
}

// mask [32 chunks]: 0 with probability ``rate``, else 1.
API void vitlab_dropout_mask(uint16_t *mask, ptrdiff_t chunks, double rate, unsigned seed, int threads) {
    work w = {mask, chunks, open_drops(rate, seed, 0, 0, 0)};
    share_out(threads, (chunks + CHUNKS_AT_ONCE - 1) / CHUNKS_AT_ONCE, draw_pieces, &w);
}
