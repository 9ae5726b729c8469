/* How a search was done: what explain answers with. */
#ifndef SEM_DAEMON_EXPLANATION_H
#define SEM_DAEMON_EXPLANATION_H

#include "base/buffer.h"
#include "model/tokenizer.h"
#include "index/lexical_search.h"
#include "index/vector_index.h"
#include "proto/pack.h"
#include "daemon/serving.h"
#include "daemon/task.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum explain_step {
    STEP_QUEUE,    /* from the request's arrival to a worker */
    STEP_TOKENIZE, /* the query's text */
    STEP_ENCODE,   /* its tokens */
    STEP_FILTER,   /* which documents may be hits */
    STEP_COARSE,   /* which lists are near */
    STEP_SCAN,     /* comparing their rows */
    STEP_RANK,     /* the final order */
    STEP_LEXICAL,  /* the search for words, its wait for the index included */
    STEP_FETCH,    /* the hits' ids and what is wanted with them */
    STEP_COUNT
} explain_step;

typedef struct explanation {
    const char *prompt; /* put before the text; NULL: there is no text */
    token_batch tokens; /* of prompt and text; owned by who made this */
    bool truncated;
    double recall;               /* that was aimed at */
    vector_plan plan;            /* modes dense and hybrid */
    lexical_candidates *lexical; /* modes lexical and hybrid; owned by who searches */
    uint64_t ns[STEP_COUNT];
} explanation;

/* The whole result of explain; hits is a packed array. */
void explanation_pack(packer *p, const explanation *x, const task *t, const serving *s, const store_collection *c,
                      const buffer *hits);

#endif
