/* Documents that are clicked for whatever is asked. Queries for which one document is right are more
 * alike than any two queries are; where those of a document are not, its clicks say nothing about
 * what it is about, whoever they come from. */
#ifndef SEM_FINETUNE_FOCUS_H
#define SEM_FINETUNE_FOCUS_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "finetune/pairs.h"

#include <stdatomic.h>
#include <stddef.h>

enum {
    FOCUS_QUERIES = 8,   /* different ones that a document has at least to be looked at: of fewer chance decides */
    FOCUS_DOCUMENTS = 5, /* of two queries or more that say what is usual, at least */
};

typedef struct focus_options {
    double least;       /* what a document must have of the focus that is usual; 0: off */
    const model *model; /* encodes queries; borrowed */
    unsigned threads;
    niceness nice;
    const atomic_bool *cancel; /* may be NULL */
} focus_options;

typedef struct focus_report {
    size_t documents; /* that were looked at */
    size_t left_out;
    size_t pairs; /* of those */
} focus_report;

/* Takes the pairs of such documents out of the set. With c the mean cosine between a document's
 * different queries, m its median over the domain's documents of two queries or more, and a the mean
 * over all the domain's queries, a document of FOCUS_QUERIES or more stays where
 * (c - a) / (m - a) is at least `least`. Where the model finds a document's queries hardly more alike
 * than others (m - a below a tenth of 1 - a) all stay. Encodes queries only where there is such a document. */
sem_status focus_pairs(pair_set *set, const focus_options *options, focus_report *report, sem_error *err);

#endif
