/* Loading many documents: batches of them in several requests at once. */
#ifndef SEM_TOOLS_SEMCTL_BULK_H
#define SEM_TOOLS_SEMCTL_BULK_H

#include "tools/semctl.h"
#include "tools/semctl_text.h"

typedef struct bulk bulk;

/* total_bytes: of input, for the bar; 0: unknown. collection and generation may
 * be NULL. Asks the server for its limits. */
sem_status bulk_create(bulk **out, semctl *ctl, const char *collection, const char *generation, uint64_t total_bytes,
                       sem_error *err);
void bulk_destroy(bulk *b); /* accepts NULL */

/* One document, packed. source (borrowed until bulk_destroy) and line (0: the
 * whole file) are for messages. input_bytes: how much of the input it was. A
 * document that is refused is reported and counted, and the others go on; an
 * error means that nothing more can be done. */
sem_status bulk_add(bulk *b, const void *doc, size_t size, size_t text_bytes, const char *source, size_t line,
                    size_t input_bytes, sem_error *err);

/* Counts and reports a document that could not be read. */
void bulk_reject(bulk *b, const char *source, size_t line, const char *reason);

/* Every line of a JSON Lines stream. */
sem_status bulk_add_lines(bulk *b, FILE *in, const char *source, sem_error *err);

/* Sends what is left, waits for all answers, prints the sum. An error when any document failed. */
sem_status bulk_finish(bulk *b, sem_error *err);

#endif
