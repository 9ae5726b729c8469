#include "model/precision_mix.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

/* No more than this share of the weights moves: beyond, int8 is hardly faster than
 * what is next on the ladder. */
static const double SHARE = 0.5;

/* Each step costs about a pass over all texts in the trials and one to see all texts. */
enum { STEPS = 12 };

/* --- agreement */

sem_status agreement_check(const agreement *a, sem_error *err)
{
    const bool ends = a->cancel != NULL && atomic_load(a->cancel);
    return ends ? sem_fail(err, SEM_CANCELLED, "cancelled while a model's precision was measured") : SEM_OK;
}

sem_status agreement_embed(const encoder *e, const token_batch *batch, float *out, sem_error *err)
{
    encoder_scratch *s = NULL;
    sem_status status = encoder_scratch_create(&s, e, 1, err);
    if (status == SEM_OK)
        status = encoder_forward(e, s, batch->ids, batch->lengths, batch->texts, out, err);
    encoder_scratch_destroy(s);
    return status;
}

static double cosine_of(const float *x, const float *y, size_t width)
{
    double cosine = 0;
    for (size_t i = 0; i < width; i++)
        cosine += (double)x[i] * y[i];
    return cosine;
}

sem_status agreement_measure(const encoder *e, const agreement *a, double *least, sem_error *err)
{
    const size_t width = encoder_width(e);
    sem_status status = agreement_check(a, err);
    if (status == SEM_OK)
        status = agreement_embed(e, a->batch, a->found, err);
    *least = 1;
    for (size_t i = 0; i < a->batch->texts && status == SEM_OK; i++) {
        double cosine = cosine_of(a->found + i * width, a->right + i * width, width);
        *least = cosine < *least ? cosine : *least;
    }
    return status;
}

/* --- the search */

/* The texts that agree least, with what is known of them before a trial. */
typedef struct worst_texts {
    token_batch batch;
    size_t *which;  /* of all texts, owned */
    double *cosine; /* owned */
} worst_texts;

typedef struct search {
    encoder *e;
    const agreement *a;
    packed_precision wide;
    double target;
    worst_texts worst;
    encoder_precisions table;
    double moved, most; /* weights in the wide precision */
} search;

static const int32_t *ids_of(const token_batch *batch, size_t text)
{
    const int32_t *ids = batch->ids;
    for (size_t i = 0; i < text; i++)
        ids += batch->lengths[i];
    return ids;
}

/* The text that agrees least but for those that were taken; texts if there is none. */
static size_t next_worst(const search *s, const bool *taken)
{
    const size_t width = encoder_width(s->e), texts = s->a->batch->texts;
    size_t worst = texts;
    double least = 2;
    for (size_t i = 0; i < texts; i++) {
        double cosine = taken[i] ? 2 : cosine_of(s->a->found + i * width, s->a->right + i * width, width);
        if (cosine < least) {
            least = cosine;
            worst = i;
        }
    }
    return worst;
}

/* As many of the texts that agree least, by what was measured last, that trying all
 * matrices on them takes as long as one pass over all texts; at least one. */
static sem_status find_worst(search *s, sem_error *err)
{
    const size_t width = encoder_width(s->e);
    const token_batch *all = s->a->batch;
    worst_texts *w = &s->worst;
    const size_t room = all->tokens / encoder_matrices(s->e);
    bool *taken = calloc(all->texts, sizeof *taken);
    bool fits = taken != NULL;
    token_batch_clear(&w->batch);
    while (fits && w->batch.texts < all->texts) {
        size_t i = next_worst(s, taken);
        if (i == all->texts || (w->batch.texts > 0 && w->batch.tokens + all->lengths[i] > room))
            break;
        taken[i] = true;
        w->which[w->batch.texts] = i;
        w->cosine[w->batch.texts] = cosine_of(s->a->found + i * width, s->a->right + i * width, width);
        fits = token_batch_append(&w->batch, ids_of(all, i), all->lengths[i]);
    }
    free(taken);
    return fits ? SEM_OK : sem_fail_memory(err, "the calibration's texts");
}

