/* Propensities and agreement from the event log: which documents were shown for which query at
 * which rank, and which of them were clicked. */
#ifndef SEM_FINETUNE_HARVEST_H
#define SEM_FINETUNE_HARVEST_H

#include "index/store.h"
#include "finetune/agreement.h"
#include "finetune/propensity.h"

enum { HARVEST_IMPRESSIONS = 2000000 /* the newest; about 64 MB while they are counted */ };

/* collection: whose searches; 0: all. upto: searches and clicks after the event of this number
 * are passed over; 0: none are. People look at lists, whatever is in them, so it is
 * one set of propensities for all. */
sem_status harvest_propensities(propensities *out, store_read *r, uint32_t collection, uint64_t upto,
                                const propensity_options *options, sem_error *err);

/* Of the same searches, which of the clicked documents are likely right (agreement.h). */
sem_status harvest_agreement(agreement *out, store_read *r, uint32_t collection, uint64_t upto,
                             const propensities *bias, sem_error *err);

/* How a query of a collection and a document of it are called in impressions. */
uint64_t harvest_query(uint32_t collection, const char *query, size_t length);
uint64_t harvest_document(const docid *id);

#endif
