/* The texts and judgements of an evaluation, in memory. */
#ifndef SEM_FINETUNE_SUITE_SET_H
#define SEM_FINETUNE_SUITE_SET_H

#include "base/buffer.h"
#include "finetune/data_example.h"
#include "finetune/mine_set.h"
#include "finetune/suite.h"

#include <stdbool.h>
#include <stdint.h>

/* Pairs in the order in which they were read. All to be freed also after a failure. */
typedef struct suite_texts {
    example_list pairs;
    data_text *anchors, *positives; /* [pairs.count] */
    double *scores;                 /* [pairs.count] 0 where there is none */
} suite_texts;

/* At least one. */
sem_status suite_texts_load(suite_texts *out, const data_options *data, sem_error *err);
void suite_texts_free(suite_texts *t);

typedef struct suite_judgement {
    uint32_t query, document;
} suite_judgement;

typedef struct suite_judged {
    const data_text *queries; /* [query_count] */
    size_t query_count;
    const data_text *documents; /* [document_count] */
    size_t document_count;
    suite_judgement *judgements; /* [judgement_count] what is relevant, sorted */
    size_t judgement_count;
    size_t *relevant_counts; /* [query_count] */
    /* what the texts lie in */
    mine_set pairs;
    buffer strings;
    data_text *texts; /* queries and documents of files of their own */
} suite_judged;

sem_status suite_judged_from_pairs(suite_judged *out, const data_options *data, sem_error *err);
sem_status suite_judged_from_beir(suite_judged *out, const suite_beir *files, sem_error *err);
void suite_judged_free(suite_judged *j);

bool suite_is_relevant(const suite_judged *j, size_t query, size_t document);

#endif
