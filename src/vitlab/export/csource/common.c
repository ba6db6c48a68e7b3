
/* A matrix of weights, row by row. As int8, row r holds values[r] x scales[r]. */
typedef struct {
    const weight *values;
    const float *scales; /* NULL for float weights */
    const float *bias;   /* NULL where there is none */
    int columns;
} matrix;

/* The product of `count` numbers of a row, from column `first` on, with as many inputs. */
static float product(const matrix *m, int row, int first, int count, const float *in)
{
    const weight *values = m->values + (size_t)row * (size_t)m->columns + first;
    float sum = 0.0f;
    for (int i = 0; i < count; i++)
        sum += (float)values[i] * in[i];
    return m->scales ? sum * m->scales[row] : sum;
}

#if NEEDS_ENTRY
/* One number of the matrix. */
static float entry(const matrix *m, int row, int column)
{
    float value = (float)m->values[(size_t)row * (size_t)m->columns + (size_t)column];
    return m->scales ? value * m->scales[row] : value;
}
#endif

/* out = W in + b for `rows` rows of a matrix, from row `first` on. */
static void dense(const matrix *m, int first, int rows, const float *in, float *out)
{
    for (int r = 0; r < rows; r++)
        out[r] = product(m, first + r, 0, m->columns, in) + (m->bias ? m->bias[first + r] : 0.0f);
}

/* One number of the network's input: the stored image, resized to RESIZED x RESIZED (bilinear, half-pixel centres),
   cut to its centre, normalised. Rows and columns count from the cut's corner. */
static float stored(const uint8_t *image, int row, int column, int channel)
{
    return (float)image[((size_t)row * VITLAB_WIDTH + column) * VITLAB_CHANNELS + channel];
}

static float pixel(const uint8_t *image, int row, int column, int channel)
{
    float value;
    row += CROPPED;
    column += CROPPED;
#if VITLAB_HEIGHT == RESIZED && VITLAB_WIDTH == RESIZED
    value = stored(image, row, column, channel);
#else
    float y = ((float)row + 0.5f) * ((float)VITLAB_HEIGHT / RESIZED) - 0.5f;
    float x = ((float)column + 0.5f) * ((float)VITLAB_WIDTH / RESIZED) - 0.5f;
    y = y < 0.0f ? 0.0f : y;
    x = x < 0.0f ? 0.0f : x;
    int top = (int)y, left = (int)x;
    int bottom = top + 1 < VITLAB_HEIGHT ? top + 1 : top, right = left + 1 < VITLAB_WIDTH ? left + 1 : left;
    float down = y - (float)top, across = x - (float)left;
    float above = stored(image, top, left, channel) * (1.0f - across) + stored(image, top, right, channel) * across;
    float below = stored(image, bottom, left, channel) * (1.0f - across) + stored(image, bottom, right, channel) * across;
    value = above * (1.0f - down) + below * down;
#endif
    return (value / 255.0f - mean[channel]) / deviation[channel];
}

/* The class with the largest logit. */
static int largest(const float *logits)
{
    int best = 0;
    for (int k = 1; k < VITLAB_CLASSES; k++)
        if (logits[k] > logits[best])
            best = k;
    return best;
}
