/* rank: what the model learns from each data set alone. */
#include "base/random.h"
#include "finetune/train_mix.h"
#include "finetune/train_setup.h"
#include "proto/number.h"
#include "tools/semtrain_results.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A score is a mean of figures between 0 and 1, shown as the published tables have it. */
static const double SCORE_UNIT = 100;

typedef struct ranking {
    semtrain *t;
    recipe *r;
    model *base;
    kept_vectors *teacher, *guide; /* NULL: none */
    rank_results *kept;
    uint64_t common; /* fingerprint of what all sets' scores depend on */
    double base_score;
    rank_result sets[RECIPE_SETS_MAX];
    const recipe_set *of[RECIPE_SETS_MAX];
    mix_lesson lessons[RECIPE_SETS_MAX];
    size_t count;
    const char *under_way; /* name of the set */
} ranking;

/* --- what a score depends on */

static uint64_t add_bytes(uint64_t sum, const void *data, size_t size)
{
    return train_fingerprint_of(sum, data, size);
}

/* The key's value, from where it lies in *in. */
static uint64_t add_value(uint64_t sum, const config_key *key, const void *in)
{
    const char *at = (const char *)in + key->offset;
    const bool text = key->kind == KEY_PATH || key->kind == KEY_CHOICE;
    return add_bytes(sum, at, text ? strlen(at) : key->size);
}

