// Random rotation, zoom, shear, shift and bending of a batch of images, sampled bilinearly: what augment.py does in some
// seventy torch operations, each of which costs more to start than to compute.

#include "pool.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

enum { DRAWS = 7, MOST_SIDE = 128, POINTS = 5, AT_ONCE = 4 };  // POINTS: on each side of the coarse grid that bends; AT_ONCE: images

typedef struct {
    int batch, channels, height, width;
    int reflect;  // what lies outside: 1 a mirror, 0 black
    int threads;
    float limits[DRAWS];  // of angle, zoom x and y, shear x and y (degrees), shift x and y (pixels)
    float elastic;        // of the coarse grid's points (pixels)
} vitlab_affine_settings;

// From output to input positions, in pixels from the centre: (a x + b y + c, d x + e y + f).
typedef struct {
    float a, b, c, d, e, f;
} map;

static map draw_map(const vitlab_affine_settings *s, const float *draws) {
    float v[DRAWS];
    for (int i = 0; i < DRAWS; i++) v[i] = (draws[i] * 2 - 1) * s->limits[i];
    const float degree = 0.017453292519943295f;
    const float cosine = cosf(v[0] * degree), sine = sinf(v[0] * degree);
    const float slant_x = tanf(v[3] * degree), slant_y = tanf(v[4] * degree), zoom_x = 1 + v[1], zoom_y = 1 + v[2];
    map m = {.a = (cosine - sine * slant_y) * zoom_x, .b = (cosine * slant_x - sine) * zoom_y};
    m.d = (sine + cosine * slant_y) * zoom_x, m.e = (sine * slant_x + cosine) * zoom_y;
    m.c = -(m.a * v[5] + m.b * v[6]), m.f = -(m.d * v[5] + m.e * v[6]);
    return m;
}

// Not fminf and fmaxf, which are calls; not a number becomes ``low``.
INLINE float between(float low, float x, float high) { return x > low ? x < high ? x : high : low; }

// A place between pixels -1/2 and size - 1/2, mirrored at both as often as needed, then within the pixels' centres.
INLINE float mirrored(float at, float size) {
    const float from = fabsf(at + 0.5f), times = floorf(from / size), rest = from - times * size;
    const float odd = times - 2 * floorf(times * 0.5f), inside = (odd > 0 ? size - rest : rest) - 0.5f;
    return between(0, inside, size - 1);
}

// Up to where a black border of one pixel is all that there is to see.
INLINE float bounded(float at, float size) { return between(-1, at, size); }

// How far one row of pixels is moved by the coarse grid, [2][width]: first the grid's rows are mixed into one, then that
// one's points into each pixel. ``bends`` [2][POINTS][POINTS] are in 0 to 1; ``columns`` is [POINTS][width].
INLINE void bend_row(const vitlab_affine_settings *s, const float *bends, const float *row, const float *columns,
                     float (*moved)[MOST_SIDE]) {
    for (int axis = 0; axis < 2; axis++) {
        for (int i = 0; i < s->width; i++) moved[axis][i] = 0;
        for (int point = 0; point < POINTS; point++) {
            float mixed = 0;
            for (int line = 0; line < POINTS; line++)
                mixed += row[line] * (bends[(axis * POINTS + line) * POINTS + point] * 2 - 1);
            mixed *= s->elastic;
            for (int i = 0; i < s->width; i++) moved[axis][i] += mixed * columns[point * s->width + i];
        }
    }
}

