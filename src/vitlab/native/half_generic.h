// The same storage and layouts as half_bf16.h with numbers of full width, in plain C: see there for what they are.

#ifndef VITLAB_HALF_H
#define VITLAB_HALF_H

#include "vec.h"

typedef real half;
typedef struct {
    real first, second;
} pair;

typedef struct {
    vec first, second;
} two_rows;

INLINE half to_half(real x) { return x; }

INLINE two_rows get_pairs(const pair *from) {
    two_rows x;
    for (int i = 0; i < LANES; i++) x.first[i] = from[i].first, x.second[i] = from[i].second;
    return x;
}

INLINE void put_pairs(pair *to, vec first, vec second) {
    for (int i = 0; i < LANES; i++) to[i] = (pair){first[i], second[i]};
}

INLINE void put_rows(half *rows, ptrdiff_t width, vec first, vec second) {
    store(rows, first);
    store(rows + width, second);
}

INLINE void put_both(half *rows, ptrdiff_t width, pair *pairs, vec first, vec second) {
    put_rows(rows, width, first, second);
    put_pairs(pairs, first, second);
}

static void rows_from_pairs(half *to, const pair *from, ptrdiff_t width, int rows, int columns) {
    for (int row = 0; row < rows; row += 2) {
        for (int i = 0; i < columns; i += LANES) {
            two_rows x = get_pairs(from + row / 2 * width + i);
            put_rows(to + row * width + i, width, x.first, x.second);
        }
    }
}

static void column_pairs(pair *to, ptrdiff_t to_width, const half *from, ptrdiff_t width, int rows, int count) {
    for (int row = 0; row < rows; row++) {
        const half *at = from + row * width;
        for (int i = 0; i < count; i++) to[i * to_width + row] = (pair){at[2 * i], at[2 * i + 1]};
    }
}

static void drop_seconds(pair *pairs, int count) {
    for (int i = 0; i < count; i++) pairs[i].second = 0;
}

#endif
