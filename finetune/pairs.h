/* From judgements (clicks and feedback) to training pairs and held-out queries. */
#ifndef SEM_FINETUNE_PAIRS_H
#define SEM_FINETUNE_PAIRS_H

#include "base/status.h"
#include "index/events.h"
#include "index/store.h"
#include "finetune/agreement.h"
#include "finetune/propensity.h"
#include "finetune/skipped.h"
#include "finetune/trainer.h"
#include "finetune/trust.h"

/* A held-out query with a document that people chose for it: one entry for each
 * such document. */
typedef struct heldout_query {
    uint64_t key; /* equal: one query, however it is spelt and in whatever collection (holdout_key) */
    const char *query;
    size_t query_length;
    uint32_t collection;
    bool by_id; /* docno names the document; else document_text is it */
    uint32_t docno;
    const char *document;
    size_t document_length;
    double weight;         /* of the votes, as of a pair: what is left of position bias and distrust */
    const uint32_t *shown; /* [shown_count] docnos of what was shown where it was clicked, its own included */
    size_t shown_count;    /* 0: feedback, or one of the newest */
} heldout_query;

/* As a docno: the text is feedback's own. */
#define PAIR_NO_DOCUMENT UINT32_MAX

/* A text that pairs have as document or negative, once. */
typedef struct pair_document {
    uint32_t collection, docno; /* that had the text; of several any one */
    const char *text;
    size_t length;
} pair_document;

typedef struct pair_set {
    train_pair *pairs;
    size_t count;
    train_negative *negatives; /* [negative_count] what the pairs' own negatives are part of */
    size_t negative_count;
    pair_document *documents; /* [document_count] */
    size_t document_count;
    uint32_t *pair_documents;     /* [count] the number of each pair's document */
    uint32_t *negative_documents; /* [negative_count] and of each negative */
    heldout_query *heldout;
    size_t heldout_count;
    uint32_t *shown;        /* what the held-out queries' own are part of */
    size_t heldout_queries; /* different ones among them */
    heldout_query *newest;  /* held out for this round, because they came last */
    size_t newest_count;
    uint64_t last;            /* up to this judgement all that is to be trained on is in pairs; 0: there is none */
    size_t skipped;           /* judgements whose document or collection is gone or external, and (query, document)s
                     * judged bad or taken back last, or that nobody who is trusted voted for */
    skipped_report passed_by; /* what became of the documents above clicked ones */
    void *texts;              /* the strings' memory, */
    void *mined_texts;        /* and that of mined negatives' (pair_mine.h) */
} pair_set;

/* Zeroed but for the first three: every vote counts 1, and pairs have no negatives. */
typedef struct pair_options {
    uint32_t collection;      /* 0: all */
    uint64_t upto;            /* judgements after the event of this number are not read; 0: all are */
    double heldout_share;     /* of the queries, chosen by a keyed hash: the same ones in every round (holdout.h) */
    double newest_share;      /* of the others of which no vote was trained on before: those judged first last, which
                               * are left for the next round */
    const unsigned char *key; /* 16 bytes for that hash */
    const propensities *bias; /* a click counts by its rank (propensity_weight); NULL: all alike */
    double most_weight;       /* of one click, with bias */
    const agreement
        *agreed; /* a click that is trained on counts by the chance that its document is right; NULL: by 1 */
    trust_options trust;
    size_t negatives; /* documents passed by above a clicked one that a pair has as hard negatives, at most */
    uint64_t trained; /* judgements up to this one were trained on before: pairs whose first vote is among them are
                       * replayed; 0: all are new */
} pair_options;

/* Reads every judgement, but for those of external collections, whose vectors no model
 * makes: nothing is learnt from them. One vote a user, query and document, the latest (all
 * who gave no name are one user here): of a click its weight, at most 1, over the
 * propensity of its rank; of feedback 1. A negative label takes back all that came before
 * it, whoever voted. A pair weighs what its votes do, less what trust.h takes; pairs come in
 * order of the first vote. Documents of equal text are one document. Texts are read from
 * the store and copied. */
sem_status pair_set_collect(pair_set *out, store_read *r, const pair_options *options, sem_error *err);
void pair_set_free(pair_set *set);

/* Whether a query of this text is held out, in whatever spelling (holdout.h): a pure function
 * of the text, so that one that was held out once is so in every round. */
bool pair_is_held_out(const unsigned char key[16], double share, const char *query, size_t length);

#endif
