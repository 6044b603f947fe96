/* What the programs that try many random mailboxes have in common: processes that share them out, and sessions in children. */
#ifndef FAULT_WORKERS_H
#define FAULT_WORKERS_H

#include "mailbox.h"

/* Zeroed, and shared with all children. */
void *shared_memory(size_t bytes);

/* One more, in shared memory. */
void count_one(uint32_t *counter);

/* What the programs count, in shared memory. */
struct counts {
	uint32_t kills, tears;		/* crashes after a call, and in the middle of a write */
	uint32_t calls, durable;	/* calls that failed, and how many did not keep UPDATE from its end */
	uint32_t states;		/* of a disk after a loss of power */
	uint32_t nested, appended;	/* recoveries that were stopped, too; messages that came in */
	uint32_t befores, parts, afters, failures;
};

struct worker {
	struct place place;
	struct counts *counts;
	volatile bool *durable;		/* UPDATE has said so; shared with the session */
	uint64_t random;
	uint32_t seed;			/* the number of the case */
	struct mailbox mailbox;		/* made from it */
};

struct fault_test {
	const char *name;		/* of the program */
	void (*try_case)(struct worker *worker);
	uint32_t mboxes, maildirs;	/* how many cases, where the command line does not say */
	void (*tell)(const struct counts *counts);	/* one line of what was tried, to begin with "#" */
	bool (*tried)(const struct counts *counts);	/* whether that is what was to be tried */
	const char *claim;
};

/*
 * All of a program's main():
 *
 *	NAME [mbox|maildir [CASES [FIRST]]]
 *
 * Calls try_case for the cases from FIRST on, in many processes: a login waits some milliseconds for the clock of the file
 * system, so there is room for them.
 */
int fault_main(const struct fault_test *test, int argc, char **argv);

/* The maildrop of the case as it was before, and nothing else; nothing is durable. */
void worker_begin(struct worker *worker);

/* To be called in children: bodies of sessions.  arg is the worker. */
void update_body(void *arg);
void login_body(void *arg);

/* A login in a child of its own, like every login: locks belong to processes.  True when all was right. */
bool login(struct worker *worker);

/* Whether the maildrop is what it may be: after a durable UPDATE only as after it.  Counts what it was. */
bool is_right(struct worker *worker, late_set late, bool durable);

/* Half of the time: late message number n comes in, and is added to late. */
void mail_comes_in(struct worker *worker, late_set *late, uint32_t n);

#endif
