/* Documents, lessons and queries of the benchmark, as many as are wanted, made of package
 * descriptions. */
#ifndef SEM_BENCH_ONLINE_TEXTS_H
#define SEM_BENCH_ONLINE_TEXTS_H

#include "base/status.h"
#include "proto/pack.h"
#include "tools/demo/corpus.h"
#include "tools/demo/traffic.h"

#include <stddef.h>

typedef struct online_texts {
    corpus *packages; /* owned: the first documents, and what people ask */
    char **more;      /* [more_count] owned: long descriptions of all packages */
    size_t more_count;
} online_texts;

/* path: the demonstration's packages.jsonl. Freed by online_texts_free() on errors too. */
sem_status online_texts_load(online_texts *t, const char *path, sem_error *err);
void online_texts_free(online_texts *t);

/* Document `number` as a map of `docs`, its number being its id: the corpus's packages first, then
 * the others, and beyond these two of them joined, no two alike. context: an online_texts. */
void online_texts_document(void *context, size_t number, packer *p);

/* Query `number`: two one-line descriptions joined, so that none comes twice in 20 million.
 * context: an online_texts. */
void online_texts_query(const void *context, size_t number, char out[TRAFFIC_QUERY_MAX]);

#endif
