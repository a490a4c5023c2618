/* Preloaded into a server under test: sets its wall clock, and lets its disk stand still.

   HARM names a file of two numbers that is mapped by all processes: seconds to add to the wall
   clock, and whether who opens an adapter's weights has to wait until it is 0 again. A fork that is
   given it later calls `harm_from`; a process that is given none is harmed by nothing. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct harm {
    int64_t clock_seconds;
    int64_t disk_stands_still;
};

static volatile struct harm none;
static volatile struct harm *harm = &none;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

void harm_from(const char *path) {
    int (*real_open)(const char *, int, ...) = next("open");
    int fd = path ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *harm, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) harm = mapped;
    close(fd);
}

__attribute__((constructor)) static void begin(void) { harm_from(getenv("HARM")); }

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = next("clock_gettime");
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += harm->clock_seconds;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = next("gettimeofday");
    int failed = real(at, zone);
    if (!failed) at->tv_sec += harm->clock_seconds;
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static void wait_for_disk(const char *path) {
    struct timespec pause = {0, 10 * 1000 * 1000};
    if (path && strstr(path, ".safetensors"))
        while (harm->disk_stands_still) nanosleep(&pause, NULL);
}

#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                         \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode = va_arg(more, mode_t);                                                               \
        va_end(more);                                                                              \
    }

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        static int (*real)(const char *, int, ...);                                                \
        if (!real) real = next(#name);                                                             \
        MODE(flags)                                                                                \
        wait_for_disk(path);                                                                       \
        return real(path, flags, mode);                                                            \
    }

#define OPENAT(name)                                                                               \
    int name(int folder, const char *path, int flags, ...) {                                       \
        static int (*real)(int, const char *, int, ...);                                           \
        if (!real) real = next(#name);                                                             \
        MODE(flags)                                                                                \
        wait_for_disk(path);                                                                       \
        return real(folder, path, flags, mode);                                                    \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
