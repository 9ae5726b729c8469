/* eval: what a model is worth on judged sets. */
#include "tools/semtrain.h"

#include <jansson.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_figure(eval_result *r, const char *name, double value)
{
    r->names[r->figures] = name;
    r->values[r->figures++] = value;
}

const char *semtrain_first_figure(const recipe_set *set)
{
    return strcmp(set->kind, "retrieval") == 0 ? "ndcg" : strcmp(set->kind, "sts") == 0 ? "spearman" : "accuracy";
}

static sem_status check_files(const recipe_set *set, sem_error *err)
{
    const bool some = set->corpus[0] != '\0' || set->queries[0] != '\0' || set->qrels[0] != '\0';
    const bool all = set->corpus[0] != '\0' && set->queries[0] != '\0' && set->qrels[0] != '\0';
    if (some && !all)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "eval %s: corpus, queries and qrels belong together", set->name);
    if (all && set->file_count > 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "eval %s has both a corpus and a file of pairs", set->name);
    return SEM_OK;
}

static sem_status evaluate_retrieval(const suite_options *o, const recipe_set *set, const data_options *data,
                                     eval_result *out, sem_error *err)
{
    rank_metrics m;
    sem_status status = check_files(set, err);
    if (status != SEM_OK)
        return status;
    const suite_beir files = {.name = set->name,
                              .corpus = set->corpus,
                              .queries = set->queries,
                              .qrels = set->qrels,
                              .without_titles = !set->titles,
                              .longest = set->max_line};
    status = set->corpus[0] != '\0' ? suite_retrieval_beir(o, &files, &m, err)
                                    : suite_retrieval_pairs(o, data, &m, err);
    if (status != SEM_OK)
        return status;
    out->count = m.queries;
    add_figure(out, semtrain_first_figure(set), m.ndcg);
    add_figure(out, "mrr", m.mrr);
    add_figure(out, "recall", m.recall);
    add_figure(out, "map", m.map);
    return SEM_OK;
}

static sem_status evaluate(const suite_options *o, const recipe_set *set, const data_options *data, eval_result *out,
                           sem_error *err)
{
    if (strcmp(set->kind, "retrieval") == 0)
        return evaluate_retrieval(o, set, data, out, err);
    if (strcmp(set->kind, "sts") == 0) {
        suite_similarity s;
        sem_status status = suite_sts(o, data, &s, err);
        out->count = s.pairs;
        add_figure(out, semtrain_first_figure(set), s.spearman);
        add_figure(out, "pearson", s.pearson);
        return status;
    }
    suite_translation s;
    sem_status status = suite_translation_of(o, data, &s, err);
    out->count = s.pairs;
    add_figure(out, semtrain_first_figure(set), (s.forward + s.backward) / 2);
    add_figure(out, "forward", s.forward);
    add_figure(out, "backward", s.backward);
    return status;
}

sem_status semtrain_evaluate(semtrain *t, const recipe *r, const recipe_set *set, const model *m, eval_result *out,
                             sem_error *err)
{
    const suite_options o = {
        .model = m, .threads = r->train.threads, .nice = {.added = (int)r->train.nice}, .k = set->k};
    bool *told = &t->measured[set - r->sets];
    data_options data = set->data;
    data.report = *told ? NULL : data.report;
    *out = (eval_result){.set = set->name, .kind = set->kind};
    progress_show(&t->bar, "evaluating", -1, "%s", set->name);
    sem_status status = evaluate(&o, set, &data, out, err);
    *told = *told || status == SEM_OK;
    return status;
}

sem_status semtrain_evaluate_all(semtrain *t, recipe *r, const model *m, eval_suite *out, sem_error *err)
{
    sem_status status = SEM_OK;
    const recipe_set *set;
    double sum = 0;
    out->count = 0;
    while (status == SEM_OK && (set = recipe_set_at(r, true, out->count)) != NULL) {
        if (atomic_load(t->cancel))
            return sem_fail(err, SEM_CANCELLED, "the evaluation was cancelled");
        status = semtrain_evaluate(t, r, set, m, &out->results[out->count], err);
        if (status == SEM_OK)
            sum += out->results[out->count++].values[0];
    }
    out->mean = out->count > 0 ? sum / (double)out->count : NAN;
    return status;
}

static sem_status print_json(FILE *out, const eval_result *r, sem_error *err)
{
    json_t *o = json_pack("{s:s, s:s, s:I}", "set", r->set, "kind", r->kind, "count", (json_int_t)r->count);
    for (size_t i = 0; i < r->figures; i++)
        json_object_set_new(o, r->names[i], isfinite(r->values[i]) ? json_real(r->values[i]) : json_null());
    char *text = o != NULL ? json_dumps(o, JSON_REAL_PRECISION(9) | JSON_COMPACT) : NULL;
    json_decref(o);
    if (text == NULL)
        return sem_fail_memory(err, "the results");
    fprintf(out, "%s\n", text);
    free(text);
    return SEM_OK;
}

static void print_result(FILE *out, const eval_result *r)
{
    fprintf(out, "%s: %s, %zu %s", r->set, r->kind, r->count, strcmp(r->kind, "retrieval") == 0 ? "queries" : "pairs");
    for (size_t i = 0; i < r->figures; i++)
        fprintf(out, "  %s %.4f", r->names[i], r->values[i]);
    fputc('\n', out);
}

static sem_status evaluate_all(semtrain *t, recipe *r, const model *m, sem_error *err)
{
    sem_status status = SEM_OK;
    const recipe_set *set;
    if (recipe_set_at(r, true, 0) == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the recipe has no [eval NAME] section");
    for (size_t i = 0; status == SEM_OK && (set = recipe_set_at(r, true, i)) != NULL; i++) {
        eval_result result;
        if (atomic_load(t->cancel))
            return sem_fail(err, SEM_CANCELLED, "the evaluation was cancelled");
        status = semtrain_evaluate(t, r, set, m, &result, err);
        progress_clear(&t->bar);
        if (status == SEM_OK && t->json)
            status = print_json(t->out, &result, err);
        else if (status == SEM_OK)
            print_result(t->out, &result);
    }
    return status;
}

sem_status run_eval(semtrain *t, const char *recipe_path, sem_error *err)
{
    recipe r;
    model *m = NULL;
    sem_status status = semtrain_recipe(t, recipe_path, &r, err);
    if (status == SEM_OK)
        status = semtrain_model(&r, &m, err);
    if (status == SEM_OK)
        status = evaluate_all(t, &r, m, err);
    model_close(m);
    recipe_free(&r);
    return status;
}
