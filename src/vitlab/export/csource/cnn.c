/* ARRAYS */
/* The feature maps before and after a layer, [channel][row][column]. */
static float maps[2][MOST_NUMBERS];

/* One number of a 3 x 3 convolution over `channels` maps of side `side`. */
static float convolution(const matrix *m, int filter, const float *in, int channels, int side, int row, int column)
{
    float sum = 0.0f;
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < 3; y++)
            sum += product(m, filter, (c * 3 + y) * 3, 3, in + (c * side + row + y) * side + column);
    return sum + m->bias[filter];
}

/* Convolution, the largest of each 2 x 2 numbers, and what of it is above 0. */
static void layer(const matrix *m, int count, const float *in, int channels, int side, float *out)
{
    int half = (side - 2) / 2;
    for (int f = 0; f < count; f++)
        for (int row = 0; row < half; row++)
            for (int column = 0; column < half; column++) {
                float most = 0.0f;
                for (int i = 0; i < 4; i++) {
                    float y = convolution(m, f, in, channels, side, 2 * row + i / 2, 2 * column + i % 2);
                    most = y > most ? y : most;
                }
                *out++ = most;
            }
}

int vitlab_predict(const uint8_t *image, float *logits)
{
    int side = INPUT_SIDE, channels = VITLAB_CHANNELS;
    for (int c = 0; c < VITLAB_CHANNELS; c++)
        for (int row = 0; row < INPUT_SIDE; row++)
            for (int column = 0; column < INPUT_SIDE; column++)
                maps[0][(c * INPUT_SIDE + row) * INPUT_SIDE + column] = pixel(image, row, column, c);
    for (int i = 0; i < LAYERS; i++) {
        layer(&convolutions[i], filters[i], maps[i % 2], channels, side, maps[(i + 1) % 2]);
        side = (side - 2) / 2;
        channels = filters[i];
    }
    dense(&classify, 0, VITLAB_CLASSES, maps[LAYERS % 2], logits);
    return largest(logits);
}
