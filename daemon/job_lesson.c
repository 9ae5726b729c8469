#include "daemon/job_lesson.h"

#include "base/checked.h"
#include "base/random.h"
#include "finetune/focus.h"
#include "finetune/own_pairs.h"

#include <stdlib.h>

/* Own pairs weigh as much as judged ones do on average: how many there are is what counts. */
static float mean_weight(const pair_set *judged)
{
    double sum = 0;
    for (size_t i = 0; i < judged->count; i++)
        sum += judged->pairs[i].weight;
    return judged->count > 0 ? (float)(sum / (double)judged->count) : 1;
}

static sem_status make_own(job_lesson *l, const job *j, const train_config *how, const pair_set *judged, sem_error *err)
{
    const own_pairs_options options = {.collection = j->collection,
                                       .most = j->settings.finetune.own_pairs,
                                       .whole = how->fixed_documents,
                                       .weight = mean_weight(judged),
                                       .seed = random_at(how->seed, j->number), /* other documents in each job */
                                       .heldout_share = j->settings.finetune.heldout_share,
                                       .key = store_user_key(j->core->store),
                                       .cancel = j->cancel};
    return own_pairs_collect(&l->own, j->core->store, &options, err);
}

/* An anchored document is compared with what is trained on, which is cut; a fixed one is what
 * searches will meet. */
static sem_status give_vectors(job_lesson *l, const job *j, const serving *base, const train_config *how,
                               pair_set *judged, sem_error *err)
{
    const pair_vectors_options options = {
        .store = j->core->store,
        .space = space_number(base->space),
        .model = base->document,
        .max_tokens = how->fixed_documents ? 0 : model_max_tokens(base->document, how->max_tokens),
        .threads = j->threads,
        .nice = how->nice,
        .cancel = j->cancel};
    if (!how->fixed_documents && !(how->anchor_weight > 0))
        return SEM_OK;
    sem_status status = pair_vectors_give(&l->judged_vectors, judged, &options, err);
    if (status == SEM_OK)
        status = pair_vectors_give(&l->own_vectors, &l->own, &options, err);
    if (status == SEM_OK)
        log_event(j->core->log, LOG_LEVEL_INFO, "documents", "job=%u stored=%zu encoded=%zu", j->number,
                  l->judged_vectors.stored + l->own_vectors.stored, l->judged_vectors.encoded + l->own_vectors.encoded);
    return status;
}

/* Documents that are clicked for whatever is asked teach nothing. */
static sem_status look_at_focus(const job *j, const serving *base, pair_set *judged, sem_error *err)
{
    focus_report report;
    const focus_options options = {.least = j->settings.finetune.document_focus,
                                   .model = base->query,
                                   .threads = j->threads,
                                   .nice = j->settings.train.nice,
                                   .cancel = j->cancel};
    sem_status status = focus_pairs(judged, &options, &report, err);
    if (status == SEM_OK && report.documents > 0)
        log_event(j->core->log, LOG_LEVEL_INFO, "focus", "job=%u documents=%zu left_out=%zu pairs=%zu", j->number,
                  report.documents, report.left_out, report.pairs);
    return status;
}

/* What was given them is gone with the lesson that it was given for. */
static void forget_vectors(pair_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        set->pairs[i].document_vector = NULL;
    for (size_t i = 0; i < set->negative_count; i++)
        set->negatives[i].vector = NULL;
}

/* Negatives from the indices, for pairs that have none. What is right is told by the vectors that
 * searches go by, which an anchored document's need not be. */
static sem_status mine(job_lesson *l, job *j, const serving *base, pair_set *judged, sem_error *err)
{
    const pair_vectors_options options = {.store = j->core->store,
                                          .space = space_number(base->space),
                                          .model = base->document,
                                          .threads = j->threads,
                                          .nice = j->settings.train.nice,
                                          .cancel = j->cancel};
    if (j->settings.finetune.mined_negatives == 0 || judged->mined_texts != NULL)
        return SEM_OK;
    job_enter(j, PHASE_MINING, judged->count);
    sem_status status = pair_vectors_give(&l->judged_vectors, judged, &options, err);
    if (status == SEM_OK)
        status = job_mine(j, base, judged, err);
    forget_vectors(judged);
    pair_vectors_free(&l->judged_vectors);
    return status;
}

/* Without replay only new pairs are taken, where there are any. */
static bool is_taken(const job *j, const train_pair *p, bool any_new)
{
    return j->settings.finetune.replay || !any_new || p->origin == TRAIN_NEW;
}

static sem_status put_together(job_lesson *l, const job *j, const pair_set *judged, sem_error *err)
{
    bool any_new = false;
    l->pairs = checked_realloc(NULL, judged->count + l->own.count + 1, sizeof *l->pairs);
    if (l->pairs == NULL)
        return sem_fail_memory(err, "the training pairs");
    for (size_t i = 0; i < judged->count; i++)
        any_new = any_new || judged->pairs[i].origin == TRAIN_NEW;
    for (size_t i = 0; i < judged->count; i++)
        if (is_taken(j, &judged->pairs[i], any_new))
            l->pairs[l->count++] = judged->pairs[i];
    for (size_t i = 0; i < l->own.count; i++)
        l->pairs[l->count++] = l->own.pairs[i];
    return SEM_OK;
}

sem_status job_lesson_make(job_lesson *out, job *j, const serving *base, const train_config *how, pair_set *judged,
                           sem_error *err)
{
    *out = (job_lesson){0};
    forget_vectors(judged);
    sem_status status = look_at_focus(j, base, judged, err);
    if (status == SEM_OK)
        status = mine(out, j, base, judged, err);
    job_enter(j, PHASE_TRAINING, 0);
    if (status == SEM_OK)
        status = make_own(out, j, how, judged, err);
    if (status == SEM_OK)
        status = give_vectors(out, j, base, how, judged, err);
    return status == SEM_OK ? put_together(out, j, judged, err) : status;
}

void job_lesson_free(job_lesson *l)
{
    free(l->pairs);
    pair_set_free(&l->own);
    pair_vectors_free(&l->judged_vectors);
    pair_vectors_free(&l->own_vectors);
    *l = (job_lesson){0};
}
