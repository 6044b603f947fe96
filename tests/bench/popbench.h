/* The parts of the measuring client, popbench: each runs one kind of measurement and prints its result as one line of JSON. */
#ifndef BENCH_POPBENCH_H
#define BENCH_POPBENCH_H

/* What all users of the benchmark have. */
#define BENCH_PASSWORD "bench"

/*
 * rate PORT CONCURRENCY MILLISECONDS [PREFIX]: connections, each after the other in CONCURRENCY places: greeting, QUIT; with
 * PREFIX also USER PREFIX<place>, PASS and STAT in between.
 */
int rate_main(int argc, char **argv);

/* hold PORT COUNT [PREFIX]: opens COUNT connections (and logs in), prints "held", ends when standard input does. */
int hold_main(int argc, char **argv);

/* steps PORT USER STEP...: one session; see steps.c. */
int steps_main(int argc, char **argv);

/* verify PORT USER MANIFEST MISSING: fetches everything and compares; see verify.c. */
int verify_main(int argc, char **argv);

/* Prints a line that the caller waits for, then waits for one from it (or the end of standard input). */
void hold(void);

#endif
