// The innermost product with AMX: sums of 16 x 16 numbers in tiles, on processors that have them.
//
// One instruction multiplies up to 16 rows by 16 pairs with 16 pairs by 16 columns, in as many cycles as the left
// factor has rows, but no fewer than 10; a tile is loaded in 8, if each of its rows lies in one cache line, else in
// several times as many. The right factor lies in memory just as a tile wants it, and so does a left one by rows; one
// by columns is transposed first, 16 x 16 pairs at a time.
//
// Tiles 0 to 3 are sums; 4 and 5 the factors; 6 and 7 the factors for the pairs that are left over by sixteens, since
// what lies behind the last pair may be NaN, and must not even be multiplied by zero.

#ifndef VITLAB_GEMM_AMX_H
#define VITLAB_GEMM_AMX_H

#include <sys/syscall.h>
#include <unistd.h>

enum { TILE_PAIRS = 16, SUM_TILES = 4, TURNED_TILES = 16, TURNED = TURNED_TILES * TILE_PAIRS };

// Not the compiler's intrinsics, which (gcc 12) hide from it that memory is read. Strides are in bytes.
#define LOAD_TILE(T, FROM, STRIDE) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #T : : "r"(FROM), "r"(STRIDE) : "memory")
#define STORE_TILE(T, TO, STRIDE) \
    __asm__ volatile("tilestored %%tmm" #T ", (%0,%1,1)" : : "r"(TO), "r"(STRIDE) : "memory")
#define CLEAR_TILE(T) __asm__ volatile("tilezero %tmm" #T)
#define MULTIPLY_TILES(C, A, B) __asm__ volatile("tdpbf16ps %tmm" #B ", %tmm" #A ", %tmm" #C)

// Linux lends the tiles' registers to a process that asks, once and for all its threads, unless it forbids them.
static int tiles_allowed, tiles_used;

static __attribute__((constructor)) void ask_for_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    tiles_used = tiles_allowed = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

INLINE int use_tiles(int wanted) { return tiles_used = wanted && tiles_allowed; }

// Shapes are a register of the thread: 200 cycles to set, so it remembers which they are. Other libraries set their
// own, but not before close_tiles, at the end of the thread's share of a call.
typedef struct {
    int rows, rest;
} tile_shapes;
static __thread __attribute__((tls_model("initial-exec"))) tile_shapes shapes;

INLINE void close_tiles(void) {
    if (shapes.rows) __asm__ volatile("tilerelease");
    shapes = (tile_shapes){0, 0};
}

// A product that has not been asked for: after about 1,000 cycles without any, the first one would take 800 more. So
// one begins every few hundred cycles of other work. Nobody looks at its sums.
INLINE void keep_awake(void) {
    if (shapes.rows) MULTIPLY_TILES(0, 4, 5);
}

// Tiles for ``rows`` rows of the left factor, and for ``rest`` pairs behind the last sixteen (0: any number will do).
static void shape_tiles(int rows, int rest) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all = {.palette = 1};
    if (shapes.rows == rows && (rest == 0 || shapes.rest == rest)) return;
    if (rest == 0) rest = TILE_PAIRS;
    for (int t = 0; t < 8; t++) all.rows[t] = (uint8_t)rows, all.bytes[t] = 64;
    all.rows[5] = TILE_PAIRS, all.rows[7] = (uint8_t)rest, all.bytes[6] = (uint16_t)(4 * rest);
    __asm__ volatile("ldtilecfg %0" : : "m"(all));
    shapes = (tile_shapes){rows, rest};
}

// Sum tile T, if there are so many.
#define BEGIN_SUM(T)                                                      \
    if (T < tiles) {                                                      \
        if (add) LOAD_TILE(T, c + LANES * T, c_stride); else CLEAR_TILE(T); \
    }
#define ADD_TO_SUM(T, A, B)                          \
    if (T < tiles) {                                 \
        LOAD_TILE(B, b + LANES * T, b_stride);       \
        MULTIPLY_TILES(T, A, B);                     \
    }
#define END_SUM(T) \
    if (T < tiles) STORE_TILE(T, c + LANES * T, c_stride);

// ``tiles`` tiles of sums side by side. Tile k of the left factor begins at a + k * a_next.
INLINE void sum_tiles_of(const int tiles, real *c, ptrdiff_t width, const pair *a, ptrdiff_t row, ptrdiff_t a_next,
                         const pair *b, ptrdiff_t b_width, int steps, int add) {
    const ptrdiff_t c_stride = width * 4, a_stride = row * 4, b_stride = b_width * 4;
    BEGIN_SUM(0) BEGIN_SUM(1) BEGIN_SUM(2) BEGIN_SUM(3)
    for (; steps >= TILE_PAIRS; steps -= TILE_PAIRS, a += a_next, b += TILE_PAIRS * b_width) {
        LOAD_TILE(4, a, a_stride);
        ADD_TO_SUM(0, 4, 5) ADD_TO_SUM(1, 4, 5) ADD_TO_SUM(2, 4, 5) ADD_TO_SUM(3, 4, 5)
    }
    if (steps > 0) {
        LOAD_TILE(6, a, a_stride);
        ADD_TO_SUM(0, 6, 7) ADD_TO_SUM(1, 6, 7) ADD_TO_SUM(2, 6, 7) ADD_TO_SUM(3, 6, 7)
    }
    END_SUM(0) END_SUM(1) END_SUM(2) END_SUM(3)
}

