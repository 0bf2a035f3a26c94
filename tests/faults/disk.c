/* A disk that fails on demand, for one process and its children: put before the C library by LD_PRELOAD.

   faults_arm(folder, calls, from, count, error, counter): of the calls named by the letters in `calls` that touch files
   below `folder`, the `from`-th and `count` - 1 more fail with `error`. How many there were is kept in the file
   `counter`, which outlives the process. w: write, c: create, m: make a folder, s: sync, a: allocate, r: read, n: rename.
   What is written through mapped memory is not seen here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX], calls[16];
static long first, many;
static int number;
static long *seen;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_arm(const char *folder, const char *which, long from, long count, int error, const char *counter) {
    int file = REAL(open)(counter, O_RDWR | O_CREAT, 0644);
    if (file < 0 || REAL(ftruncate)(file, sizeof(long)) != 0) abort();
    seen = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
    snprintf(calls, sizeof calls, "%s", which);
    first = from, many = count, number = error;
    snprintf(below, sizeof below, "%s", folder); /* last: from here on it counts */
}

/* Children that are no forks (decoding workers) are armed by their environment. */
__attribute__((constructor)) static void by_environment(void) {
    const char *text = getenv("FAULTS");
    if (text == NULL) return;
    char folder[PATH_MAX], which[16], counter[PATH_MAX];
    long from, count;
    int error;
    if (sscanf(text, "%4095[^\t]\t%15[^\t]\t%ld\t%ld\t%d\t%4095[^\t]", folder, which, &from, &count, &error, counter) == 6)
        faults_arm(folder, which, from, count, error, counter);
}

static int fails(char call, const char *path) {
    size_t length = strlen(below);
    if (length == 0 || strchr(calls, call) == NULL || strncmp(path, below, length) != 0) return 0;
    long turn = __atomic_fetch_add(seen, 1, __ATOMIC_SEQ_CST);
    if (turn < first || turn >= first + many) return 0;
    errno = number;
    return 1;
}

static int fails_at(char call, int file) {
    if (below[0] == 0) return 0;
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

static int creates(const char *path, int flags) { return (flags & O_CREAT) && access(path, F_OK) != 0; }

/* A relative path is below where the process is. */
static const char *whole(const char *path, char *into) {
    char here[PATH_MAX];
    if (path[0] == '/' || getcwd(here, sizeof here) == NULL) return path;
    snprintf(into, PATH_MAX, "%.2000s/%.2000s", here, path);
    return into;
}

ssize_t write(int file, const void *data, size_t size) {
    return fails_at('w', file) ? -1 : REAL(write)(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return fails_at('w', file) ? -1 : REAL(pwrite)(file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    return fails_at('w', file) ? -1 : REAL(pwrite64)(file, data, size, at);
}
ssize_t writev(int file, const struct iovec *data, int count) {
    return fails_at('w', file) ? -1 : REAL(writev)(file, data, count);
}
ssize_t read(int file, void *data, size_t size) { return fails_at('r', file) ? -1 : REAL(read)(file, data, size); }
int fsync(int file) { return fails_at('s', file) ? -1 : REAL(fsync)(file); }
int posix_fallocate(int file, off_t at, off_t size) {
    return fails_at('a', file) ? number : REAL(posix_fallocate)(file, at, size);
}
int posix_fallocate64(int file, off64_t at, off64_t size) {
    return fails_at('a', file) ? number : REAL(posix_fallocate64)(file, at, size);
}
int mkdir(const char *path, mode_t mode) {
    char text[PATH_MAX];
    return fails('m', whole(path, text)) ? -1 : REAL(mkdir)(path, mode);
}
int rename(const char *from, const char *to) {
    char text[PATH_MAX];
    return fails('n', whole(to, text)) ? -1 : REAL(rename)(from, to);
}
#define OPEN(name)                                                                      \
    int name(const char *path, int flags, ...) {                                        \
        char text[PATH_MAX];                                                            \
        va_list rest;                                                                   \
        va_start(rest, flags);                                                          \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;       \
        va_end(rest);                                                                   \
        if (creates(path, flags) && fails('c', whole(path, text))) return -1;           \
        return REAL(name)(path, flags, mode);                                           \
    }
OPEN(open)
OPEN(open64)
