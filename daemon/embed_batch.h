/* Documents on their way into a job's target: collected, encoded with its model, and
 * committed together. */
#ifndef SEM_DAEMON_EMBED_BATCH_H
#define SEM_DAEMON_EMBED_BATCH_H

#include "base/buffer.h"
#include "base/status.h"
#include "index/store.h"
#include "daemon/document_cut.h"
#include "daemon/job.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EMBED_BATCH_DOCUMENTS = 256 /* embedded and committed together */ };

typedef struct embed_batch_document {
    uint32_t docno;
    uint64_t version;
    size_t offset, length; /* of the text in texts */
    bool stored;
    uint32_t slot;
} embed_batch_document;

/* Of one collection, in the job's thread. All zero before embed_batch_begin(); one that was not
 * begun may be ended. */
typedef struct embed_batch {
    const job *job; /* borrowed */
    serving *next;  /* the target; a reference */
    uint32_t collection;
    bool cuts; /* its documents are cut, by: */
    document_cutter cutter;
    document_cut cut;
    embed_batch_document documents[EMBED_BATCH_DOCUMENTS];
    size_t count;
    uint32_t removed[EMBED_BATCH_DOCUMENTS]; /* to be taken out of the index; numbers are not used again */
    size_t removed_count;
    buffer texts;
    float *vectors; /* [capacity, dim], of documents or passages; EMBED_BATCH_DOCUMENTS at least */
    size_t capacity;
    sem_status indexed; /* how filling the index went, after the commit */
    sem_error *err;     /* for it */
} embed_batch;

/* Takes the reference to next, on errors too. */
sem_status embed_batch_begin(embed_batch *b, const job *j, serving *next, sem_error *err);
void embed_batch_end(embed_batch *b);

/* What is collected next is of c; the batch is empty. */
void embed_batch_set_collection(embed_batch *b, const store_collection *c);

/* No more documents now, or no more that are gone. */
bool embed_batch_is_full(const embed_batch *b);

/* Whether the target's space has the document's vector, made from the text that it has in r. Known
 * vectors that were added and not put are lost. In the writer too, while the job waits for it. */
sem_status embed_batch_has(embed_batch *b, store_read *r, uint32_t collection, const store_document *doc, bool *has,
                           sem_error *err);

/* Adds a document, whose text is copied; room is the caller's to ask for. */
sem_status embed_batch_add(embed_batch *b, const store_document *doc, sem_error *err);
/* One whose vector [dim] is known: for embed_batch_put(). */
void embed_batch_add_known(embed_batch *b, uint32_t docno, uint64_t version, const float *vector);
/* One that is gone. */
void embed_batch_remove(embed_batch *b, uint32_t docno);

/* Encodes and commits what was collected, and empties the batch. A document whose text has changed
 * meanwhile is passed over. SEM_CANCELLED when the job is. */
sem_status embed_batch_finish(embed_batch *b, sem_error *err);
/* The same for documents whose vectors are known: commits only. */
sem_status embed_batch_put(embed_batch *b, sem_error *err);

#endif
