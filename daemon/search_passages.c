/* Searches where documents are cut into passages: which passage a hit is, and what is
 * like a document of several. */
#include "base/checked.h"
#include "daemon/search.h"

#include <math.h>
#include <stdlib.h>

/* Passages of a document that are searched for what is like it, unless that is to be
 * exact: of more, so many that lie evenly in it. Each takes a search. */
enum { LIKE_MAX = 128 };

/* --- like */

static int by_document(const void *a, const void *b)
{
    const vector_hit *x = a, *y = b;
    if (x->docno != y->docno)
        return x->docno < y->docno ? -1 : 1;
    return (x->score < y->score) - (x->score > y->score);
}

static int best_first(const void *a, const void *b, void *context)
{
    const vector_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return search_compare_ids(context, x->docno, y->docno);
}

/* Keeps of each document the best hit, and of these the k best, in all[*count]. A document
 * that is among the k best by its best passage is so in the search of that passage. */
static void keep_best(search *s, vector_hit *all, size_t *count, size_t k)
{
    size_t kept = 0;
    if (*count == 0)
        return;
    qsort(all, *count, sizeof *all, by_document);
    for (size_t i = 0; i < *count; i++)
        if (kept == 0 || all[kept - 1].docno != all[i].docno)
            all[kept++] = all[i];
    qsort_r(all, kept, sizeof *all, best_first, s);
    *count = kept < k ? kept : k;
}

/* How many passages the document has, and how many of them are searched. */
static sem_status count_passages(search *s, size_t *count, size_t *used, sem_error *err)
{
    store_passage passage;
    size_t first = 0;
    bool there;
    sem_status status = store_passage_find(s->worker->read, search_space(s), s->collection.number, s->exclude, NULL,
                                           &first, &passage, &there, err);
    *count = !there ? 0 : passage.count > 0 ? passage.count : 1;
    *used = *count > LIKE_MAX && !s->request->u.search.exact ? LIKE_MAX : *count;
    return status;
}

sem_status search_like_passages(search *s, size_t k, sem_error *err)
{
    size_t both, best = 0, found = 0, count, used;
    vector_hit *all = checked_mul(k, 2, &both) ? checked_realloc(NULL, both + 1, sizeof *all) : NULL;
    if (all == NULL)
        return sem_fail_memory(err, "hits");
    sem_status status = count_passages(s, &count, &used, err);
    for (size_t i = 0; status == SEM_OK && i < used; i++) {
        store_passage passage;
        bool there = false;
        status = task_check_deadline(s->task, err);
        if (status == SEM_OK)
            status = store_passage_get(s->worker->read, search_space(s), s->collection.number, s->exclude,
                                       i * count / used, s->vector, s->dim, &passage, &there, err);
        if (status == SEM_OK && there)
            status = search_scan(s, k, all + best, &found, err);
        if (status != SEM_OK || !there)
            continue;
        best += found;
        keep_best(s, all, &best, k);
    }
    for (size_t i = 0; i < best; i++)
        s->hits[i] = all[i];
    s->count = best;
    free(all);
    return status;
}

/* --- hits that were found by words */

static sem_status place_words(search *s, hit_parts *parts, uint32_t docno, sem_error *err)
{
    store_document doc;
    bool found;
    double best = -1;
    sem_status status = store_document_by_number(s->worker->read, s->collection.number, docno, &doc, &found, err);
    for (size_t i = 0; status == SEM_OK && found; i++) {
        store_passage passage;
        double score;
        status = store_passage_find(s->worker->read, search_space(s), s->collection.number, docno, NULL, &i, &passage,
                                    &found, err);
        /* What was cut from another text has nothing to say about this one. */
        if (status != SEM_OK || !found || passage.count == 0 || passage.version != doc.text_version)
            break;
        status =
            lexical_score(s->words, doc.text + passage.range.from, passage.range.to - passage.range.from, &score, err);
        if (status != SEM_OK || score <= best)
            continue;
        best = score;
        parts->has_passage = true;
        parts->passage = i;
    }
    return status;
}

sem_status search_place_words(search *s, sem_error *err)
{
    sem_status status = SEM_OK;
    if (s->parts == NULL)
        s->parts = calloc(s->count + 1, sizeof *s->parts);
    if (s->parts == NULL)
        return sem_fail_memory(err, "hits");
    for (size_t i = 0; i < s->count && status == SEM_OK; i++) {
        if (s->parts[i].has_dense)
            continue;
        status = task_check_deadline(s->task, err);
        if (status == SEM_OK)
            status = place_words(s, &s->parts[i], s->hits[i].docno, err);
    }
    return status;
}

/* --- the passage of a hit */

/* The document's passage that is nearest to the query. */
static sem_status nearest(search *s, uint32_t docno, size_t *ordinal, store_passage *passage, bool *found,
                          sem_error *err)
{
    float best = -INFINITY;
    *found = false;
    for (size_t i = 0;; i++) {
        store_passage one;
        float score = 0;
        bool there;
        sem_status status = store_passage_get(s->worker->read, search_space(s), s->collection.number, docno, i,
                                              s->found, s->dim, &one, &there, err);
        if (status != SEM_OK || !there)
            return status;
        for (size_t k = 0; k < s->dim; k++)
            score += s->vector[k] * s->found[k];
        if (*found && !(score > best))
            continue;
        best = score;
        *ordinal = i;
        *passage = one;
        *found = true;
    }
}

sem_status search_hit_passage(search *s, size_t at, const store_document *doc, hit_passage *out, sem_error *err)
{
    const hit_parts *parts = s->parts != NULL ? &s->parts[at] : NULL;
    bool by_words = parts != NULL && !parts->has_dense, found = false;
    size_t ordinal = by_words ? parts->passage : 0;
    store_passage passage;
    sem_status status = SEM_OK;
    if (!by_words || parts->has_passage)
        status = store_passage_find(s->worker->read, search_space(s), s->collection.number, doc->docno,
                                    by_words ? NULL : &s->hits[at].slot, &ordinal, &passage, &found, err);
    /* The index may be ahead of the snapshot, and tells no slot where no document has several passages. */
    if (status == SEM_OK && !by_words && !found)
        status = nearest(s, doc->docno, &ordinal, &passage, &found, err);
    if (status != SEM_OK)
        return status;
    *out = (hit_passage){.ordinal = 0, .range = {0, (uint32_t)doc->text_length}};
    if (found && passage.count > 0 && passage.version == doc->text_version)
        *out = (hit_passage){.ordinal = ordinal, .range = passage.range};
    return SEM_OK;
}
