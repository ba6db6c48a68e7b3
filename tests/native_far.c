// Calls the kernels on another processor for tests/test_native_far.py: requests on standard input, answers on standard
// output, all numbers of 64 bits but the tensors themselves.
//
// A request is the number of a function, the number of its arguments, and the arguments; the answer is its result and the
// bytes of all buffers, as they are then.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { NOTHING, BUFFER, BUFFERS, NUMBER, MATRICES, MOST = 14, GUARD = 64 };

#define ALL(DO)                                                                                                       \
    DO(forward) DO(backward) DO(embed) DO(embed_gradients) DO(readout) DO(readout_gradients) DO(muon) DO(affine)      \
    DO(muon_floats) DO(embed_bytes) DO(readout_bytes) DO(saved_bytes) DO(workspace_bytes) DO(lanes)                   \
    DO(pack) DO(predict) DO(packed_bytes) DO(pack_bytes) DO(predict_bytes)
typedef size_t function(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                        void *, void *);
#define DECLARE(NAME) function vitlab_##NAME;
ALL(DECLARE)
#define ADDRESS(NAME) vitlab_##NAME,
static function *const functions[] = {ALL(ADDRESS)};

typedef struct {  // as in muon.c
    int rows, columns;
    void *weight, *momentum, *grad;
    float step;
} matrix;

typedef struct {
    void *at;
    size_t bytes;
} buffer;

static buffer taken[1000];
static int count;

static void get(void *to, size_t bytes) {
    if (bytes && fread(to, 1, bytes, stdin) != bytes) exit(count == 0 ? 0 : 1);
}

static int64_t number(void) {
    int64_t n;
    get(&n, sizeof n);
    return n;
}

static void *read_buffer(void) {
    const size_t bytes = (size_t)number();
    void *at = aligned_alloc(64, (bytes + GUARD + 63) / 64 * 64);
    if (!at || count == sizeof taken / sizeof *taken) exit(2);
    taken[count++] = (buffer){at, bytes};
    get(at, bytes);
    return at;
}

static void *read_argument(void) {
    const int64_t kind = number();
    if (kind == NOTHING) return NULL;
    if (kind == NUMBER) return (void *)(intptr_t)number();
    if (kind == BUFFER) return read_buffer();
    const int64_t length = number();
    if (kind == BUFFERS) {
        void **list = calloc((size_t)length + 1, sizeof *list);
        for (int64_t i = 0; i < length; i++) list[i] = read_argument();
        return list;
    }
    matrix *list = calloc((size_t)length, sizeof *list);
    for (int64_t i = 0; i < length; i++) {
        get(&list[i], sizeof *list);
        list[i].weight = read_buffer(), list[i].momentum = read_buffer(), list[i].grad = read_buffer();
    }
    return list;
}

int main(void) {
    for (;;) {
        count = 0;
        const int64_t name = number(), arguments = number();
        void *a[MOST] = {0};
        for (int64_t i = 0; i < arguments; i++) a[i] = read_argument();
        const size_t result = functions[name](a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11],
                                              a[12], a[13]);
        fwrite(&result, sizeof result, 1, stdout);
        for (int i = 0; i < count; i++) {
            fwrite(taken[i].at, 1, taken[i].bytes, stdout);
            free(taken[i].at);
        }
        fflush(stdout);
    }
}
