#include "daemon/embed_batch.h"

#include "base/checked.h"
#include "base/crash.h"
#include "finetune/bulk_encode.h"
#include "daemon/writer.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_BYTES = 4 << 20, /* of the texts */
    CUT_BYTES = 256 << 10  /* of texts that are cut into passages, whose vectors take more room than they do */
};

static size_t dim_of(const embed_batch *b)
{
    return space_dim(b->next->space);
}

/* Room for so many vectors; those in it may be lost. */
static sem_status reserve_vectors(embed_batch *b, size_t count, sem_error *err)
{
    size_t floats;
    if (count <= b->capacity)
        return SEM_OK;
    free(b->vectors);
    b->capacity = 0;
    b->vectors = checked_mul(count, dim_of(b), &floats) ? checked_alloc_aligned(floats, sizeof(float)) : NULL;
    if (b->vectors == NULL)
        return sem_fail_memory(err, "a batch of vectors");
    b->capacity = count;
    return SEM_OK;
}

sem_status embed_batch_begin(embed_batch *b, const job *j, serving *next, sem_error *err)
{
    b->job = j;
    b->next = next;
    return reserve_vectors(b, EMBED_BATCH_DOCUMENTS, err);
}

void embed_batch_end(embed_batch *b)
{
    document_cutter_end(&b->cutter);
    document_cut_free(&b->cut);
    serving_release(b->next);
    free(b->vectors);
    buffer_free(&b->texts);
}

/* --- collecting */

void embed_batch_set_collection(embed_batch *b, const store_collection *c)
{
    document_cutter_end(&b->cutter);
    b->collection = c->number;
    b->cuts = c->passage_tokens > 0;
    document_cutter_begin(&b->cutter, b->next->document, c);
}

bool embed_batch_is_full(const embed_batch *b)
{
    return b->count == EMBED_BATCH_DOCUMENTS || b->removed_count == EMBED_BATCH_DOCUMENTS ||
           b->texts.size > (b->cuts ? CUT_BYTES : BATCH_BYTES);
}

sem_status embed_batch_has(embed_batch *b, store_read *r, uint32_t collection, const store_document *doc, bool *has,
                           sem_error *err)
{
    uint64_t version = 0;
    bool found = false;
    sem_status status = store_vector_get(r, space_number(b->next->space), collection, doc->docno, b->vectors, dim_of(b),
                                         &version, &found, err);
    *has = status == SEM_OK && found && version == doc->text_version;
    return status;
}

sem_status embed_batch_add(embed_batch *b, const store_document *doc, sem_error *err)
{
    size_t offset = b->texts.size;
    if (!buffer_append(&b->texts, doc->text, doc->text_length))
        return sem_fail_memory(err, "a batch of documents");
    b->documents[b->count++] = (embed_batch_document){
        .docno = doc->docno, .version = doc->text_version, .offset = offset, .length = doc->text_length};
    return SEM_OK;
}

void embed_batch_add_known(embed_batch *b, uint32_t docno, uint64_t version, const float *vector)
{
    memcpy(b->vectors + b->count * dim_of(b), vector, dim_of(b) * sizeof *vector);
    b->documents[b->count++] = (embed_batch_document){.docno = docno, .version = version};
}

void embed_batch_remove(embed_batch *b, uint32_t docno)
{
    b->removed[b->removed_count++] = docno;
}

/* --- encoding */

static sem_status encode_texts(embed_batch *b, const bulk_text *texts, size_t count, sem_error *err)
{
    bulk_job work = {.model = b->next->document,
                     .prompt = model_config_document_prompt(model_get_config(b->next->document)),
                     .texts = texts,
                     .count = count,
                     .threads = b->job->threads,
                     .nice = b->job->settings.train.nice,
                     .cancel = b->job->cancel,
                     .out = b->vectors};
    return bulk_encode(&work, err);
}

static const char *text_of(const embed_batch *b, size_t i)
{
    return (const char *)b->texts.data + b->documents[i].offset;
}

