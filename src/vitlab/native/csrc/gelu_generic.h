// GELU in closed form.

#ifndef VITLAB_GELU_H
#define VITLAB_GELU_H

#include "vec.h"

typedef struct {
    vec value, slope;
} curve;

// GELU(z) = z Phi(z), Phi the normal distribution's cumulative function, and its slope Phi(z) + z phi(z).
INLINE curve gelu(vec z) {
    vec bell = exp_negative(z * z * (real)-0.5);
#ifdef VITLAB_DOUBLE
    vec phi = z;
    for (int i = 0; i < LANES; i++) phi[i] = 0.5 * erfc(-0.70710678118654752440 * z[i]);
#else
    // 1 - erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7), which reuses the bell; mirrored for z < 0.
    const bits sign = (bits)splat(-0.0f);
    vec t = 1.0f / (1.0f + 0.23164189f * (vec)((bits)z & ~sign));
    vec tail = splat(1.061405429f);
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    vec half_erf = 0.5f - 0.5f * tail * t * bell;
    vec phi = 0.5f + (vec)((bits)half_erf | ((bits)z & sign));
#endif
    return (curve){z * phi, phi + z * bell * (real)0.39894228040143267794};
}

#endif
