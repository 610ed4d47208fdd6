/* micro.h - what the micro benchmarks share: a clock, arguments, and the line that each result is printed as. */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

enum { REPS_MAX = 1000 };

double now_ns(void);
/* The value of key=value among the words, or `otherwise`; ends the program if it is out of range. */
long word(char **words, const char *key, long otherwise, long least, long most);
double median(const double *sorted, int reps);
/* Sorts the repetitions. */
void print_line(const char *bench, int workers, long ops, int reps, double *ns);
/* Of sorted repetitions. */
void print_ratio(const char *bench, int workers, long ops, int reps, const double *ns, const double *bare);

#endif