/* As the target's tokenizer cuts them, which may differ from the current one's. */
static sem_status encode_passages(embed_batch *b, sem_error *err)
{
    for (size_t i = 0; i < b->count; i++) {
        sem_status status = document_cut_add(&b->cut, &b->cutter, text_of(b, i), b->documents[i].length, err);
        if (status != SEM_OK)
            return status;
    }
    sem_status status = reserve_vectors(b, b->cut.passages, err);
    bulk_text *texts = checked_realloc(NULL, b->cut.passages + 1, sizeof *texts);
    if (status == SEM_OK && texts == NULL)
        status = sem_fail_memory(err, "a batch of passages");
    for (size_t i = 0; status == SEM_OK && i < b->count; i++)
        for (size_t k = b->cut.first[i]; k < b->cut.first[i + 1]; k++)
            texts[k] = (bulk_text){text_of(b, i) + b->cut.ranges[k].from, b->cut.ranges[k].to - b->cut.ranges[k].from};
    if (status == SEM_OK)
        status = encode_texts(b, texts, b->cut.passages, err);
    free(texts);
    return status;
}

static sem_status encode(embed_batch *b, sem_error *err)
{
    bulk_text texts[EMBED_BATCH_DOCUMENTS];
    if (b->cuts)
        return encode_passages(b, err);
    for (size_t i = 0; i < b->count; i++)
        texts[i] = (bulk_text){text_of(b, i), b->documents[i].length};
    return encode_texts(b, texts, b->count, err);
}

/* --- committing: in the writer */

static const float *vectors_of(const embed_batch *b, size_t i)
{
    return b->vectors + document_cut_row(&b->cut, i) * dim_of(b);
}

static sem_status put_batch(void *context, store_write *w, sem_error *err)
{
    embed_batch *b = context;
    uint32_t number = space_number(b->next->space);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < b->count && status == SEM_OK; i++) {
        embed_batch_document *d = &b->documents[i];
        store_cut cut = document_cut_of(&b->cut, i);
        status = cut.count > 0 ? store_passages_put(w, number, b->collection, d->docno, d->version, vectors_of(b, i),
                                                    dim_of(b), &cut, &d->stored, err)
                               : store_vector_put(w, number, b->collection, d->docno, d->version, vectors_of(b, i),
                                                  dim_of(b), &d->stored, &d->slot, err);
    }
    crash_point("embed.committing");
    return status;
}

static sem_status index_one(embed_batch *b, vector_index *index, size_t i)
{
    const embed_batch_document *d = &b->documents[i];
    store_cut cut = document_cut_of(&b->cut, i);
    return cut.count > 0 ? vector_index_put_passages(index, d->docno, cut.slots, vectors_of(b, i), cut.count, b->err)
                         : vector_index_put_slot(index, d->docno, d->slot, vectors_of(b, i), b->err);
}

static void index_batch(void *context)
{
    embed_batch *b = context;
    crash_point("embed.committed");
    space_index *index = space_acquire(b->next->space, b->collection);
    for (size_t i = 0; index != NULL && i < b->count && b->indexed == SEM_OK; i++)
        if (b->documents[i].stored)
            b->indexed = index_one(b, index->index, i);
    for (size_t i = 0; index != NULL && i < b->removed_count; i++)
        vector_index_remove(index->index, b->removed[i]);
    space_index_release(index);
}

static sem_status commit(embed_batch *b, sem_error *err)
{
    write_call call = {.apply = put_batch, .committed = index_batch, .context = b};
    b->indexed = SEM_OK;
    b->err = err;
    sem_status status = writer_run(b->job->core->writer, &call, err);
    return status == SEM_OK ? b->indexed : status;
}

static sem_status finish(embed_batch *b, bool encoded, sem_error *err)
{
    sem_status status = SEM_OK;
    if (atomic_load(b->job->cancel))
        status = sem_fail(err, SEM_CANCELLED, "cancelled");
    if (status == SEM_OK && b->count + b->removed_count > 0) {
        status = encoded ? SEM_OK : encode(b, err);
        crash_point("embed.encoded");
        if (status == SEM_OK)
            status = commit(b, err);
        crash_point("embed.batch_done");
    }
    b->count = b->removed_count = b->texts.size = 0;
    document_cut_clear(&b->cut);
    return status;
}

sem_status embed_batch_finish(embed_batch *b, sem_error *err)
{
    return finish(b, false, err);
}

sem_status embed_batch_put(embed_batch *b, sem_error *err)
{
    return finish(b, true, err);
}
