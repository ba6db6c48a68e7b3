// GELU without its slope, for prediction.

#ifndef VITLAB_GELU_VALUE_H
#define VITLAB_GELU_VALUE_H

#include "gelu_plain.h"

// In float: z (1 + erf(z / sqrt 2)) / 2, with erf(x) = x P(x^2) / Q(x^2) up to |x| = 4, where it is 1 (the form and
// numbers of Eigen's fast erf). Errors are below 4e-7 max(1, |z|).
INLINE vec gelu_value(vec z) {
#if REAL_IS_DOUBLE
    return gelu(z).value;
#else
    const vec most = splat(4.0f);
    vec x = vec_max(-most, z * 0.70710678118654752440f);
    x = -vec_max(-most, -x);
    const vec s = x * x;
    vec top = splat(-2.72614225801306e-10f);
    top = top * s + 2.77068142495902e-08f;
    top = top * s - 2.10102402082508e-06f;
    top = top * s - 5.69250639462346e-05f;
    top = top * s - 7.34990630326855e-04f;
    top = top * s - 2.95459980854025e-03f;
    top = top * s - 1.60960333262415e-02f;
    vec bottom = splat(-1.45660718464996e-05f);
    bottom = bottom * s - 2.13374055278905e-04f;
    bottom = bottom * s - 1.68282697438203e-03f;
    bottom = bottom * s - 7.37332916720468e-03f;
    bottom = bottom * s - 1.42647390514189e-02f;
    const vec half = z * 0.5f;
    return half + half * (x * top / bottom);
#endif
}

#endif
