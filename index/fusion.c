#include "index/fusion.h"

#include "base/checked.h"

#include <stdlib.h>

static const double K = 60; /* as the paper has it */

static int by_document(const void *a, const void *b)
{
    const fused_hit *x = a, *y = b;
    return (x->docno > y->docno) - (x->docno < y->docno);
}

static int by_score(const void *a, const void *b, void *context)
{
    const fused_hit *x = a, *y = b;
    const fusion *f = context;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return f->tie(f->context, x->docno, y->docno);
}

/* A document that is in both rankings stands there twice: the two become one. */
static size_t merge(fused_hit *all, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || all[kept - 1].docno != all[i].docno) {
            all[kept++] = all[i];
            continue;
        }
        fused_hit *one = &all[kept - 1];
        const fused_hit *dense = one->has_dense ? one : &all[i], *lexical = one->has_dense ? &all[i] : one;
        /* Always in this order, so that mirrored ranks add up to equal scores. */
        *one = (fused_hit){.docno = one->docno,
                           .has_dense = true,
                           .has_lexical = true,
                           .slot = dense->slot,
                           .dense = dense->dense,
                           .lexical = lexical->lexical,
                           .score = dense->score + lexical->score};
    }
    return kept;
}

sem_status fusion_run(const fusion *f, fused_hit **out, size_t *count, sem_error *err)
{
    size_t both = f->dense_count + f->lexical_count;
    fused_hit *all = checked_realloc(NULL, both + 1, sizeof *all);
    if (all == NULL)
        return sem_fail_memory(err, "the fusion of two rankings");
    for (size_t i = 0; i < f->dense_count; i++)
        all[i] = (fused_hit){.docno = f->dense[i].docno,
                             .has_dense = true,
                             .slot = f->dense[i].slot,
                             .dense = f->dense[i].score,
                             .score = f->dense_weight / (K + 1 + (double)i)};
    for (size_t i = 0; i < f->lexical_count; i++)
        all[f->dense_count + i] = (fused_hit){.docno = f->lexical[i].docno,
                                              .has_lexical = true,
                                              .lexical = f->lexical[i].score,
                                              .score = f->lexical_weight / (K + 1 + (double)i)};
    if (both > 0)
        qsort(all, both, sizeof *all, by_document);
    *count = merge(all, both);
    fusion order = *f;
    if (*count > 0)
        qsort_r(all, *count, sizeof *all, by_score, &order);
    *out = all;
    return SEM_OK;
}
