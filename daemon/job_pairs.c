/* From the log to what a job learns from. */
#include "base/crash.h"
#include "finetune/harvest.h"
#include "daemon/job.h"
#include "daemon/job_trained.h"

/* How people look at ranks: by the log where it tells and it matters, else by the prior. */
static sem_status find_bias(const job *j, store_read *r, uint32_t collection, propensities *out, sem_error *err)
{
    const config *c = &j->settings;
    if (c->finetune.harvest && c->finetune.click_weight > 1)
        return harvest_propensities(out, r, collection, j->status->events, &c->finetune.propensity, err);
    propensity_prior(out, c->finetune.propensity.eta);
    return SEM_OK;
}

/* Which clicks to believe. */
static sem_status find_agreement(const job *j, store_read *r, uint32_t collection, const propensities *bias,
                                 agreement *out, sem_error *err)
{
    sem_status status = harvest_agreement(out, r, collection, j->status->events, bias, err);
    if (status == SEM_OK)
        log_event(j->core->log, LOG_LEVEL_INFO, "agreement",
                  "job=%u clicked=%zu right=%.3f wrong=%.4f share1=%.3f share2=%.3f share3=%.3f share10=%.3f",
                  j->number, out->count, out->right, out->wrong, out->shares[0], out->shares[1], out->shares[2],
                  out->shares[9]);
    return status;
}

static void tell(const job *j, const propensities *p, const pair_set *set)
{
    log_event(
        j->core->log, LOG_LEVEL_INFO, "pairs",
        "job=%u pairs=%zu heldout=%zu newest=%zu skipped=%zu negatives=%zu moved=%zu moved_clicks=%.0f p2=%.3f p3=%.3f "
        "p5=%.3f p10=%.3f",
        j->number, set->count, set->heldout_queries, set->newest_count, set->skipped, set->negative_count, p->moved,
        p->clicks, propensity_at(p, 2), propensity_at(p, 3), propensity_at(p, 5), propensity_at(p, 10));
}

static void find_trained(job *j)
{
    serving *now = serving_slot_acquire(&j->core->current);
    j->trained_before = job_trained_upto(j->core->store, model_get_dir(now->query));
    serving_release(now);
}

sem_status job_pairs(job *j, uint32_t collection, pair_set *out, sem_error *err)
{
    const config *c = &j->settings;
    propensities bias;
    agreement agreed = {0};
    store_read *r;
    *out = (pair_set){0};
    sem_status status = store_read_begin(j->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    find_trained(j);
    const pair_options options = {.collection = collection,
                                  .trained = j->trained_before,
                                  .upto = j->status->events,
                                  .heldout_share = c->finetune.heldout_share,
                                  .newest_share = c->finetune.newest_share,
                                  .key = store_user_key(j->core->store),
                                  .bias = &bias,
                                  .most_weight = c->finetune.click_weight,
                                  .agreed = c->finetune.agreement ? &agreed : NULL,
                                  .trust = c->finetune.trust,
                                  .negatives = c->finetune.skipped_negatives};
    status = find_bias(j, r, collection, &bias, err);
    if (status == SEM_OK && c->finetune.agreement)
        status = find_agreement(j, r, collection, &bias, &agreed, err);
    if (status == SEM_OK)
        status = pair_set_collect(out, r, &options, err);
    store_read_end(r);
    agreement_free(&agreed);
    crash_point("pairs.collected");
    /* A job of one collection leaves the others' pairs as new as they are. */
    j->trained_upto = status == SEM_OK && collection == 0 ? out->last : j->trained_before;
    if (status == SEM_OK)
        tell(j, &bias, out);
    return status;
}