/* Keys of [train] that change nothing of what is learnt. */
static bool is_no_matter(const config_key *key)
{
    static const char *const names[] = {"output",           "threads",         "nice",           "checkpoint",
                                        "checkpoint_every", "batch_size",      "evaluate_every", "max_steps",
                                        "epochs",           "teacher_vectors", "guide_vectors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key->name, names[i]) == 0)
            return true;
    return strcmp(key->section, "train") != 0;
}

/* Its name, size and time. */
static uint64_t add_file(uint64_t sum, const char *path)
{
    struct stat st;
    sum = add_bytes(sum, path, strlen(path));
    if (path[0] == '\0' || stat(path, &st) != 0)
        return sum;
    return random_at(random_at(random_at(sum, (uint64_t)st.st_size), (uint64_t)st.st_mtim.tv_sec),
                     (uint64_t)st.st_mtim.tv_nsec);
}

static uint64_t add_set(uint64_t sum, const recipe_set *set)
{
    sum = add_bytes(sum, set->name, strlen(set->name));
    for (size_t i = 0; i < recipe_set_key_count; i++)
        if (strcmp(recipe_set_keys[i].name, "description") != 0)
            sum = add_value(sum, &recipe_set_keys[i], set);
    for (size_t i = 0; i < set->file_count; i++)
        sum = add_file(sum, set->files[i]);
    return set->eval ? add_file(add_file(add_file(sum, set->corpus), set->queries), set->qrels) : sum;
}

static sem_status find_common(ranking *k, sem_error *err)
{
    const encoder *e = model_get_encoder(k->base);
    float *params;
    sem_status status = encoder_copy_params(e, &params, err);
    const recipe_set *set;
    uint64_t sum = random_at(random_at(1, k->r->rank.steps), k->r->rank.batch_size);
    if (status == SEM_OK)
        sum = add_bytes(sum, params, encoder_layout(e)->total * sizeof *params);
    free(params);
    for (size_t i = 0; i < config_key_count; i++)
        if (!is_no_matter(&config_keys[i]))
            sum = add_value(sum, &config_keys[i], &k->r->daemon);
    for (size_t i = 0; i < recipe_key_count; i++)
        if (!is_no_matter(&recipe_keys[i]))
            sum = add_value(sum, &recipe_keys[i], k->r);
    for (size_t i = 0; (set = recipe_set_at(k->r, true, i)) != NULL; i++)
        sum = add_set(sum, set);
    k->common = sum;
    return status;
}

/* --- one set */

static void show_step(void *context, const train_progress *now)
{
    ranking *k = context;
    char left[TEXT_MAX];
    progress_show(&k->t->bar, k->under_way, (double)now->step / (double)now->steps,
                  "%zu/%zu  loss %.4f  %.0f pairs/s  ETA %s", now->step, now->steps, now->loss, now->pairs_per_s,
                  text_duration(left, now->eta_s));
}

static sem_status measure(ranking *k, const model *m, double *score, sem_error *err)
{
    eval_suite *suite = calloc(1, sizeof *suite);
    if (suite == NULL)
        return sem_fail_memory(err, "the results");
    sem_status status = semtrain_evaluate_all(k->t, k->r, m, suite, err);
    *score = SCORE_UNIT * suite->mean;
    free(suite);
    return status;
}

/* params: what the base model becomes; NULL where that failed. */
static sem_status train_set(ranking *k, size_t at, const char *state, float **params, sem_error *err)
{
    const recipe_set *set = k->of[at];
    mix_set one;
    mix_domains *domains = NULL;
    mix *m = NULL;
    train_report report;
    train_config settings = k->r->daemon.train;
    settings.batch_size = k->r->rank.batch_size;
    settings.checkpoint = state;
    const mix_options options = {
        .weighting = mix_weighting_defaults(), .batch_size = settings.batch_size, .seed = settings.seed};
    char folder[FILES_PATH_MAX];
    const train_mix_options how = {.steps = k->r->rank.steps,
                                   .negatives = k->r->train.negatives,
                                   .lessons = &k->lessons[at],
                                   .set_count = 1,
                                   .teacher = k->lessons[at].loss == LOSS_MSE ? k->teacher : NULL,
                                   .guide = k->guide,
                                   .folder = folder};
    const train_control control = {.cancel = k->t->cancel, .progress = show_step, .context = k};
    k->under_way = set->name;
    sem_status status = files_parent(rank_results_path(k->kept), folder, err);
    if (status == SEM_OK)
        status = semtrain_mix_set(k->t, k->r, k->base, set, &one, &domains, err);
    if (status == SEM_OK)
        status = mix_open(&m, &options, &one, 1, err);
    if (status == SEM_OK)
        status = train_on_mix(k->base, m, &how, &settings, &control, params, &report, err);
    mix_close(m);
    mix_domains_free(domains);
    return status;
}

static sem_status rank_set(ranking *k, size_t at, sem_error *err)
{
    rank_result *result = &k->sets[at];
    char state[FILES_PATH_MAX];
    float *params = NULL;
    model *after = NULL;
    data_counts counts = {.examples = k->of[at]->pairs};
    result->run = add_set(k->common, k->of[at]);
    if (rank_results_find(k->kept, result))
        return SEM_OK;
    progress_show(&k->t->bar, "counting", -1, "%s", result->name);
    sem_status status = counts.examples > 0 ? SEM_OK : data_count(&k->of[at]->data, UINT64_MAX, &counts, err);
    if (status == SEM_OK)
        status = files_join(state, err, "%s.%s.state", rank_results_path(k->kept), result->name);
    if (status == SEM_OK)
        status = train_set(k, at, state, &params, err);
    if (status == SEM_OK)
        status = model_open_over(&after, k->base, params, err);
    if (status == SEM_OK)
        status = measure(k, after, &result->score, err);
    model_close(after);
    result->pairs = counts.examples;
    if (status == SEM_OK)
        status = rank_results_keep(k->kept, result, err);
    if (status == SEM_OK && unlink(state) != 0 && errno != ENOENT)
        status = files_fail(err, "remove", state);
    return status;
}

/* --- all of them */

static sem_status open_all(ranking *k, const char *recipe_path, sem_error *err)
{
    char path[FILES_PATH_MAX];
    const recipe_set *set;
    sem_status status = SEM_OK;
    for (; status == SEM_OK && (set = recipe_set_at(k->r, false, k->count)) != NULL; k->count++) {
        k->of[k->count] = set;
        snprintf(k->sets[k->count].name, RECIPE_NAME_MAX, "%s", set->name);
        status = semtrain_lesson(set, LOSS_MNRL, &k->lessons[k->count], err);
    }
    if (status == SEM_OK && k->count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "the recipe has no [data NAME] section");
    if (status == SEM_OK && recipe_set_at(k->r, true, 0) == NULL)
        status =
            sem_fail(err, SEM_INVALID_ARGUMENT,
                     "the recipe has no [eval NAME] section: data sets are ranked by what the model is worth there");
    if (status == SEM_OK)
        status = semtrain_check_lessons(k->r, k->lessons, k->count, err);
    if (status == SEM_OK)
        status = k->r->rank.output[0] != '\0' ? files_join(path, err, "%s", k->r->rank.output)
                                              : files_join(path, err, "%s.rank", recipe_path);
    if (status == SEM_OK)
        status = rank_results_open(&k->kept, path, err);
    /* What is named by the output, as a teacher's vectors, lies beside the results where there is none. */
    if (status == SEM_OK && k->r->train.output[0] == '\0')
        status = files_join(k->r->train.output, err, "%s", path);
    if (status == SEM_OK)
        status = semtrain_model(k->r, &k->base, err);
    if (status == SEM_OK)
        status = semtrain_teacher(k->t, k->r, &k->teacher, err);
    if (status == SEM_OK)
        status = semtrain_guide(k->t, k->r, &k->guide, err);
    return status == SEM_OK ? find_common(k, err) : status;
}

static sem_status rank_all(ranking *k, sem_error *err)
{
    rank_result base = {.run = k->common}; /* no name: no set has that */
    sem_status status = SEM_OK;
    if (!rank_results_find(k->kept, &base)) {
        status = measure(k, k->base, &base.score, err);
        if (status == SEM_OK)
            status = rank_results_keep(k->kept, &base, err);
    }
    k->base_score = base.score;
    for (size_t i = 0; i < k->count && status == SEM_OK; i++)
        status = rank_set(k, i, err);
    progress_clear(&k->t->bar);
    return status;
}

/* --- the table */

/* Best first; a score that is none is last. */
static int compare_scores(const void *a, const void *b)
{
    const rank_result *x = a, *y = b;
    const double p = isnan(x->score) ? -INFINITY : x->score, q = isnan(y->score) ? -INFINITY : y->score;
    return p != q ? (p < q ? 1 : -1) : strcmp(x->name, y->name);
}

static const char *description_of(const ranking *k, const char *name)
{
    for (size_t i = 0; i < k->count; i++)
        if (strcmp(k->of[i]->name, name) == 0)
            return k->of[i]->description;
    return "";
}

static json_t *score_json(double score)
{
    return isfinite(score) ? json_real(score) : json_null();
}

static sem_status print_json(const ranking *k, sem_error *err)
{
    json_t *sets = json_array();
    for (size_t i = 0; i < k->count; i++)
        json_array_append_new(sets, json_pack("{s:s, s:s, s:I, s:o}", "name", k->sets[i].name, "description",
                                              description_of(k, k->sets[i].name), "pairs", (json_int_t)k->sets[i].pairs,
                                              "score", score_json(k->sets[i].score)));
    const bool all = json_array_size(sets) == k->count;
    json_t *o = json_pack("{s:I, s:I, s:o, s:o}", "steps", (json_int_t)k->r->rank.steps, "batch_size",
                          (json_int_t)k->r->rank.batch_size, "base", score_json(k->base_score), "sets", sets);
    char *text = o != NULL && all ? json_dumps(o, JSON_REAL_PRECISION(9) | JSON_COMPACT) : NULL;
    json_decref(o);
    if (text == NULL)
        return sem_fail_memory(err, "the ranking");
    fprintf(k->t->out, "%s\n", text);
    free(text);
    return SEM_OK;
}

static sem_status print_table(const ranking *k, sem_error *err)
{
    static const char *const headers[] = {"data set", "description", "pairs", "score"};
    table sets;
    table_init(&sets, headers, 4, 1U << 2 | 1U << 3);
    for (size_t i = 0; i < k->count; i++) {
        char number[NUMBER_TEXT_MAX];
        table_add(&sets, "%s", k->sets[i].name);
        table_add(&sets, "%s", description_of(k, k->sets[i].name));
        table_add(&sets, "%s", number_text(number, k->sets[i].pairs));
        table_add(&sets, "%.2f", k->sets[i].score);
    }
    const bool printed = table_print(&sets, k->t->out);
    table_free(&sets);
    if (!printed)
        return sem_fail_memory(err, "the ranking");
    fprintf(k->t->out,
            "\nscore: 100 times the mean of the [eval] sets' first figures, zero-shot, after %zu steps at batch size "
            "%zu on the set alone; %.2f before\n",
            k->r->rank.steps, k->r->rank.batch_size, k->base_score);
    return SEM_OK;
}

sem_status run_rank(semtrain *t, const char *recipe_path, sem_error *err)
{
    recipe r;
    ranking *k = calloc(1, sizeof *k);
    if (k == NULL)
        return sem_fail_memory(err, "a ranking");
    sem_status status = semtrain_recipe(t, recipe_path, &r, err);
    k->t = t;
    k->r = &r;
    if (status == SEM_OK)
        status = open_all(k, recipe_path, err);
    if (status == SEM_OK)
        status = rank_all(k, err);
    qsort(k->sets, k->count, sizeof *k->sets, compare_scores);
    if (status == SEM_OK)
        status = t->json ? print_json(k, err) : print_table(k, err);
    rank_results_close(k->kept);
    kept_vectors_close(k->teacher);
    kept_vectors_close(k->guide);
    model_close(k->base);
    free(k);
    recipe_free(&r);
    return status;
}
