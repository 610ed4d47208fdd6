/* micro.c - see micro.h. */
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(const double *sorted, int reps)
{
    return (sorted[(reps - 1) / 2] + sorted[reps / 2]) / 2;
}

void print_line(const char *bench, int workers, long ops, int reps, double *ns)
{
    qsort(ns, (size_t)reps, sizeof *ns, ascending);
    printf("{\"bench\":\"%s\",\"workers\":%d,\"ops\":%ld,\"reps\":%d,\"ns_min\":%.2f,\"ns_med\":%."
           "2f}\n",
            bench, workers, ops, reps, ns[0], median(ns, reps));
}

void print_ratio(const char *bench, int workers, long ops, int reps, const double *ns, const double *bare)
{
    printf("{\"bench\":\"%s\",\"workers\":%d,\"ops\":%ld,\"reps\":%d,\"of_min\":%.2f,\"of_med\":%.2f}\n",
            bench, workers, ops, reps, ns[0] / bare[0], median(ns, reps) / median(bare, reps));
}

long word(char **words, const char *key, long otherwise, long least, long most)
{
    size_t bytes = strlen(key);
    long value = otherwise;
    for (; *words; words++)
        if (strncmp(*words, key, bytes) == 0 && (*words)[bytes] == '=')
            value = strtol(*words + bytes + 1, NULL, 10);
    if (value < least || value > most) {
        fprintf(stderr, "%s is %ld to %ld\n", key, least, most);
        exit(2);
    }
    return value;
}