// One channel, from an image with a border of one black pixel above and left, and two below and right.
INLINE void sample(const int reflect, const int bent, const vitlab_affine_settings *s, const map *m, const float *bends,
                   const float *rows, const float *columns, const float *bordered, ptrdiff_t stride, float *to) {
    const float width = (float)s->width, height = (float)s->height;
    for (int row = 0; row < s->height; row++) {
        const float y = (float)row + 0.5f - height / 2;
        int place[MOST_SIDE];
        float right[MOST_SIDE], down[MOST_SIDE], moved[2][MOST_SIDE];
        if (bent) bend_row(s, bends, rows + row * POINTS, columns, moved);
        for (int i = 0; i < s->width; i++) {
            const float x = (float)i + 0.5f - width / 2;
            const float bend_x = bent ? moved[0][i] : 0, bend_y = bent ? moved[1][i] : 0;
            const float from_x = m->a * x + m->b * y + m->c + bend_x + width / 2 - 0.5f;
            const float from_y = m->d * x + m->e * y + m->f + bend_y + height / 2 - 0.5f;
            const float at_x = reflect ? mirrored(from_x, width) : bounded(from_x, width);
            const float at_y = reflect ? mirrored(from_y, height) : bounded(from_y, height);
            const float left = floorf(at_x), top = floorf(at_y);
            right[i] = at_x - left, down[i] = at_y - top;
            place[i] = ((int)top + 1) * (int)stride + (int)left + 1;
        }
        for (int i = 0; i < s->width; i++) {
            const float a = bordered[place[i]], b = bordered[place[i] + 1];
            const float c = bordered[place[i] + stride], d = bordered[place[i] + stride + 1];
            const float above = a + (b - a) * right[i], below = c + (d - c) * right[i];
            to[row * s->width + i] = above + (below - above) * down[i];
        }
    }
}

typedef struct {
    const vitlab_affine_settings *s;
    const float *rows, *columns, *draws, *from;
    float *to;
} work;

static void map_image(const work *w, ptrdiff_t image, float *bordered) {
    const vitlab_affine_settings *s = w->s;
    const int bent = s->elastic != 0, numbers = DRAWS + (bent ? 2 * POINTS * POINTS : 0);
    const ptrdiff_t stride = s->width + 3, size = (ptrdiff_t)s->height * s->width;
    const map m = draw_map(s, w->draws + image * numbers);
    const float *bends = w->draws + image * numbers + DRAWS;
    for (int channel = 0; channel < s->channels; channel++) {
        const ptrdiff_t at = (image * s->channels + channel) * size;
        for (int row = 0; row < s->height; row++) {
            const size_t bytes = sizeof(float) * (size_t)s->width;
            memcpy(bordered + (row + 1) * stride + 1, w->from + at + (ptrdiff_t)row * s->width, bytes);
        }
        if (s->reflect)
            sample(1, bent, s, &m, bends, w->rows, w->columns, bordered, stride, w->to + at);
        else if (bent)
            sample(0, 1, s, &m, bends, w->rows, w->columns, bordered, stride, w->to + at);
        else
            sample(0, 0, s, &m, bends, w->rows, w->columns, bordered, stride, w->to + at);
    }
}

static void map_pieces(void *context, int thread, job *pieces) {
    (void)thread;
    const work *w = context;
    float bordered[(MOST_SIDE + 3) * (MOST_SIDE + 3)];
    memset(bordered, 0, sizeof(float) * (size_t)((w->s->width + 3) * (w->s->height + 3)));
    for (ptrdiff_t image; (image = next_piece(pieces) * AT_ONCE) >= 0;) {
        for (ptrdiff_t i = image; i < image + AT_ONCE && i < w->s->batch; i++) map_image(w, i, bordered);
    }
}

// to [batch][channels][height][width] from the same of ``from``; draws [batch][7], followed by 2 x 25 if elastic is not
// 0, are in 0 to 1; rows [height][5] and columns [5][width] say how much a coarse point counts. Sides are at most 128.
API void vitlab_affine(const vitlab_affine_settings *s, const float *rows, const float *columns, const float *draws,
                       const float *from, float *to) {
    work w = {s, rows, columns, draws, from, to};
    share_out(s->threads, (s->batch + AT_ONCE - 1) / AT_ONCE, map_pieces, &w);
}
