/* Mining of hard negatives by a job: in the indices that searches use, at the job's priority. */
#include "base/crash.h"
#include "finetune/pair_mine.h"
#include "daemon/job.h"
#include "daemon/lexical_thread.h"

typedef struct opener {
    job *job;
    const serving *base;
    space_index *index;  /* of the collection asked for last; pinned */
    lexical_cache words; /* a connection of the job's own */
} opener;

/* An index that is just not there, or is being built, is passed over: the other one is. */
static sem_status open_collection(void *context, uint32_t collection, vector_index **vectors, lexical_reader **words,
                                  sem_error *err)
{
    opener *o = context;
    sem_error why;
    (void)err;
    space_index_release(o->index);
    o->index = space_acquire(o->base->space, collection);
    *vectors = o->index != NULL ? o->index->index : NULL;
    *words = NULL;
    if (lexical_thread_state(o->job->core->lexical, collection, &(uint64_t){0}) == LEXICAL_READY &&
        lexical_thread_reader(o->job->core->lexical, &o->words, &why) == SEM_OK)
        *words = o->words.reader;
    return SEM_OK;
}

static void show_progress(void *context, size_t done, size_t all)
{
    job_status *s = ((opener *)context)->job->status;
    pthread_mutex_lock(&s->lock);
    s->step = done;
    s->steps = all;
    pthread_mutex_unlock(&s->lock);
}

static void tell(const job *j, const pair_mine_report *r)
{
    log_event(j->core->log, LOG_LEVEL_INFO, "mined",
              "job=%u pairs=%zu candidates=%zu known=%zu same_text=%zu by_score=%zu drawn=%zu without=%zu "
              "unsearched=%zu without_words=%zu",
              j->number, r->pairs, r->candidates, r->known, r->same_text, r->by_score, r->drawn, r->without,
              r->unsearched, r->without_words);
}

sem_status job_mine(job *j, const serving *base, pair_set *pairs, sem_error *err)
{
    opener o = {.job = j, .base = base};
    pair_mine_report report;
    const pair_mine_options options = {.store = j->core->store,
                                       .space = space_number(base->space),
                                       .queries = base->query,
                                       .negatives = j->settings.finetune.mined_negatives,
                                       .top = j->settings.finetune.mine_top,
                                       .ratio = j->settings.train.negative_ratio,
                                       .seed = j->settings.train.seed,
                                       .threads = j->threads,
                                       .nice = j->settings.train.nice,
                                       .cancel = j->cancel,
                                       .open = open_collection,
                                       .progress = show_progress,
                                       .context = &o};
    crash_point("mining.begin");
    sem_status status = pair_mine(pairs, &options, &report, err);
    crash_point("mining.done");
    lexical_thread_report(j->core->lexical, &o.words);
    lexical_cache_close(&o.words);
    space_index_release(o.index);
    if (status == SEM_OK)
        tell(j, &report);
    return status;
}