/* What the texts gain by a trial, up to what is asked for; *enough says whether all have that. */
static double gain_of(const search *s, const float *out, bool *enough)
{
    const size_t width = encoder_width(s->e);
    double gain = 0;
    *enough = true;
    for (size_t i = 0; i < s->worst.batch.texts; i++) {
        double before = s->worst.cosine[i],
               after = cosine_of(out + i * width, s->a->right + s->worst.which[i] * width, width);
        *enough = *enough && after >= s->target;
        gain += (after < s->target ? after : s->target) - (before < s->target ? before : s->target);
    }
    return gain;
}

/* *found = the matrix to move next: the smallest with which the worst texts agree well
 * enough, or the one that gains most for each weight; encoder_matrices if none gains. */
static sem_status find_matrix(search *s, size_t *found, sem_error *err)
{
    bool finished = false;
    double best = 0;
    *found = encoder_matrices(s->e);
    for (size_t i = 0; i < encoder_matrices(s->e); i++) {
        const double size = (double)encoder_matrix_size(s->e, i);
        bool enough;
        if (s->table.letters[i] != packed_precision_name(PACKED_INT8)[0] || s->moved + size > s->most)
            continue;
        sem_status status = agreement_check(s->a, err);
        if (status == SEM_OK)
            status = encoder_try(s->e, i, s->wide, err);
        if (status == SEM_OK)
            status = agreement_embed(s->e, &s->worst.batch, s->a->found, err);
        encoder_untry(s->e);
        if (status != SEM_OK)
            return status;
        double value = gain_of(s, s->a->found, &enough) / size;
        value = enough ? 1 / size : value;
        if ((enough && !finished) || (enough == finished && value > best)) {
            best = value;
            finished = enough;
            *found = i;
        }
    }
    return SEM_OK;
}

static sem_status search_steps(search *s, encoder_precisions *table, double *least, sem_error *err)
{
    double now = *least;
    sem_status status = SEM_OK;
    for (size_t step = 0; step < STEPS && now < s->target && status == SEM_OK; step++) {
        size_t i = encoder_matrices(s->e);
        status = find_worst(s, err);
        if (status == SEM_OK)
            status = find_matrix(s, &i, err);
        if (status != SEM_OK || i == encoder_matrices(s->e))
            break;
        s->table.letters[i] = packed_precision_name(s->wide)[0];
        s->moved += (double)encoder_matrix_size(s->e, i);
        status = encoder_pack(s->e, &s->table, err);
        if (status == SEM_OK)
            status = agreement_measure(s->e, s->a, &now, err);
        if (status == SEM_OK && now > *least) {
            *least = now;
            *table = s->table;
        }
    }
    return status == SEM_OK ? encoder_pack(s->e, table, err) : status;
}

sem_status precision_mix(encoder *e, const agreement *a, packed_precision wide, double target,
                         encoder_precisions *table, double *least, sem_error *err)
{
    search s = {.e = e, .a = a, .wide = wide, .target = target, .table = encoder_all_in(e, PACKED_INT8)};
    for (size_t i = 0; i < encoder_matrices(e); i++)
        s.most += SHARE * (double)encoder_matrix_size(e, i);
    *table = s.table;
    s.worst.which = checked_realloc(NULL, a->batch->texts, sizeof *s.worst.which);
    s.worst.cosine = checked_realloc(NULL, a->batch->texts, sizeof *s.worst.cosine);
    sem_status status = s.worst.which != NULL && s.worst.cosine != NULL
                            ? search_steps(&s, table, least, err)
                            : sem_fail_memory(err, "the calibration's texts");
    token_batch_free(&s.worst.batch);
    free(s.worst.which);
    free(s.worst.cosine);
    return status;
}
