// GELU in closed form, for float and double.

#ifndef VITLAB_GELU_H
#define VITLAB_GELU_H

#include "vec.h"

typedef struct {
    vec value, slope;
} curve;

// GELU(z) = z Phi(z), Phi the normal distribution's cumulative function, and its slope Phi(z) + z phi(z). In float the
// errors are below 2e-7 max(1, |z|) (tests/test_native_curves.py measures them).
INLINE curve gelu(vec z) {
    vec bell = exp_negative(z * z * (real)-0.5);
#if REAL_IS_DOUBLE
    vec phi = z;
    for (int i = 0; i < LANES; i++) phi[i] = 0.5 * erfc(-0.70710678118654752440 * z[i]);
#else
    // 1 - Phi(|z|) = bell(z) times a polynomial of t without a constant (the form of Abramowitz and Stegun 7.1.26;
    // fitted for the least relative error, 1.1e-7), which reuses the bell; mirrored for z < 0.
    const bits sign = (bits)splat(-0.0f);
    vec t = 1.0f / (1.0f + 0.3f * (vec)((bits)z & ~sign));
    vec tail = splat(0.03619489704f);
    tail = tail * t - 0.159378294f;
    tail = tail * t + 0.2101180725f;
    tail = tail * t - 0.0571668302f;
    tail = tail * t + 0.1304160575f;
    tail = tail * t + 0.09934727488f;
    tail = tail * t + 0.1208455016f;
    tail = tail * t + 0.1196232648f;
    vec half_erf = 0.5f - tail * t * bell;
    vec phi = 0.5f + (vec)((bits)half_erf | ((bits)z & sign));
#endif
    return (curve){z * phi, phi + z * bell * (real)0.39894228040143267794};
}

#endif
