// How an image is cut into patches.
//
// Letters: N tokens, P numbers of a patch, D numbers of a token.

#ifndef VITLAB_PATCHES_H
#define VITLAB_PATCHES_H

#include "vec.h"

#include <string.h>

typedef struct {
    int batch, channels, side;           // images [batch][channels][side][side]
    int grid, patch, overlap, margin;    // as in patches.py
    int dim, threads;
} vitlab_patches;

typedef struct {
    ptrdiff_t tokens, length, dim, border, window;  // N, P, D, side of the bordered image, side of a patch's window
} sizes;

static sizes sizes_of(const vitlab_patches *s) {
    const ptrdiff_t window = s->patch + 2 * s->overlap;
    return (sizes){(ptrdiff_t)s->grid * s->grid, window * window * s->channels, s->dim,
                   (ptrdiff_t)s->grid * s->patch + 2 * s->overlap, window};
}

// Room for ``count`` numbers and a vector more, which a copy by vectors may read or spoil.
static ptrdiff_t room(ptrdiff_t count) { return (count + 2 * LANES - 1) / LANES * LANES; }

// patches [N][P] of one image; the border of ``bordered`` is zero.
static void cut_patches(const vitlab_patches *s, const sizes *z, const real *image, real *bordered, real *patches) {
    const ptrdiff_t border = s->overlap - s->margin, inside = z->border - 2 * border;
    for (ptrdiff_t channel = 0; channel < s->channels; channel++)
        for (ptrdiff_t row = 0; row < inside; row++) {
            real *to = bordered + (channel * z->border + row + border) * z->border + border;
            memcpy(to, image + (channel * s->side + row) * s->side, (size_t)inside * sizeof(real));
        }
    for (ptrdiff_t token = 0; token < z->tokens; token++) {
        const real *corner = bordered + (token / s->grid * z->border + token % s->grid) * s->patch;
        for (ptrdiff_t row = 0; row < z->window; row++, corner += z->border) {
            if (s->channels == 1) {  // by whole vectors: what is too much, the next row replaces
                for (ptrdiff_t i = 0; i < z->window; i += LANES) store(patches + i, load(corner + i));
            } else {
                for (ptrdiff_t i = 0; i < z->window; i++)
                    for (ptrdiff_t c = 0; c < s->channels; c++)
                        patches[i * s->channels + c] = corner[c * z->border * z->border + i];
            }
            patches += z->window * s->channels;
        }
    }
}

#endif
