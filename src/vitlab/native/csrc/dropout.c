// A random mask for dropout: torch draws its own from a generator that gives one number after the other.

#include "random.h"

#include <omp.h>

#define API __attribute__((visibility("default")))

typedef uint16_t words16 __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(2), may_alias));

// mask [32 chunks]: 0 with probability ``rate``, else 1.
API void vitlab_dropout_mask(uint16_t *mask, ptrdiff_t chunks, double rate, unsigned seed, int threads) {
    const drops d = open_drops(rate, seed, 0, 0, 0);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (ptrdiff_t chunk = 0; chunk < chunks; chunk++) {
        const words drawn = draw_words(&d, chunk * LANES);
        const words lower = (words)((drawn & 0xffff) >= d.threshold) & 1;
        const words upper = (words)((drawn >> 16) >= d.threshold) & 1;
        *(words16 *)(mask + 2 * LANES * chunk) = __builtin_convertvector(lower, words16);
        *(words16 *)(mask + 2 * LANES * chunk + LANES) = __builtin_convertvector(upper, words16);
    }
}
