// What tests/test_native_pool.py asks of pool.c. The argument names the question; exit code 0: as it should be.

#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PIECES = 101, MOST_THREADS = 7 };

static void require(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

// Each piece and each thread's memory is written by plain, unguarded stores, which a sanitizer watches.
typedef struct {
    int done[MOST_PIECES], mine[MOST_THREADS], begun[MOST_THREADS], rounding, wrong_rounding;
} task;

static void count(void *context, int thread, job *pieces) {
    task *t = context;
    t->begun[thread]++;
    for (ptrdiff_t piece; (piece = next_piece(pieces)) >= 0;) t->done[piece]++, t->mine[thread]++;
    if (fegetround() != t->rounding) t->wrong_rounding = 1;
}

// Many calls of all sizes from one thread; each thread has its own rounding, which helpers must take over.
static void *call_often(void *number) {
    const int rounding = *(int *)number % 2 ? FE_UPWARD : FE_TOWARDZERO;
    fesetround(rounding);
    for (int i = 0; i < 400; i++) {
        const int threads = 1 + i % MOST_THREADS, pieces = 1 + i * 37 % MOST_PIECES;
        task t = {.rounding = rounding};
        share_out(threads, pieces, count, &t);
        int all = 0;
        for (int piece = 0; piece < pieces; piece++) require(t.done[piece] == 1, "a piece was not done once");
        for (int thread = 0; thread < MOST_THREADS; thread++) {
            require(t.begun[thread] <= (thread < threads), "a thread's memory had two users, or too many took part");
            all += t.mine[thread];
        }
        require(all == pieces, "pieces were lost");
        require(!t.wrong_rounding, "a helper computed with other settings than the caller");
    }
    return NULL;
}

static void many_callers(void) {
    pthread_t threads[4];
    int numbers[4] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, call_often, &numbers[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

// Nobody goes on before three threads have met.
typedef struct {
    pthread_barrier_t barrier;
    sigset_t blocked[3];
} meeting;

static void meet(void *context, int thread, job *pieces) {
    meeting *m = context;
    pthread_sigmask(SIG_SETMASK, NULL, &m->blocked[thread]);
    while (next_piece(pieces) >= 0) pthread_barrier_wait(&m->barrier);
}

// Three threads really compute, and none but the caller receives signals.
static void together(void) {
    meeting m;
    pthread_barrier_init(&m.barrier, NULL, 3);
    for (int i = 0; i < 20; i++) {
        share_out(3, 3, meet, &m);
        require(!sigismember(&m.blocked[0], SIGINT), "the caller no longer receives signals");
        require(sigismember(&m.blocked[1], SIGINT) && sigismember(&m.blocked[2], SIGTERM), "a helper receives signals");
    }
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void wait_long(void *context, int thread, job *pieces) {
    (void)context, (void)thread;
    while (next_piece(pieces) >= 0) nanosleep(&(struct timespec){0, 200000000}, NULL);
}

// Neither helpers without work nor a caller whose helpers have not finished keep a core busy.
static void asleep(void) {
    task t = {.rounding = fegetround()};
    share_out(MOST_THREADS, MOST_PIECES, count, &t);
    const double before = cpu_seconds();
    share_out(2, 3, wait_long, NULL);
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    require(cpu_seconds() - before < 0.1, "waiting threads used the processor");
}

// A child process, whose helpers are not there, and its parent both go on.
static void forked(void) {
    together();
    const pid_t child = fork();
    require(child >= 0, "no fork");
    alarm(20);  // a child does not inherit it
    together();
    call_often(&(int){0});
    if (child == 0) _exit(0);
    int status = 1;
    waitpid(child, &status, 0);
    require(status == 0, "the child failed");
}

int main(int count, char **words) {
    const char *question = count > 1 ? words[1] : "";
    alarm(20);
    if (!strcmp(question, "many")) many_callers();
    else if (!strcmp(question, "together")) together();
    else if (!strcmp(question, "asleep")) asleep();
    else if (!strcmp(question, "forked")) forked();
    else if (strcmp(question, "nothing")) return 2;
    return 0;
}
