#include "finetune/mix_others.h"

#include "base/checked.h"

#include <stdlib.h>

struct mix_others {
    mix_others_options options;
    kept_text *texts;     /* [max_texts] */
    float *taught;        /* [2 max_pairs, the teacher's dim] */
    float *guide_vectors; /* [max_texts, the guide's dim] */
    float *guide_cosines; /* [max_pairs, max_texts - max_pairs] */
};

void mix_others_destroy(mix_others *o)
{
    if (o == NULL)
        return;
    free(o->texts);
    free(o->taught);
    free(o->guide_vectors);
    free(o->guide_cosines);
    free(o);
}

static bool take_memory(mix_others *o)
{
    const mix_others_options *p = &o->options;
    o->texts = checked_realloc(NULL, p->max_texts, sizeof *o->texts);
    if (p->teacher != NULL)
        o->taught = checked_alloc_floats(2 * p->max_pairs, kept_vectors_dim(p->teacher));
    if (p->guide != NULL) {
        o->guide_vectors = checked_alloc_floats(p->max_texts, kept_vectors_dim(p->guide));
        o->guide_cosines = checked_alloc_floats(p->max_pairs, p->max_texts - p->max_pairs);
    }
    return o->texts != NULL && (p->teacher == NULL || o->taught != NULL) &&
           (p->guide == NULL || (o->guide_vectors != NULL && o->guide_cosines != NULL));
}

sem_status mix_others_create(mix_others **out, const mix_others_options *options, sem_error *err)
{
    *out = NULL;
    mix_others *o = calloc(1, sizeof *o);
    if (o == NULL)
        return sem_fail_memory(err, "other models' vectors");
    o->options = *options;
    if (!take_memory(o)) {
        mix_others_destroy(o);
        return sem_fail_memory(err, "other models' vectors");
    }
    *out = o;
    return SEM_OK;
}

sem_status mix_others_teach(mix_others *o, const mix_batch *batch, bool each, const float **out, sem_error *err)
{
    for (size_t i = 0; i < batch->count; i++) {
        const example *e = batch->items[i];
        o->texts[i] = (kept_text){.text = e->anchor, .as_query = true};
        o->texts[batch->count + i] = (kept_text){.text = each ? e->positive : e->anchor, .as_query = false};
    }
    *out = o->taught;
    return kept_vectors_get(o->options.teacher, o->texts, 2 * batch->count, o->taught, err);
}

sem_status mix_others_guide(mix_others *o, const data_text *texts, size_t pairs, size_t count, const float **out,
                            sem_error *err)
{
    *out = NULL;
    if (o->options.guide == NULL)
        return SEM_OK;
    const size_t dim = kept_vectors_dim(o->options.guide), candidates = count - pairs;
    for (size_t i = 0; i < count; i++)
        o->texts[i] = (kept_text){.text = texts[i], .as_query = i < pairs};
    sem_status status = kept_vectors_get(o->options.guide, o->texts, count, o->guide_vectors, err);
    if (status != SEM_OK)
        return status;
    o->options.g->multiply(false, true, pairs, candidates, dim, 1, o->guide_vectors, dim,
                           o->guide_vectors + pairs * dim, dim, 0, o->guide_cosines, candidates);
    *out = o->guide_cosines;
    return SEM_OK;
}
