/* Reads a grey image as a binary PGM file (P5, 8 bit), or a colour one as PPM (P6), and prints what the network says.

       cc -O3 -std=c11 -o example example.c vitlab_model.c -lm && ./example digit.pgm

   Convert a picture with ImageMagick: magick digit.png -resize 28x28! -depth 8 digit.pgm (white ink on black, as in
   MNIST). Comments in the file's header are not read. */
#include <stdio.h>

#include "vitlab_model.h"

static const char *const names[VITLAB_CLASSES] = VITLAB_NAMES;

int main(int count, char **arguments)
{
    static uint8_t image[VITLAB_HEIGHT * VITLAB_WIDTH * VITLAB_CHANNELS];
    float logits[VITLAB_CLASSES];
    char kind = 0;
    int width = 0, height = 0, white = 0;
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file) {
        fprintf(stderr, count == 2 ? "cannot read %s\n" : "usage: %s FILE.pgm\n", arguments[count == 2]);
        return 2;
    }
    int header = fscanf(file, "P%c %d %d %d", &kind, &width, &height, &white);
    if (header != 4 || kind != (VITLAB_CHANNELS == 1 ? '5' : '6') || width != VITLAB_WIDTH || height != VITLAB_HEIGHT ||
        white != 255 || fgetc(file) == EOF || fread(image, sizeof image, 1, file) != 1) {
        fprintf(stderr, "%s must be a binary %s file of %d x %d pixels with 255 grey levels\n", arguments[1],
                VITLAB_CHANNELS == 1 ? "PGM" : "PPM", VITLAB_WIDTH, VITLAB_HEIGHT);
        fclose(file);
        return 1;
    }
    fclose(file);
    int best = vitlab_predict(image, logits);
    for (int k = 0; k < VITLAB_CLASSES; k++)
        printf("%c %-16s %8.3f\n", k == best ? '>' : ' ', names[k], (double)logits[k]);
    return 0;
}