// All columns of the product, in panels of four tiles of sums.
static void sum_tiles(real *c, ptrdiff_t width, int tiles, const pair *a, ptrdiff_t row, ptrdiff_t a_next,
                      const pair *b, ptrdiff_t b_width, int steps, int add) {
    for (; tiles >= SUM_TILES; tiles -= SUM_TILES, c += SUM_TILES * LANES, b += SUM_TILES * LANES) {
        sum_tiles_of(4, c, width, a, row, a_next, b, b_width, steps, add);
    }
    if (tiles == 3) sum_tiles_of(3, c, width, a, row, a_next, b, b_width, steps, add);
    if (tiles == 2) sum_tiles_of(2, c, width, a, row, a_next, b, b_width, steps, add);
    if (tiles == 1) sum_tiles_of(1, c, width, a, row, a_next, b, b_width, steps, add);
}

// Four columns of row r, then of rows r + 4, r + 8, r + 12; of rows that do not exist, the first's.
INLINE __m512i four_columns(const pair *from, ptrdiff_t width, int r, int count) {
    const pair *at[4];
    UNROLL for (int i = 0; i < 4; i++) at[i] = from + (r + 4 * i < count ? r + 4 * i : 0) * width;
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)at[0]));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)at[1]), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)at[2]), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)at[3]), 3);
}

// The transpose of up to 16 row pairs [count][width] by 16 columns; what is left of ``to`` means nothing.
INLINE void turn_tile(pair *to, const pair *from, ptrdiff_t width, int count) {
    UNROLL for (int i = 0; i < 4; i++, from += 4, to += 4 * TILE_PAIRS) {
        __m512i x[4], y[4];
        UNROLL for (int r = 0; r < 4; r++) x[r] = four_columns(from, width, r, count);
        UNROLL for (int h = 0; h < 2; h++) {
            y[2 * h] = _mm512_unpacklo_epi32(x[2 * h], x[2 * h + 1]);
            y[2 * h + 1] = _mm512_unpackhi_epi32(x[2 * h], x[2 * h + 1]);
        }
        _mm512_storeu_si512(to, _mm512_unpacklo_epi64(y[0], y[2]));
        _mm512_storeu_si512(to + TILE_PAIRS, _mm512_unpackhi_epi64(y[0], y[2]));
        _mm512_storeu_si512(to + 2 * TILE_PAIRS, _mm512_unpacklo_epi64(y[1], y[3]));
        _mm512_storeu_si512(to + 3 * TILE_PAIRS, _mm512_unpackhi_epi64(y[1], y[3]));
    }
}

static void turn(pair *to, const pair *from, ptrdiff_t width, int count) {
    for (; count >= TILE_PAIRS; count -= TILE_PAIRS, from += TILE_PAIRS * width, to += TILE_PAIRS * TILE_PAIRS) {
        turn_tile(to, from, width, TILE_PAIRS);
    }
    if (count > 0) turn_tile(to, from, width, count);
}

// c[rows][columns] = a b, or c += a b: rows even and at most 16, steps pairs are summed over. Columns are rounded up to
// whole vectors. A left factor by columns is read 16 columns wide.
static void tile_product(real *c, ptrdiff_t width, int rows, ptrdiff_t columns, left a, const pair *b,
                         ptrdiff_t b_width, int steps, int add) {
    const int tiles = (int)(columns + LANES - 1) / LANES;
    shape_tiles(rows, steps % TILE_PAIRS);
    if (a.step == 1) {
        sum_tiles(c, width, tiles, a.first, a.row, TILE_PAIRS, b, b_width, steps, add);
        return;
    }
    pair turned[TURNED_TILES * TILE_PAIRS * TILE_PAIRS] __attribute__((aligned(64)));
    for (int now; steps > 0; steps -= now, a.first += now * a.step, b += now * b_width, add = 1) {
        now = steps < TURNED ? steps : TURNED;
        turn(turned, a.first, a.step, now);
        sum_tiles(c, width, tiles, turned, TILE_PAIRS, TILE_PAIRS * TILE_PAIRS, b, b_width, now, add);
    }
}

// The same by tiles or, where the process may not use them, by vectors.
static void multiply(real *c, ptrdiff_t width, int rows, ptrdiff_t columns, left a, const pair *b, ptrdiff_t b_width,
                     int steps, int add) {
    if (tiles_used) {
        tile_product(c, width, rows, columns, a, b, b_width, steps, add);
        return;
    }
    for (int now; rows > 0; rows -= now, c += now * width, a.first += now * a.row) {
        now = rows < VECTOR_ROWS ? rows : VECTOR_ROWS;
        vector_product(c, width, now, columns, a, b, b_width, steps, add);
    }
}

#endif
