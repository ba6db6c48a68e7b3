
#define QKV 1    /* kinds of ATTENTION; 0 is none */
#define MERGED 2

typedef struct {
    const float *norm1_gain, *norm1_offset; /* NULL for RMS norm */
    matrix attend, project;                 /* queries, keys and values; or the one matrix of merged attention */
    const matrix *bias;                     /* of pairs of tokens, a row for each head and token; NULL without */
    const float *norm2_gain, *norm2_offset;
    matrix fc1, fc2;
} block;
/* ARRAYS */

/* The residual line of all tokens, its normalised copy, and what a single token needs. */
static float tokens[TOKENS][DIM], normed[TOKENS * DIM];
static float patch[PATCH_LENGTH], hidden[HIDDEN], update[DIM];
#if ATTENTION
static float query[HEAD_DIM], scores[TOKENS], mixed[HEAD_DIM];
#endif
#if ATTENTION == QKV
static float keys[TOKENS][HEAD_DIM], values[TOKENS][HEAD_DIM];
#endif

static float activate(float x)
{
#if RELU2
    return x > 0.0f ? x * x : 0.0f;
#else
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
#endif
}

static void normalise(const float *x, const float *gain, const float *offset, float *out)
{
    float middle = 0.0f, squares = 0.0f;
#if !RMS_NORM
    for (int i = 0; i < DIM; i++)
        middle += x[i];
    middle /= DIM;
#endif
    for (int i = 0; i < DIM; i++)
        squares += (x[i] - middle) * (x[i] - middle);
    float factor = 1.0f / sqrtf(squares / DIM + NORM_EPS);
    for (int i = 0; i < DIM; i++) {
        float y = (x[i] - middle) * factor;
        out[i] = gain ? y * gain[i] + offset[i] : y;
    }
}

static void normalise_all(const float *gain, const float *offset)
{
    for (int n = 0; n < TOKENS; n++)
        normalise(tokens[n], gain, offset, normed + n * DIM);
}

/* Each patch, with what it shares with its neighbours, becomes a token; its position is added. */
static void embed(const uint8_t *image)
{
#if CLASS_TOKEN
    for (int i = 0; i < DIM; i++)
        tokens[0][i] = class_token[i];
#endif
    for (int p = 0; p < GRID * GRID; p++) {
        float *number = patch;
        int top = MARGIN + p / GRID * PATCH - OVERLAP, left = MARGIN + p % GRID * PATCH - OVERLAP;
        for (int row = top; row < top + PATCH + 2 * OVERLAP; row++)
            for (int column = left; column < left + PATCH + 2 * OVERLAP; column++) {
                int is_inside = row >= 0 && row < COVERED && column >= 0 && column < COVERED;
                for (int c = 0; c < VITLAB_CHANNELS; c++)
                    *number++ = is_inside ? pixel(image, row, column, c) : 0.0f;
            }
        dense(&embedding, 0, DIM, patch, tokens[p + CLASS_TOKEN]);
    }
#if POSITIONS
    for (int n = 0; n < TOKENS; n++)
        for (int i = 0; i < DIM; i++)
            tokens[n][i] += entry(&positions, n, i);
#endif
}

#if ATTENTION
/* softmax(scores), in place. */
static void softmax(void)
{
    float most = scores[0], sum = 0.0f;
    for (int n = 1; n < TOKENS; n++)
        most = scores[n] > most ? scores[n] : most;
    for (int n = 0; n < TOKENS; n++)
        sum += scores[n] = expf(scores[n] - most);
    for (int n = 0; n < TOKENS; n++)
        scores[n] /= sum;
}

