// A random mask for dropout: torch draws its own from a generator that gives one number after the other.

#include "random.h"

#include <omp.h>

#define API __attribute__((visibility("default")))

typedef uint16_t words16 __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(2), may_alias));

enum { CHUNK = 32 };  // numbers that 16 words decide on

// mask [32 chunks]: 0 with probability ``rate``, else 1.
API void vitlab_dropout_mask(uint16_t *mask, ptrdiff_t chunks, double rate, unsigned seed, int threads) {
    const drops d = open_drops(rate, seed, 0, 0, 0);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) {
        for (int i = 0; i < CHUNK / 2; i += LANES) {
            const words drawn = draw_words(&d, chunk * (CHUNK / 2) + i);
            const words lower = (words)((drawn & 0xffff) >= d.threshold) & 1;
            const words upper = (words)((drawn >> 16) >= d.threshold) & 1;
            *(words16 *)(mask + CHUNK * chunk + i) = __builtin_convertvector(lower, words16);
            *(words16 *)(mask + CHUNK * chunk + CHUNK / 2 + i) = __builtin_convertvector(upper, words16);
        }
    }
}
