/* Preloaded into a process: its wall clock is off by the seconds in the file $WALL_CLOCK_OFFSET. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  const char *path = getenv("WALL_CLOCK_OFFSET");
  FILE *file = clock == CLOCK_REALTIME && path ? fopen(path, "re") : NULL;
  long offset = 0;
  if (file) {
    if (fscanf(file, "%ld", &offset) == 1) now->tv_sec += offset;
    fclose(file);
  }
  return failed;
}
