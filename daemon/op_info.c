/* Requests about the daemon itself: info, collection.list, collection.create, generations. */
#include "base/clock.h"
#include "base/files.h"
#include "model/kernels.h"
#include "daemon/json_pack.h"
#include "daemon/ops.h"
#include "daemon/worker.h"
#include "daemon/writer.h"

#include <stdio.h>
#include <stdlib.h>

/* folder: below models/, where it lies. */
static void pack_model(packer *p, const model *m, const char *folder)
{
    char pooling[96];
    const model_config *settings = model_get_config(m);
    double cosine;
    const char *reason = model_precision_reason(m, &cosine);
    pack_map(p, 9);
    pack_str(p, "name");
    pack_str(p, folder);
    pack_str(p, "family");
    pack_str(p, settings->family_name);
    pack_str(p, "dim");
    pack_uint(p, settings->dim);
    pack_str(p, "max_tokens");
    pack_uint(p, settings->max_tokens);
    pack_str(p, "pooling");
    pack_str(p, model_config_pooling_name(settings, pooling, sizeof pooling));
    pack_str(p, "parameters");
    pack_uint(p, model_parameters(m));
    pack_str(p, "precision");
    pack_str(p, model_precision(m));
    pack_str(p, "precision_reason");
    pack_str(p, reason);
    pack_str(p, "precision_cosine");
    pack_double(p, cosine);
}

static void pack_limits(packer *p, core *c)
{
    pthread_mutex_lock(&c->limits_lock);
    const request_limits now = c->limits, *l = &now;
    size_t in_flight = c->max_in_flight;
    pthread_mutex_unlock(&c->limits_lock);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"frame_bytes", l->frame_bytes},
        {"depth", l->depth},
        {"max_batch", l->max_batch},
        {"upsert_docs", l->upsert_docs},
        {"passages", l->passages},
        {"text_bytes", l->text_bytes},
        {"meta_fields", l->meta_fields},
        {"meta_bytes", l->meta_bytes},
        {"k", l->k},
        {"ids", l->ids},
        {"scroll", l->scroll},
        {"filter_values", l->filter_values},
        {"in_flight", in_flight},
    };
    pack_map(p, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pack_str(p, rows[i].name);
        pack_uint(p, rows[i].value);
    }
}

static void pack_cache(packer *p, core *c)
{
    query_cache_stats s;
    query_cache_get_stats(c->queries, &s);
    pack_map(p, 4);
    pack_str(p, "hits");
    pack_uint(p, s.hits);
    pack_str(p, "misses");
    pack_uint(p, s.misses);
    pack_str(p, "entries");
    pack_uint(p, s.entries);
    pack_str(p, "bytes");
    pack_uint(p, s.bytes);
}

void op_info(worker *w, task *t)
{
    sem_error err;
    store_collection *collections = NULL;
    const kernels *simd = NULL;
    size_t count;
    sem_status status = worker_renew(w, &err);
    if (status == SEM_OK)
        status = store_collection_list(w->read, &collections, &count, &err);
    if (status == SEM_OK)
        status = kernels_choose(&simd, &err);
    free(collections);
    if (status != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    serving *s = serving_slot_acquire(&w->core->current);
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 9);
    pack_str(&a.pack, "version");
    pack_str(&a.pack, SEMD_VERSION);
    pack_str(&a.pack, "model");
    pack_model(&a.pack, s->document, s->folder);
    pack_str(&a.pack, "query_model");
    if (serving_has_two(s))
        pack_model(&a.pack, s->query, s->query_folder);
    else
        pack_nil(&a.pack);
    pack_str(&a.pack, "generation");
    pack_uint(&a.pack, s->generation);
    pack_str(&a.pack, "collections");
    pack_uint(&a.pack, count);
    pack_str(&a.pack, "uptime_s");
    pack_uint(&a.pack, (clock_monotonic_ms() - w->core->started_ms) / 1000);
    pack_str(&a.pack, "simd");
    pack_str(&a.pack, simd->name);
    pack_str(&a.pack, "query_cache");
    pack_cache(&a.pack, w->core);
    pack_str(&a.pack, "limits");
    pack_limits(&a.pack, w->core);
    serving_release(s);
    answer_send(w->core, t, &a);
}

