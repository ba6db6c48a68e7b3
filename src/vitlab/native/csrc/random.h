// Dropout (Srivastava et al. 2014) without memory: which numbers are dropped is a hash of the call's seed and of where
// they stand (as in Salmon et al. 2011), so that the backward pass finds the same ones again, whatever the threads.

#ifndef VITLAB_RANDOM_H
#define VITLAB_RANDOM_H

#include "vec.h"

typedef uint32_t words __attribute__((vector_size(LANES * sizeof(uint32_t))));
#if WITH_AVX512 || defined VITLAB_PAIRS
#define FIRST_WORDS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#else
#define FIRST_WORDS 0, 1, 2, 3, 4, 5, 6, 7
#endif

// What is dropped at one place of the network for one image. Numbers below ``threshold`` of 65536 are; 0: none.
typedef struct {
    uint32_t offset, stride, threshold;
    real scale;  // of what is kept
} drops;

enum { DROP_WEIGHTS, DROP_HIDDEN, DROP_OUTPUT, DROP_PLACES };

// The finaliser "lowbias32" of Wellons' hash prospector: each bit of the result depends on each of x.
#define MIX(TYPE, NAME)      \
    INLINE TYPE NAME(TYPE x) { \
        x ^= x >> 16;        \
        x *= 0x7feb352dU;    \
        x ^= x >> 15;        \
        x *= 0x846ca68bU;    \
        return x ^ x >> 16;  \
    }
MIX(uint32_t, mix_one)
MIX(words, mix_all)

static drops open_drops(double rate, uint32_t seed, int block, int place, ptrdiff_t image) {
    drops d = {.threshold = (uint32_t)(rate * 65536 + 0.5), .scale = (real)(1 / (1 - rate))};
    d.offset = mix_one(mix_one(seed + 0x9e3779b9U * (uint32_t)(DROP_PLACES * block + place + 1)) + (uint32_t)image);
    d.stride = mix_one(d.offset ^ 0x85ebca6bU) | 1;
    return d;
}

// Words ``at`` and those behind it, a vector of them; each decides on two numbers, by its halves.
INLINE words draw_words(const drops *d, ptrdiff_t at) {
    const words lanes = {FIRST_WORDS};
    return mix_all((lanes + (uint32_t)at) * d->stride + d->offset);
}

// Drops from pair ``at`` and those behind it, a vector of them: the lower half of a word decides on the first row, the upper half on
// the second.
INLINE void drop_pairs(const drops *d, ptrdiff_t at, vec *first, vec *second) {
    const words drawn = draw_words(d, at);
    *first = keep(*first * d->scale, __builtin_convertvector((drawn & 0xffff) >= d->threshold, bits));
    *second = keep(*second * d->scale, __builtin_convertvector((drawn >> 16) >= d->threshold, bits));
}

#endif
