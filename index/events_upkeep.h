/* Events that go: what is too old, the oldest for want of room, and what somebody wants
 * erased. One thread at a time does any of it; searches and clicks are logged meanwhile.
 *
 * A search goes together with its clicks, and a click never goes before its search, but
 * for one on a document that is erased. Ranks stay as they were: a document that is erased
 * leaves an empty place in what its searches showed. */
#ifndef SEM_INDEX_EVENTS_UPKEEP_H
#define SEM_INDEX_EVENTS_UPKEEP_H

#include "index/events.h"

typedef enum events_rule_kind {
    EVENTS_OLDER,      /* older than before_ms; a search not before the last click on it is */
    EVENTS_OLDEST,     /* any, the first of the log first */
    EVENTS_BEFORE,     /* older than before_ms; a search whatever clicks came later */
    EVENTS_OF_USER,    /* searches of the user */
    EVENTS_OF_DOCUMENT /* feedback that names the id, searches like it or that showed nothing else; other searches
                        * lose it, with the click on it */
} events_rule_kind;

typedef struct events_rule {
    events_rule_kind kind;
    int64_t before_ms;
    uint64_t bytes; /* EVENTS_OLDEST: about so many of them together */
    uint64_t user_hash;
    docid id;
} events_rule;

enum { EVENTS_DUE_MAX = 256 /* searches and feedback that are removed in one transaction */ };

typedef struct events_due {
    uint64_t seqs[EVENTS_DUE_MAX];
    size_t count;
    uint64_t last; /* what comes up to it was looked at */
    uint64_t old;  /* the last of those that is older than the rule's before_ms, named or not */
    bool more;     /* there is more to look at */
} events_due;

/* Finds events with seq above `after` that the rule names: EVENTS_DUE_MAX at most, and not for long. */
sem_status events_find_due(store_read *r, const events_rule *rule, uint64_t after, events_due *out, sem_error *err);

/* Removes those that the rule still names. All or none. *removed: events that are gone or, for
 * EVENTS_OF_DOCUMENT, searches that lost it. */
sem_status events_remove_due(store_write *w, const events_rule *rule, const events_due *due, uint64_t *removed,
                             sem_error *err);

/* How many judgements have ever been logged, removed ones among them: it never falls. */
sem_status events_judgements_ever(store_read *r, uint64_t *count, sem_error *err);

/* --- the file: pages that are free keep what was in them until it is written anew */

/* Notes that something was erased, until the file has been written anew. */
sem_status events_note_erased(store_write *w, sem_error *err);
/* Whether that is noted: a crash or a full disk came between. */
sem_status events_erased_noted(store_read *r, bool *noted, sem_error *err);

typedef struct events_size {
    uint64_t used; /* bytes of pages that hold something */
    uint64_t file; /* bytes of all pages */
} events_size;
/* Any thread. */
void events_measure(store *s, events_size *out);

/* Writing it anew: a copy record by record from a snapshot, then what came since, then both change
 * places. Until then a crash leaves the old file, after it the new one. */
typedef struct events_rewrite events_rewrite;

/* Called now and then; what is not SEM_OK ends the copying with that error. */
typedef sem_status events_step(void *context, sem_error *err);

/* Copies a snapshot. No group of the calling thread may be open. */
sem_status events_rewrite_begin(events_rewrite **out, store *s, events_step *step, void *context, sem_error *err);
/* Copies what was committed since: from a snapshot of the reader, or with the view of the last group of all
 * before events_rewrite_finish. *copied: events. */
sem_status events_rewrite_follow(events_rewrite *e, store_read *r, uint64_t *copied, sem_error *err);
/* The writer's thread, no group open, after a group that followed was committed and before any other
 * begins: from here on the new file is the log. Reads that are in the old one stay there. */
sem_status events_rewrite_finish(events_rewrite *e, sem_error *err);
/* Removes what is left: the old file where it was finished, else the new one. Accepts NULL. Where that fails the
 * next rewriting does it, and should be soon: what was erased is in the old file. */
sem_status events_rewrite_end(events_rewrite *e, sem_error *err);
/* Whether it failed. The thread that rewrites, between two times. */
bool events_rewrite_left(const store *s);

#endif
