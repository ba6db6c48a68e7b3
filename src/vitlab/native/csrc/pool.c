#define _GNU_SOURCE
#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define API __attribute__((visibility("default")))

// All in nanoseconds. A thread that waits looks for what it waits for before it sleeps: for WAKING, about as long as waking
// it takes. A helper does so for PATIENCE, longer than its caller needs from one kernel of a training step to the next,
// unless another program wants its core: unless it was interrupted, for TAKEN or more, while it looked less than CALM ago.
enum { WAKING = 50000, PATIENCE = 1000000, TAKEN = 100000, CALM = 300000000, STACK = 1 << 20 };

struct job {
    member *work;
    void *context;
    ptrdiff_t pieces;
    atomic_ptrdiff_t next;
    int threads, joined;  // the most that may take part; those that have begun, the caller among them
    atomic_int inside;    // helpers at work, changed under the lock
    fenv_t arithmetic;    // the caller's: whether denormals count, for example
    job *after;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  // guards all that follows
static pthread_cond_t work_came = PTHREAD_COND_INITIALIZER, helper_left = PTHREAD_COND_INITIALIZER;
static job *jobs;
static int helpers, sleeping;
static atomic_uint calls;      // how many jobs there have been: what a waiting helper looks at without the lock
static atomic_int longest_nap;  // microseconds, for tests

// A random pause, up to longest_nap.
static void nap(int most) {
    static _Thread_local uint32_t seed;
    if (!seed) seed = (uint32_t)(uintptr_t)&seed >> 4 | 1;
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    nanosleep(&(struct timespec){0, (long)(seed % (uint32_t)most) * 1000}, NULL);
}

ptrdiff_t next_piece(job *pieces) {
    const int most = atomic_load_explicit(&longest_nap, memory_order_relaxed);
    if (most) nap(most);
    const ptrdiff_t piece = atomic_fetch_add_explicit(&pieces->next, 1, memory_order_relaxed);
    return piece < pieces->pieces ? piece : -1;
}

// For tests: before each piece, every thread sleeps for a random time of up to ``microseconds``, less than a second.
API void vitlab_interrupt(int microseconds) { atomic_store(&longest_nap, microseconds); }

#ifdef __linux__
static cpu_set_t processors;
static int are_chosen;  // or helpers run where their caller does
#endif

// Helpers that start from now on run on these processors. For a caller that OMP_PROC_BIND has tied to one.
API void vitlab_use_processors(int count, const int *numbers) {
#ifdef __linux__
    pthread_mutex_lock(&lock);
    are_chosen = count > 0;
    CPU_ZERO(&processors);
    for (int i = 0; i < count; i++)
        if (numbers[i] >= 0 && numbers[i] < CPU_SETSIZE) CPU_SET(numbers[i], &processors);
    pthread_mutex_unlock(&lock);
#else
    (void)count, (void)numbers;
#endif
}

static void pause_briefly(void) {
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("isb");
#endif
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

// The time, after a moment that lets the core's other hyper-thread work.
static int64_t soon(void) {
    for (int i = 0; i < 8; i++) pause_briefly();
    return now();
}

static int has_pieces(job *j) { return atomic_load_explicit(&j->next, memory_order_relaxed) < j->pieces; }

// With the lock, as all of the following: a job that another thread can help with, or NULL.
static job *open_job(void) {
    for (job *j = jobs; j; j = j->after)
        if (j->joined < j->threads && has_pieces(j)) return j;
    return NULL;
}

// Wakes up to two helpers for a job. Each of them does the same, so that the caller of many does not wake them all.
static void wake_helpers(const job *j) {
    const int places = j->threads - j->joined;
    for (int i = 0; i < 2 && i < places && i < sleeping; i++) pthread_cond_signal(&work_came);
}

// Returns when a job may have come; ``interrupted`` is when somebody else last took the core of the thread that waits.
static void wait_for_work(int64_t *interrupted) {
    const unsigned seen = atomic_load(&calls);
    pthread_mutex_unlock(&lock);
    int64_t at = now();
    const int64_t end = at + (at - *interrupted > CALM ? PATIENCE : WAKING);
    while (at < end && atomic_load_explicit(&calls, memory_order_relaxed) == seen) {
        const int64_t before = at;
        at = soon();
        if (at - before < TAKEN) continue;
        *interrupted = at;
        break;
    }
    pthread_mutex_lock(&lock);
    if (atomic_load(&calls) != seen) return;
    sleeping++;
    pthread_cond_wait(&work_came, &lock);
    sleeping--;
}

static void *help(void *unused) {
    (void)unused;
    int64_t interrupted = -CALM;
    pthread_mutex_lock(&lock);
    for (;;) {
        job *j = open_job();
        if (!j) {
            wait_for_work(&interrupted);
            continue;
        }
        const int thread = j->joined++;
        atomic_fetch_add(&j->inside, 1);
        wake_helpers(j);
        pthread_mutex_unlock(&lock);
        fesetenv(&j->arithmetic);
        j->work(j->context, thread, j);
        pthread_mutex_lock(&lock);
        if (atomic_fetch_sub(&j->inside, 1) == 1) pthread_cond_broadcast(&helper_left);
    }
    return NULL;
}

// A child process has one thread. These surround a fork, so that the child finds the lock as it should be.
static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }
static void in_child(void) {
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    work_came = helper_left = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    jobs = NULL, helpers = sleeping = 0;
}
static void watch_forks(void) { pthread_atfork(before_fork, in_parent, in_child); }

// Starts helpers until there are ``count``. If the system refuses, there are fewer, and the caller does more.
static void start_helpers(int count) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (helpers >= count) return;
    sigset_t all, before;
    pthread_attr_t how;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the threads that expect them
    pthread_attr_init(&how);
    pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&how, STACK);
#ifdef __linux__
    if (are_chosen) pthread_attr_setaffinity_np(&how, sizeof processors, &processors);
#endif
    for (pthread_t thread; helpers < count && pthread_create(&thread, &how, help, NULL) == 0;) helpers++;
    pthread_attr_destroy(&how);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void share_out(int threads, ptrdiff_t pieces, member *work, void *context) {
    job mine = {.work = work, .context = context, .pieces = pieces, .joined = 1};
    mine.threads = pieces < threads ? (int)pieces : threads;
    if (mine.threads <= 1) {
        work(context, 0, &mine);
        return;
    }
    fegetenv(&mine.arithmetic);
    pthread_mutex_lock(&lock);
    start_helpers(mine.threads - 1);
    mine.after = jobs, jobs = &mine;
    atomic_fetch_add(&calls, 1);
    wake_helpers(&mine);
    pthread_mutex_unlock(&lock);
    work(context, 0, &mine);
    for (const int64_t since = now(); atomic_load(&mine.inside) && soon() - since < WAKING;) {}
    pthread_mutex_lock(&lock);
    while (atomic_load(&mine.inside)) pthread_cond_wait(&helper_left, &lock);
    job **at = &jobs;
    while (*at != &mine) at = &(*at)->after;
    *at = mine.after;
    pthread_mutex_unlock(&lock);
}
