// Storage of numbers in full width, without pairs: all three layouts of half_bf16.h are plain rows here, so that a tile
// is stored once, and what would be its row-major copy there is not needed.

#ifndef VITLAB_HALF_H
#define VITLAB_HALF_H

#include "vec.h"

typedef real half;
typedef real pair;
enum { PAIR = 1 };

typedef struct {
    vec first, second;
} two_rows;

INLINE two_rows get_pairs(const pair *from, ptrdiff_t width) { return (two_rows){load(from), load(from + width)}; }

INLINE void put_pairs(pair *to, ptrdiff_t width, vec first, vec second) {
    store(to, first);
    store(to + width, second);
}

INLINE void put_rows(half *rows, ptrdiff_t width, vec first, vec second) { put_pairs(rows, width, first, second); }

INLINE void put_both(half *rows, ptrdiff_t row_width, pair *pairs, ptrdiff_t width, vec first, vec second) {
    (void)rows, (void)row_width;
    put_pairs(pairs, width, first, second);
}

// Rows [rows][width] to their transpose [count][to_width]. Rows that fill up to_width become zeros. Reads up to three
// numbers, and writes up to three rows, more than ``count``.
static void column_pairs(pair *to, ptrdiff_t to_width, const pair *from, ptrdiff_t width, int rows, int count) {
    for (int row = 0; row < to_width; row += 4) {
        for (int i = 0; i < count; i += 4) {
            quad x[4];
            UNROLL for (int r = 0; r < 4; r++) {
                x[r] = row + r < rows ? *(const quad *)(from + (row + r) * width + i) : (quad){0};
            }
            turn_quads(x);
            UNROLL for (int r = 0; r < 4; r++) *(quad *)(to + (i + r) * to_width + row) = x[r];
        }
    }
}

// No pair has a second half.
INLINE void drop_seconds(pair *pairs, int count) { (void)pairs, (void)count; }

#endif
