/* BM25 over texts in memory or a temporary file, by SQLite's FTS5: its k1 of 1.2, b of
 * 0.75 and inverse document frequency. One thread at a time. */
#ifndef SEM_FINETUNE_MINE_WORDS_H
#define SEM_FINETUNE_MINE_WORDS_H

#include "base/status.h"
#include "finetune/data_example.h"

typedef struct mine_words mine_words;

/* An index of texts [count]; they are not needed afterwards. */
sem_status mine_words_create(mine_words **out, const data_text *texts, size_t count, sem_error *err);
void mine_words_destroy(mine_words *w); /* accepts NULL */

typedef struct mine_word_hit {
    uint32_t document; /* number of the text */
    float score;       /* higher is better */
} mine_word_hit;

/* The texts that have a word with the query in common: at most k, best first, ties by
 * number, in hits[k]. */
sem_status mine_words_search(mine_words *w, data_text query, size_t k, mine_word_hit *hits, size_t *count,
                             sem_error *err);

#endif
