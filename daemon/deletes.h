/* What was deleted lately: so that no answer holds a document whose delete was
 * answered before it.
 *
 * The writer notes deletes after their commit and before their answer. An answer that
 * holds documents goes out while its sender has entered, which it may when none of
 * them was deleted since it looked. Answers are written in the order in which they
 * are sent, so what is sent before a delete is noted is written before its answer. */
#ifndef SEM_DAEMON_DELETES_H
#define SEM_DAEMON_DELETES_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct deletes deletes;

sem_status deletes_create(deletes **out, sem_error *err);
void deletes_destroy(deletes *d); /* accepts NULL */

/* Writer thread, between commit and answer. */
void deletes_note(deletes *d, uint32_t collection, const uint32_t *docnos, size_t count);
/* The same for all documents of a collection that was dropped. */
void deletes_note_drop(deletes *d, uint32_t collection);

/* How many were noted ever. Read before a snapshot is taken: the snapshot does not
 * know what was noted by then. Any thread. */
uint64_t deletes_count(const deletes *d);

typedef enum deletes_verdict {
    DELETES_NONE,   /* none of the documents; entered: deletes_leave must follow, soon */
    DELETES_SOME,   /* at least one of them */
    DELETES_UNKNOWN /* so many were noted that it is not known: take a newer snapshot, and look there */
} deletes_verdict;

/* Whether documents docnos[count], in ascending order, were deleted since the count
 * was `seen`. Any thread. */
deletes_verdict deletes_enter(deletes *d, uint64_t seen, uint32_t collection, const uint32_t *docnos, size_t count);
void deletes_leave(deletes *d);

#endif
