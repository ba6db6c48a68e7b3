/* Preloaded into a process: sees its file-system calls below one folder, and lets the Nth fail or kills the process there.

   Armed by PROOF_* in the environment, or later by proof_arm, so that a process can import everything before it is counted.
   A write that is killed writes half of its bytes first, as a real crash may. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST 4096
static char prefix[PATH_MAX];
static char kinds[64];
static long at;
static int action, sticky, log_fd = -1;
static atomic_long calls;
static char *paths[MOST]; /* of open descriptors below the folder */

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

void proof_arm(const char *folder, const char *which, long number, int what, int forever, const char *log) {
    int (*open_)(const char *, int, ...) = real("open");
    if (log_fd >= 0) close(log_fd);
    log_fd = log && *log ? open_(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    snprintf(kinds, sizeof kinds, "%s", which);
    at = number, action = what, sticky = forever;
    atomic_store(&calls, 0);
    snprintf(prefix, sizeof prefix, "%s", folder); /* last: from here on calls count */
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("PROOF_FOLDER"), *which = getenv("PROOF_KINDS"), *log = getenv("PROOF_LOG");
    const char *number = getenv("PROOF_AT"), *what = getenv("PROOF_ACTION"), *forever = getenv("PROOF_STICKY");
    if (folder)
        proof_arm(folder, which ? which : "", number ? atol(number) : 0, what ? atoi(what) : 0, forever ? atoi(forever) : 0, log);
}

static int below(int dir, const char *path, char *full) {
    if (!*prefix || !path) return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        char here[PATH_MAX], link[64];
        if (dir == AT_FDCWD) {
            if (!getcwd(here, sizeof here)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            ssize_t n = readlink(link, here, sizeof here - 1);
            if (n < 0) return 0;
            here[n] = 0;
        }
        if (snprintf(full, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return 0;
    }
    size_t n = strlen(prefix);
    return !strncmp(full, prefix, n) && (full[n] == '/' || !full[n]);
}

static void note(char kind, const char *path, const char *second) {
    char line[2 * PATH_MAX + 64];
    if (log_fd < 0) return;
    int n = snprintf(line, sizeof line, "%c\t%s\t%s\n", kind, path, second ? second : "");
    syscall(SYS_write, log_fd, line, n);
}

/* Counts a call; 0: go on, otherwise fail with errno set. ``fd`` >= 0: of a write, with its bytes. */
static int meet(char kind, const char *path, const char *second, int fd, const void *data, size_t count) {
    if (*kinds && !strchr(kinds, kind)) return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    note(kind, path, second);
    if (!at || number < at || (number > at && !sticky) || !action) return 0;
    if (action > 0) {
        errno = action;
        return -1;
    }
    if (fd >= 0 && action == -SIGKILL) syscall(SYS_write, fd, data, count / 2);
    kill(getpid(), -action);
    return 0;
}

static void remember(int fd, const char *full) {
    if (fd < 0 || fd >= MOST) return;
    free(paths[fd]);
    paths[fd] = full ? strdup(full) : NULL;
}

static int opening(const char *name, int dir, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int (*open_)(const char *, int, ...) = real("open64"), (*openat_)(int, const char *, int, ...) = real("openat64");
    int seen = below(dir, path, full);
    (void)name;
    if (seen && meet((flags & (O_WRONLY | O_RDWR | O_CREAT)) ? 'o' : 'p', full, NULL, -1, NULL, 0)) return -1;
    int fd = dir == AT_FDCWD ? open_(path, flags, mode) : openat_(dir, path, flags, mode);
    remember(fd, seen ? full : NULL);
    return fd;
}

#define MODE                                                 \
    mode_t mode = 0;                                         \
    if (flags & (O_CREAT | O_TMPFILE)) {                     \
        va_list list;                                        \
        va_start(list, flags), mode = va_arg(list, mode_t);  \
        va_end(list);                                        \
    }
int open(const char *path, int flags, ...) { MODE return opening("open", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opening("open", AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return opening("openat", dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return opening("openat", dir, path, flags, mode); }

int close(int fd) {
    int (*close_)(int) = real("close");
    remember(fd, NULL);
    return close_(fd);
}

ssize_t write(int fd, const void *data, size_t count) {
    ssize_t (*write_)(int, const void *, size_t) = real("write");
    if (fd >= 0 && fd < MOST && paths[fd] && meet('w', paths[fd], NULL, fd, data, count)) return -1;
    return write_(fd, data, count);
}

ssize_t read(int fd, void *data, size_t count) {
    ssize_t (*read_)(int, void *, size_t) = real("read");
    if (fd >= 0 && fd < MOST && paths[fd] && meet('d', paths[fd], NULL, -1, NULL, 0)) return -1;
    return read_(fd, data, count);
}

int fsync(int fd) {
    int (*fsync_)(int) = real("fsync");
    if (fd >= 0 && fd < MOST && paths[fd] && meet('s', paths[fd], NULL, -1, NULL, 0)) return -1;
    return fsync_(fd);
}

int fdatasync(int fd) {
    int (*fsync_)(int) = real("fdatasync");
    if (fd >= 0 && fd < MOST && paths[fd] && meet('s', paths[fd], NULL, -1, NULL, 0)) return -1;
    return fsync_(fd);
}

static int renaming(int from_dir, const char *from, int to_dir, const char *to, char *full) {
    char other[PATH_MAX];
    if (!below(to_dir, to, full)) return 0;
    if (!below(from_dir, from, other)) snprintf(other, sizeof other, "%s", from);
    return meet('r', other, full, -1, NULL, 0);
}

int rename(const char *from, const char *to) {
    char full[PATH_MAX];
    int (*rename_)(const char *, const char *) = real("rename");
    return renaming(AT_FDCWD, from, AT_FDCWD, to, full) ? -1 : rename_(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
    char full[PATH_MAX];
    int (*rename_)(int, const char *, int, const char *) = real("renameat");
    return renaming(a, from, b, to, full) ? -1 : rename_(a, from, b, to);
}

int unlink(const char *path) {
    char full[PATH_MAX];
    int (*unlink_)(const char *) = real("unlink");
    return below(AT_FDCWD, path, full) && meet('u', full, NULL, -1, NULL, 0) ? -1 : unlink_(path);
}

int unlinkat(int dir, const char *path, int flags) {
    char full[PATH_MAX];
    int (*unlink_)(int, const char *, int) = real("unlinkat");
    return below(dir, path, full) && meet('u', full, NULL, -1, NULL, 0) ? -1 : unlink_(dir, path, flags);
}

int rmdir(const char *path) {
    char full[PATH_MAX];
    int (*rmdir_)(const char *) = real("rmdir");
    return below(AT_FDCWD, path, full) && meet('u', full, NULL, -1, NULL, 0) ? -1 : rmdir_(path);
}

int mkdir(const char *path, mode_t mode) {
    char full[PATH_MAX];
    int (*mkdir_)(const char *, mode_t) = real("mkdir");
    return below(AT_FDCWD, path, full) && meet('m', full, NULL, -1, NULL, 0) ? -1 : mkdir_(path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode) {
    char full[PATH_MAX];
    int (*mkdir_)(int, const char *, mode_t) = real("mkdirat");
    return below(dir, path, full) && meet('m', full, NULL, -1, NULL, 0) ? -1 : mkdir_(dir, path, mode);
}

DIR *opendir(const char *path) {
    char full[PATH_MAX];
    DIR *(*opendir_)(const char *) = real("opendir");
    return below(AT_FDCWD, path, full) && meet('l', full, NULL, -1, NULL, 0) ? NULL : opendir_(path);
}

int chmod(const char *path, mode_t mode) {
    char full[PATH_MAX];
    int (*chmod_)(const char *, mode_t) = real("chmod");
    return below(AT_FDCWD, path, full) && meet('c', full, NULL, -1, NULL, 0) ? -1 : chmod_(path, mode);
}

int fchmod(int fd, mode_t mode) {
    int (*chmod_)(int, mode_t) = real("fchmod");
    if (fd >= 0 && fd < MOST && paths[fd] && meet('c', paths[fd], NULL, -1, NULL, 0)) return -1;
    return chmod_(fd, mode);
}