/* What one token takes from all others by one head, through the head's part of the projection, on the residual line. */
static void attend_one(const block *b, int head, int token)
{
#if ATTENTION == MERGED
    const float *all_keys = normed, *all_values = normed;
    dense(&b->attend, 0, HEAD_DIM, normed + token * DIM, query);
#else
    const float *all_keys = keys[0], *all_values = values[0];
    dense(&b->attend, head * HEAD_DIM, HEAD_DIM, normed + token * DIM, query);
#endif
    for (int n = 0; n < TOKENS; n++) {
        float score = 0.0f;
        for (int i = 0; i < HEAD_DIM; i++)
            score += query[i] * all_keys[n * HEAD_DIM + i];
        scores[n] = score * SCALE + (b->bias ? entry(b->bias, head * TOKENS + token, n) : 0.0f);
    }
    softmax();
    for (int i = 0; i < HEAD_DIM; i++)
        mixed[i] = 0.0f;
    for (int n = 0; n < TOKENS; n++)
        for (int i = 0; i < HEAD_DIM; i++)
            mixed[i] += scores[n] * all_values[n * HEAD_DIM + i];
    for (int i = 0; i < DIM; i++)
        tokens[token][i] += product(&b->project, i, head * HEAD_DIM, HEAD_DIM, mixed);
}

static void attention(const block *b)
{
    normalise_all(b->norm1_gain, b->norm1_offset);
    if (b->project.bias)
        for (int n = 0; n < TOKENS; n++)
            for (int i = 0; i < DIM; i++)
                tokens[n][i] += b->project.bias[i];
    for (int head = 0; head < HEADS; head++) {
#if ATTENTION == QKV
        for (int n = 0; n < TOKENS; n++) {
            dense(&b->attend, (HEADS + head) * HEAD_DIM, HEAD_DIM, normed + n * DIM, keys[n]);
            dense(&b->attend, (2 * HEADS + head) * HEAD_DIM, HEAD_DIM, normed + n * DIM, values[n]);
        }
#endif
        for (int token = 0; token < TOKENS; token++)
            attend_one(b, head, token);
    }
}
#endif

/* The small network that updates each token by itself. */
static void mlp(const block *b)
{
    normalise_all(b->norm2_gain, b->norm2_offset);
    for (int n = 0; n < TOKENS; n++) {
        dense(&b->fc1, 0, HIDDEN, normed + n * DIM, hidden);
        for (int i = 0; i < HIDDEN; i++)
            hidden[i] = activate(hidden[i]);
        dense(&b->fc2, 0, DIM, hidden, update);
        for (int i = 0; i < DIM; i++)
#if LAST_GELU
            tokens[n][i] += 0.5f * update[i] * (1.0f + erff(update[i] * 0.70710678f));
#else
            tokens[n][i] += update[i];
#endif
    }
}

/* The normalised tokens as the vector that is classified: POOL 0 the class token, 1 their mean, 2 side by side. */
static const float *pool(void)
{
    normalise_all(final_gain, final_offset);
#if POOL == 1
    for (int n = 1; n < TOKENS; n++)
        for (int i = 0; i < DIM; i++)
            normed[i] += normed[n * DIM + i];
    for (int i = 0; i < DIM; i++)
        normed[i] /= TOKENS;
#endif
    return normed;
}

int vitlab_predict(const uint8_t *image, float *logits)
{
    embed(image);
    for (int i = 0; i < DEPTH; i++) {
#if ATTENTION
        attention(&blocks[i]);
#endif
        mlp(&blocks[i]);
    }
    const float *features = pool();
#if HEAD_LAYERS
    static float wide[HEAD_LAYERS][WIDEST];
    for (int layer = 0; layer < HEAD_LAYERS; layer++) {
        dense(&head_layers[layer], 0, head_widths[layer], features, wide[layer]);
        for (int i = 0; i < head_widths[layer]; i++)
            wide[layer][i] = 0.5f * wide[layer][i] * (1.0f + erff(wide[layer][i] * 0.70710678f));
        features = wide[layer];
    }
#endif
    dense(&classify, 0, VITLAB_CLASSES, features, logits);
    return largest(logits);
}
