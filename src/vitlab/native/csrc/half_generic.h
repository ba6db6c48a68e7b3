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

static void column_pairs(pair *to, ptrdiff_t to_width, const pair *from, ptrdiff_t width, int row_pairs, int count) {
    for (int row = 0; row < to_width / 2; row++) {
        for (int i = 0; i < count; i++) {
            const pair *at = from + row * width + 2 * i;
            pair *out = to + i * to_width + 2 * row;
            out[0] = row < row_pairs ? (pair){at[0].first, at[1].first} : (pair){0};
            out[1] = row < row_pairs ? (pair){at[0].second, at[1].second} : (pair){0};
        }
    }
}

static void drop_seconds(pair *pairs, int count) {
    for (int i = 0; i < count; i++) pairs[i].second = 0;
}

#endif
