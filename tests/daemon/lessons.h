/* Documents, and queries that share no word with those they ask for: only what was learned from
 * feedback brings them together. And a training that is quick. */
#ifndef SEM_TESTS_DAEMON_LESSONS_H
#define SEM_TESTS_DAEMON_LESSONS_H

#include "tests/daemon/blackbox.h"

enum { LESSON_TEXT_MAX = 128 };

/* Different for every i below 512: the model's small vocabulary knows no numbers. */
static inline void lesson_document(unsigned i, char out[LESSON_TEXT_MAX])
{
    static const char *const topics[] = {"refund", "card", "transfer", "account", "exchange", "cash", "limit", "fee"};
    snprintf(out, LESSON_TEXT_MAX, "my %s and a %s or %s in the bank", topics[i % 8], topics[i / 8 % 8],
             topics[i / 64 % 8]);
}

/* Asks for document i. Every topic has another name here: what is learned from some of them
 * holds for the others, so the gate sees a gain whichever it holds out. */
static inline void lesson_query(unsigned i, char out[LESSON_TEXT_MAX])
{
    static const char *const names[] = {"music", "dog", "tree", "water", "king", "snow", "bread", "sun"};
    snprintf(out, LESSON_TEXT_MAX, "%s and %s or %s", names[i % 8], names[i / 8 % 8], names[i / 64 % 8]);
}

static inline void lesson_upsert(box *b, unsigned i)
{
    char text[LESSON_TEXT_MAX];
    lesson_document(i, text);
    box_call(b, "upsert", "{'docs': [{'id': %u, 'text': '%s'}]}", i, text);
}

/* Feedback on each of the documents 0 to count - 1. */
static inline void lesson_feedback(box *b, unsigned count)
{
    char query[LESSON_TEXT_MAX];
    for (unsigned i = 0; i < count; i++) {
        lesson_query(i, query);
        box_call(b, "feedback", "{'pairs': [{'query': '%s', 'id': %u, 'label': 1}]}", query, i);
    }
}

/* Puts options for such a training before the start, returns how many. promote: the gate lets
 * everything through, else it hardly lets anything. */
static inline size_t lesson_options(box *b, bool promote)
{
    const char *const options[] = {
        "finetune.min_pairs=20",     "finetune.min_heldout=1",
        "finetune.max_probe_loss=1", "train.batch_size=16",
        "train.learning_rate=0.002", "train.epochs=6",
        "train.dropout=0",           promote ? "finetune.max_p=1" : "finetune.max_p=0.000001"};
    memcpy(b->options, options, sizeof options);
    return sizeof options / sizeof *options;
}

/* Trains with more than so many pairs until it helps with the queries that this store's secret
 * has held out, which may take some jobs. Returns how many; the last one is in b->reply. */
static inline unsigned lesson_finetune_until_promoted(box *b, unsigned pairs)
{
    enum { JOBS_MAX = 9 };
    for (unsigned i = 1;; i++) {
        const msgpack_object *job = box_call(b, "finetune", "{'wait': true}"), *reason = object_get(job, "reason");
        ck_assert_uint_gt(object_uint(object_get(job, "pairs"), 0), pairs);
        if (object_is(object_get(job, "decision"), "promoted"))
            return i;
        bool told = reason != NULL && reason->type == MSGPACK_OBJECT_STR;
        ck_assert_msg(i < JOBS_MAX, "nothing was promoted: %.*s", told ? (int)reason->via.str.size : 0,
                      told ? reason->via.str.ptr : "");
    }
}

#endif
