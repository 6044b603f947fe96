/* What the programs that try many random mailboxes have in common: processes that share them out, and sessions in children. */
#ifndef FAULT_WORKERS_H
#define FAULT_WORKERS_H

#include "mailbox.h"

/* Zeroed, and shared with all children. */
void *shared_memory(size_t bytes);

/* One more, in shared memory. */
void count_one(uint32_t *counter);

struct worker {
	struct place place;
	void *counts;			/* in shared memory */
	volatile bool *durable;		/* UPDATE has said so; shared with the session */
	uint64_t random;
	uint32_t seed;			/* the number of the case */
	struct mailbox mailbox;		/* made from it */
};

/*
 * Calls try_case for the cases from first on, in many processes: a login waits some milliseconds for the clock of the file
 * system, so there is room for them.  False when one of them did not come to its end.
 */
bool workers_run(const char *name, void (*try_case)(struct worker *worker), void *counts, uint32_t first, uint32_t cases);

/* The mbox of the case as it was before, and nothing else; nothing is durable. */
void worker_begin(struct worker *worker);

/* To be called in children: bodies of sessions.  arg is the worker. */
void update_body(void *arg);
void login_body(void *arg);

/* A login in a child of its own, like every login: locks belong to processes.  True when all was right. */
bool login(struct worker *worker);

/*
 * Whether the mbox is as before or after, with late behind it; after a durable UPDATE only the latter.  Counts what it
 * was.
 */
bool is_before_or_after(struct worker *worker, struct text late, bool durable, uint32_t *befores, uint32_t *afters);

/* Half of the time: late message number n comes in, and is added to late. */
bool append_some(struct worker *worker, struct text *late, uint32_t n);

#endif
