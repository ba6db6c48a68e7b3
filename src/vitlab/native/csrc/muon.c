// One step of the Muon optimizer (Jordan et al. 2024) for many small matrices, in float32.
//
// A round of Newton-Schulz is three products of matrices of 48 x 48 or so: as torch operations they cost more to start
// than to compute. Here a matrix is one thread's work from its gradient to its new weights, in its nearest cache; the
// result does not depend on the number of threads.
//
// Matrices are padded with zeros to multiples of 16, which all rounds leave zero.

#include "pool.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

// Sums of a tile stay in registers: 32 of them, or 16 with AVX2.
#if defined __AVX512F__
enum { LANES = 16, TILE_ROWS = 8, TILE_VECS = 3 };
#elif defined __AVX__
enum { LANES = 8, TILE_ROWS = 4, TILE_VECS = 3 };
#else
enum { LANES = 4, TILE_ROWS = 8, TILE_VECS = 3 };
#endif
enum { MULTIPLE = 16 };
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct {
    int rows, columns;  // of the weights; the rounds work on the matrix lying down
    float *weight, *momentum;
    const float *grad;
    float step;         // learning rate times sqrt(rows / columns) for a tall matrix
} vitlab_matrix;

typedef struct {
    float memory, shrink;  // of the momentum; 1 - rate x decay
    float a, b, c;         // of the polynomial a x + b x^3 + c x^5
    int rounds, threads;
} vitlab_muon_settings;

INLINE int padded(int n) { return (n + MULTIPLE - 1) / MULTIPLE * MULTIPLE; }
INLINE int smaller(int a, int b) { return a < b ? a : b; }

// c = alpha a b + beta d for one tile of TILE_ROWS rows and ``vecs`` vectors.
INLINE void tile(int vecs, float *c, const float *a, const float *b, const float *d, int columns, int depth, float alpha,
                 float beta) {
    lanes sum[TILE_ROWS][TILE_VECS] = {0};
    for (int k = 0; k < depth; k++)
        for (int v = 0; v < vecs; v++) {
            const lanes right = *(const lanes *)(b + (ptrdiff_t)k * columns + v * LANES);
            for (int r = 0; r < TILE_ROWS; r++) sum[r][v] += a[(ptrdiff_t)r * depth + k] * right;
        }
    for (int r = 0; r < TILE_ROWS; r++)
        for (int v = 0; v < vecs; v++) {
            const ptrdiff_t at = (ptrdiff_t)r * columns + v * LANES;
            lanes value = alpha * sum[r][v];
            if (d) value += beta * *(const lanes *)(d + at);
            *(lanes *)(c + at) = value;
        }
}

// c [rows, columns] = alpha a [rows, depth] b [depth, columns] + beta d; all sizes multiples of 16.
static void multiply(float *c, const float *a, const float *b, const float *d, int rows, int columns, int depth,
                     float alpha, float beta) {
    for (int j = 0; j < columns; j += TILE_VECS * LANES)
        for (int i = 0; i < rows; i += TILE_ROWS) {
            const ptrdiff_t at = (ptrdiff_t)i * columns + j;
            const float *left = a + (ptrdiff_t)i * depth, *more = d ? d + at : NULL;
            switch (smaller((columns - j) / LANES, TILE_VECS)) {
            case 1: tile(1, c + at, left, b + j, more, columns, depth, alpha, beta); break;
            case 2: tile(2, c + at, left, b + j, more, columns, depth, alpha, beta); break;
            default: tile(3, c + at, left, b + j, more, columns, depth, alpha, beta);
            }
        }
}

static void transpose(float *to, const float *from, int rows, int columns) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) to[(ptrdiff_t)j * rows + i] = from[(ptrdiff_t)i * columns + j];
}

// The momentum with its gradient, looked ahead (Nesterov), lying down and of length 1; into x [rows, columns].
static void direction(const vitlab_matrix *m, const vitlab_muon_settings *s, float *x, int columns) {
    const int tall = m->rows > m->columns;
    float squares = 0;
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->columns; j++) {
            const ptrdiff_t at = (ptrdiff_t)i * m->columns + j;
            const float g = m->grad[at], kept = m->momentum[at] += (g - m->momentum[at]) * (1 - s->memory);
            const float ahead = g + (kept - g) * s->memory;
            x[tall ? (ptrdiff_t)j * columns + i : (ptrdiff_t)i * columns + j] = ahead;
            squares += ahead * ahead;
        }
    const float length = sqrtf(squares) + 1e-7f;
    for (int i = 0; i < smaller(m->rows, m->columns); i++)
        for (int j = 0; j < columns; j++) x[(ptrdiff_t)i * columns + j] /= length;
}

static size_t floats_for(int short_side, int long_side) {
    return 3 * (size_t)short_side * long_side + 2 * (size_t)short_side * short_side;
}

static void step(const vitlab_matrix *m, const vitlab_muon_settings *s, float *memory) {
    const int tall = m->rows > m->columns;
    const int rows = padded(smaller(m->rows, m->columns)), columns = padded(tall ? m->rows : m->columns);
    const size_t size = (size_t)rows * columns;
    float *x = memory, *next = x + size, *turned = next + size, *gram = turned + size, *poly = gram + rows * rows;
    memset(x, 0, size * sizeof *x);
    direction(m, s, x, columns);
    for (int round = 0; round < s->rounds; round++) {
        transpose(turned, x, rows, columns);
        multiply(gram, x, turned, NULL, rows, rows, columns, 1, 0);
        multiply(poly, gram, gram, gram, rows, rows, rows, s->c, s->b);
        multiply(next, poly, x, x, rows, columns, rows, 1, s->a);
        float *swap = x;
        x = next;
        next = swap;
    }
    for (int i = 0; i < m->rows; i++)
        for (int j = 0; j < m->columns; j++) {
            float *w = m->weight + (ptrdiff_t)i * m->columns + j;
            *w = *w * s->shrink - m->step * x[tall ? (ptrdiff_t)j * columns + i : (ptrdiff_t)i * columns + j];
        }
}

// Floats of workspace for each thread.
API size_t vitlab_muon_floats(const vitlab_matrix *matrices, int count) {
    size_t most = 0;
    for (int i = 0; i < count; i++) {
        const int rows = padded(matrices[i].rows), columns = padded(matrices[i].columns);
        const size_t size = floats_for(smaller(rows, columns), rows < columns ? columns : rows);
        most = size > most ? size : most;
    }
    return most;
}

typedef struct {
    const vitlab_matrix *matrices;
    const vitlab_muon_settings *settings;
    float *workspace;
    size_t each;
} work;

static void take_steps(void *context, int thread, job *pieces) {
    const work *w = context;
    float *memory = w->workspace + w->each * (size_t)thread;
    for (ptrdiff_t i; (i = next_piece(pieces)) >= 0;) step(&w->matrices[i], w->settings, memory);
}

API void vitlab_muon(const vitlab_matrix *matrices, int count, const vitlab_muon_settings *settings, float *workspace) {
    work w = {matrices, settings, workspace, vitlab_muon_floats(matrices, count)};
    share_out(settings->threads, count, take_steps, &w);
}
