// The layouts of half_bf16.h with numbers of full width, in plain C: tests of those layouts use it on any processor.

#ifndef VITLAB_HALF_H
#define VITLAB_HALF_H

#include "vec.h"

typedef real half;
typedef struct {
    real first, second;
} pair;
enum { PAIR = 2 };

typedef struct {
    vec first, second;
} two_rows;

INLINE two_rows get_pairs(const pair *from, ptrdiff_t width) {
    (void)width;
    two_rows x;
    for (int i = 0; i < LANES; i++) x.first[i] = from[i].first, x.second[i] = from[i].second;
    return x;
}

INLINE void put_pairs(pair *to, ptrdiff_t width, vec first, vec second) {
    (void)width;
    for (int i = 0; i < LANES; i++) to[i] = (pair){first[i], second[i]};
}

INLINE void put_rows(half *rows, ptrdiff_t width, vec first, vec second) {
    store(rows, first);
    store(rows + width, second);
}

INLINE void put_both(half *rows, ptrdiff_t row_width, pair *pairs, ptrdiff_t width, vec first, vec second) {
    put_rows(rows, row_width, first, second);
    put_pairs(pairs, width, first, second);
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