/* --- collection.list */

static void pack_options(packer *p, const store_collection *c)
{
    pack_map(p, c->external ? 8u : 7u);
    pack_str(p, "weight_dense");
    pack_double(p, c->weight_dense);
    pack_str(p, "weight_lexical");
    pack_double(p, c->weight_lexical);
    pack_str(p, "passage_tokens");
    pack_uint(p, c->passage_tokens);
    pack_str(p, "passage_overlap");
    pack_uint(p, c->passage_overlap);
    pack_str(p, "lexical");
    pack_bool(p, c->lexical);
    pack_str(p, "metric");
    pack_str(p, c->metric == METRIC_DOT ? "dot" : "cosine");
    pack_str(p, "vectors");
    pack_str(p, c->external ? "external" : "model");
    if (c->external) {
        pack_str(p, "dim");
        pack_uint(p, c->dim);
    }
}

/* lag: requests that the lexical index has not applied yet. */
static void pack_lexical(packer *p, worker *w, const store_collection *c)
{
    static const char *const states[] = {"ready", "building", "paused"};
    uint64_t seq, last = store_last_seq(w->read);
    lexical_state state = lexical_thread_state(w->core->lexical, c->number, &seq);
    pack_str(p, "lexical");
    if (!c->lexical) {
        pack_nil(p);
        return;
    }
    pack_map(p, 3);
    pack_str(p, "state");
    pack_str(p, states[state]);
    pack_str(p, "seq");
    pack_uint(p, seq);
    pack_str(p, "lag");
    pack_uint(p, last > seq ? last - seq : 0);
}

static void pack_index(packer *p, worker *w, const store_collection *c, space_index *index)
{
    vector_index_stats stats = {.kind = "exact", .codes = "float32"};
    if (index != NULL)
        vector_index_describe(index->index, &stats);
    pack_map(p, 10);
    pack_lexical(p, w, c);
    pack_str(p, "kind");
    pack_str(p, stats.kind);
    pack_str(p, "nlist");
    pack_uint(p, stats.nlist);
    pack_str(p, "codes");
    pack_str(p, stats.codes);
    pack_str(p, "trained_at");
    if (stats.trained_at_ms > 0)
        pack_int(p, stats.trained_at_ms);
    else
        pack_nil(p);
    pack_str(p, "splits");
    pack_uint(p, stats.splits);
    pack_str(p, "merges");
    pack_uint(p, stats.merges);
    pack_str(p, "queries");
    pack_uint(p, stats.queries);
    pack_str(p, "logged_queries");
    pack_uint(p, stats.logged);
    pack_str(p, "recall");
    pack_array(p, stats.curve_points);
    for (size_t i = 0; i < stats.curve_points; i++) {
        pack_map(p, 2);
        pack_str(p, "nprobe");
        pack_uint(p, stats.curve[i].nprobe);
        pack_str(p, "recall");
        pack_double(p, stats.curve[i].recall);
    }
}

static void pack_collection(packer *p, worker *w, serving *s, const store_collection *c)
{
    space_index *index = space_acquire(c->external ? w->core->external : s->space, c->number);
    pack_map(p, 6);
    pack_str(p, "name");
    pack_str(p, c->name);
    pack_str(p, "count");
    pack_uint(p, c->documents);
    pack_str(p, "passages");
    pack_uint(p, index != NULL ? vector_index_passages(index->index) : 0);
    pack_str(p, "options");
    pack_options(p, c);
    pack_str(p, "index");
    pack_index(p, w, c, index);
    pack_str(p, "bytes");
    pack_uint(p, c->bytes);
    space_index_release(index);
}

void op_collection_list(worker *w, task *t)
{
    sem_error err;
    store_collection *collections = NULL;
    size_t count;
    sem_status status = worker_renew(w, &err);
    if (status == SEM_OK)
        status = store_collection_list(w->read, &collections, &count, &err);
    if (status != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    serving *s = serving_slot_acquire(&w->core->current);
    answer a;
    answer_begin(&a, t);
    pack_array(&a.pack, count);
    for (size_t i = 0; i < count; i++)
        pack_collection(&a.pack, w, s, &collections[i]);
    serving_release(s);
    free(collections);
    answer_send(w->core, t, &a);
}

/* --- collection.create */

/* The model may take less than is asked for, or have no room beside its prompt. */
static sem_status check_passages(const request *q, serving *s, sem_error *err)
{
    const store_collection wanted = {.passage_tokens = q->u.create.passage_tokens};
    size_t most = model_get_config(s->document)->max_tokens;
    if (wanted.passage_tokens > most)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "options.passage_tokens: %u, the model takes at most %zu tokens, prompt and special ones "
                        "included",
                        wanted.passage_tokens, most);
    document_cutter cutter;
    document_cut cut = {0};
    document_cutter_begin(&cutter, s->document, &wanted);
    sem_status status = document_cut_add(&cut, &cutter, "", 0, err);
    document_cutter_end(&cutter);
    document_cut_free(&cut);
    return status == SEM_OK ? SEM_OK : sem_error_prefix(err, "options.passage_tokens");
}

void op_collection_create(worker *w, task *t)
{
    sem_error err;
    store_collection there;
    sem_status status = SEM_OK;
    /* One that is there was right for the model of its time. */
    if (t->request->u.create.passage_tokens > 0 && worker_collection(w, t, &there, &err) != SEM_OK) {
        serving *s = serving_slot_acquire(&w->core->current);
        status = check_passages(t->request, s, &err);
        serving_release(s);
    }
    if (status == SEM_OK)
        writer_submit(w->core->writer, t);
    else
        task_fail(w->core, t, &err);
}

/* --- generations */

static const char *state_name(generation_state state)
{
    switch (state) {
    case GENERATION_CURRENT: return "current";
    case GENERATION_PREVIOUS: return "previous";
    case GENERATION_ROLLED_BACK: return "rolled_back";
    case GENERATION_CANDIDATE:
    case GENERATION_RETIRED: break;
    }
    return "retired";
}

/* What it shares with others is counted for each of them. */
static uint64_t generation_bytes(core *c, const store_generation *g)
{
    char dir[FILES_PATH_MAX];
    const char *names[STORE_GENERATION_MODELS];
    if (g->state == GENERATION_RETIRED)
        return 0;
    uint64_t bytes = store_space_bytes(c->store, g->space);
    for (size_t i = store_generation_models(g, names); i-- > 0;)
        if (files_join(dir, NULL, "%s/models/%s", store_path(c->store), names[i]) == SEM_OK)
            bytes += files_folder_bytes(dir);
    return bytes;
}

static void pack_generation(packer *p, core *c, const store_generation *g)
{
    pack_map(p, 8);
    pack_str(p, "generation");
    pack_uint(p, g->number);
    pack_str(p, "parent");
    if (g->parent != 0)
        pack_uint(p, g->parent);
    else
        pack_nil(p);
    pack_str(p, "created");
    pack_int(p, g->created_ms);
    pack_str(p, "state");
    pack_str(p, state_name(g->state));
    pack_str(p, "mode");
    pack_str(p, g->mode);
    pack_str(p, "pairs");
    pack_uint(p, g->pairs);
    pack_str(p, "metrics");
    json_pack_text(p, g->metrics);
    pack_str(p, "bytes");
    pack_uint(p, generation_bytes(c, g));
}

void op_generations(worker *w, task *t)
{
    sem_error err;
    store_generation *all = NULL;
    size_t count = 0, shown = 0;
    sem_status status = worker_renew(w, &err);
    if (status == SEM_OK)
        status = store_generation_list(w->read, &all, &count, &err);
    if (status != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    for (size_t i = 0; i < count; i++)
        shown += all[i].state != GENERATION_CANDIDATE;
    answer a;
    answer_begin(&a, t);
    pack_array(&a.pack, shown);
    for (size_t i = 0; i < count; i++)
        if (all[i].state != GENERATION_CANDIDATE)
            pack_generation(&a.pack, w->core, &all[i]);
    store_generations_free(all, count);
    answer_send(w->core, t, &a);
}
