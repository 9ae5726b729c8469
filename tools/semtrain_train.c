/* train and distill: a recipe to a new model directory. */
#include "finetune/train_mix.h"
#include "tools/semtrain_watch.h"

#include <jansson.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a run of `train` holds. */
typedef struct training {
    semtrain *t;
    recipe *r;
    bool distil;
    model *first;                  /* of [train] */
    model *wider;                  /* the same with a projection, where the teacher is not as wide; else NULL */
    const model *base;             /* the one of them that is trained */
    kept_vectors *teacher, *guide; /* NULL: none */
    mix_set sets[RECIPE_SETS_MAX];
    mix_lesson lessons[RECIPE_SETS_MAX];
    mix_domains *domains[RECIPE_SETS_MAX]; /* NULL where there is a field, or none are kept */
    size_t count;
    mix *mix;
    size_t steps;
    run_watch watch;
} training;

static void training_free(training *g)
{
    watch_end(&g->watch);
    mix_close(g->mix);
    for (size_t i = 0; i < g->count; i++)
        mix_domains_free(g->domains[i]);
    char start[FILES_PATH_MAX];
    if (g->wider != NULL && semtrain_start_path(g->r, start, NULL) == SEM_OK)
        files_remove_folder(start, NULL);
    kept_vectors_close(g->teacher);
    kept_vectors_close(g->guide);
    model_close(g->wider);
    model_close(g->first);
}

static sem_status check_recipe(const recipe *r, sem_error *err)
{
    if (r->train.output[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "train.output is empty (expected a new directory)");
    if (access(r->train.output, F_OK) == 0)
        return sem_fail(err, SEM_ALREADY_EXISTS, "train.output: %s is there already; name a new directory",
                        r->train.output);
    return SEM_OK;
}

static sem_status add_set(training *g, const recipe_set *set, sem_error *err)
{
    const size_t place = g->count++;
    return semtrain_mix_set(g->t, g->r, g->base, set, &g->sets[place], &g->domains[place], err);
}

/* So many that each pair comes `epochs` times on average, or max_steps; sets are counted
 * no further than that takes. */
static sem_status find_steps(training *g, sem_error *err)
{
    const train_config *c = &g->r->daemon.train;
    const uint64_t most = c->max_steps > 0 ? (uint64_t)c->max_steps * c->accumulate * c->batch_size : UINT64_MAX;
    uint64_t pairs = 0;
    for (size_t i = 0; i < g->count && pairs < most; i++) {
        data_counts counts = {.examples = g->sets[i].size};
        progress_show(&g->t->bar, "counting", -1, "%s", g->sets[i].data->name);
        sem_status status = counts.examples > 0 ? SEM_OK : data_count(g->sets[i].data, most - pairs, &counts, err);
        if (status != SEM_OK)
            return status;
        pairs = counts.examples > UINT64_MAX - pairs ? UINT64_MAX : pairs + counts.examples;
    }
    uint64_t batches = pairs / c->batch_size + (pairs % c->batch_size != 0);
    if (__builtin_mul_overflow(batches, (uint64_t)c->epochs, &batches))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "train.epochs: %zu are too many", c->epochs);
    g->steps = batches / c->accumulate + (batches % c->accumulate != 0);
    if (c->max_steps > 0 && g->steps > c->max_steps)
        g->steps = c->max_steps;
    if (g->steps == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the data sets hold no pair");
    return SEM_OK;
}

static sem_status open_mix(training *g, sem_error *err)
{
    const recipe *r = g->r;
    mix_options o = {.weighting = {.temperature = r->mix.temperature, .cap = r->mix.cap},
                     .batch_size = r->daemon.train.batch_size,
                     .cross_dataset = r->mix.cross_dataset,
                     .seed = r->daemon.train.seed};
    mix_method_parse(r->mix.sampling, &o.weighting.method); /* the key allows no other name */
    return mix_open(&g->mix, &o, g->sets, g->count, err);
}

static sem_status find_lessons(training *g, sem_error *err)
{
    const recipe_set *set;
    const loss_name usual = g->distil ? LOSS_MSE : LOSS_MNRL;
    sem_status status = SEM_OK;
    size_t count = 0;
    for (; status == SEM_OK && (set = recipe_set_at(g->r, false, count)) != NULL; count++)
        status = semtrain_lesson(set, usual, &g->lessons[count], err);
    if (status == SEM_OK && count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "the recipe has no [data NAME] section");
    return status == SEM_OK ? semtrain_check_lessons(g->r, g->lessons, count, err) : status;
}

/* The model to train, as wide as the teacher where it is to be distilled. */
static sem_status open_models(training *g, sem_error *err)
{
    sem_status status = semtrain_model(g->r, &g->first, err);
    if (status == SEM_OK)
        status = semtrain_teacher(g->t, g->r, &g->teacher, err);
    if (status == SEM_OK)
        status = semtrain_guide(g->t, g->r, &g->guide, err);
    if (status != SEM_OK)
        return status;
    g->base = g->first;
    const size_t width = g->teacher != NULL ? kept_vectors_dim(g->teacher) : 0;
    if (!g->distil || width == 0 || width == model_get_config(g->first)->dim)
        return SEM_OK;
    status = semtrain_widened(g->t, g->r, g->first, width, &g->wider, err);
    g->base = g->wider;
    return status;
}

static sem_status prepare(training *g, sem_error *err)
{
    const recipe_set *set;
    sem_status status = check_recipe(g->r, err);
    if (status == SEM_OK)
        status = find_lessons(g, err);
    if (status == SEM_OK)
        status = open_models(g, err);
    for (size_t i = 0; status == SEM_OK && (set = recipe_set_at(g->r, false, i)) != NULL; i++)
        status = add_set(g, set, err);
    if (status == SEM_OK)
        status = find_steps(g, err);
    return status == SEM_OK ? open_mix(g, err) : status;
}

/* What became of the plans of fixed shapes; NULL where nothing was padded. */
static json_t *shapes_json(const train_shape_report *s)
{
    if (s->tokens == 0)
        return NULL;
    json_t *buckets = json_object();
    for (size_t i = 0; i < TRAIN_BUCKETS; i++) {
        char width[TEXT_MAX];
        snprintf(width, sizeof width, "%zu", train_bucket_widths[i]);
        json_object_set_new(buckets, width, json_integer((json_int_t)s->steps[i]));
    }
    return json_pack("{s:I, s:I, s:o, s:f}", "plans_built", (json_int_t)s->plans_built, "plans_reused",
                     (json_int_t)s->plans_reused, "steps", buckets, "padding", (double)s->padding / (double)s->tokens);
}

static json_t *report_of(const training *g, const train_report *report)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:f}", "base", model_get_dir(g->first), "output",
                          g->r->train.output, "pairs", (json_int_t)report->pairs, "steps", (json_int_t)report->steps,
                          "first_loss", report->first_loss, "last_loss", report->last_loss, "seconds", report->seconds);
    if (o != NULL && g->teacher != NULL)
        json_object_set_new(o, "teacher", json_string(g->r->train.teacher));
    if (o != NULL && report->shapes.tokens > 0)
        json_object_set_new(o, "shapes", shapes_json(&report->shapes));
    return o;
}

static sem_status write_model(training *g, const float *params, const char *text, sem_error *err)
{
    char temporary[FILES_PATH_MAX];
    const param_layout *layout = encoder_layout(model_get_encoder(g->base));
    sem_status status = semtrain_output_begin(g->r->train.output, temporary, err);
    if (status != SEM_OK)
        return status;
    status = model_save(model_get_dir(g->base), temporary, layout, params, text, err);
    if (status == SEM_OK)
        status = watch_save(&g->watch, temporary, err);
    return semtrain_output_end(g->r->train.output, temporary, status, err);
}

static sem_status save(training *g, const float *params, const train_report *report, sem_error *err)
{
    json_t *o = report_of(g, report);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    if (text == NULL)
        return sem_fail_memory(err, "the model's description");
    sem_status status = write_model(g, params, text, err);
    free(text);
    return status;
}

static void print_shapes(FILE *out, const train_shape_report *s)
{
    if (s->tokens == 0)
        return;
    fprintf(out, "shapes: %zu plans built, used again %zu times;", s->plans_built, s->plans_reused);
    for (size_t i = 0; i < TRAIN_BUCKETS; i++)
        fprintf(out, " %zu tokens: %zu steps%s", train_bucket_widths[i], s->steps[i],
                i + 1 < TRAIN_BUCKETS ? "," : ";");
    fprintf(out, " %.1f%% padding\n", 100 * (double)s->padding / (double)s->tokens);
}

static void print_report(const training *g, const train_report *report)
{
    char seconds[TEXT_MAX];
    if (g->t->json) {
        json_t *o = report_of(g, report);
        json_dumpf(o, g->t->out, JSON_COMPACT);
        fputc('\n', g->t->out);
        json_decref(o);
        return;
    }
    fprintf(g->t->out, "%zu steps, %zu pairs in %s; loss %.4f -> %.4f; wrote %s\n", report->steps, report->pairs,
            text_duration(seconds, report->seconds), report->first_loss, report->last_loss, g->r->train.output);
    print_shapes(g->t->out, &report->shapes);
}

/* Models that are measured, and how each is called. */
enum { COMPARED_MAX = 3 };
typedef struct compared {
    const char *names[COMPARED_MAX];
    const model *models[COMPARED_MAX];
    size_t count;
} compared;

/* One figure of a set under each of the models. */
static void add_comparison(const training *g, const compared *c, const eval_result *found, size_t figure,
                           table *results)
{
    if (g->t->json)
        fprintf(g->t->out, "{\"set\":\"%s\",\"figure\":\"%s\"", found[0].set, found[0].names[figure]);
    table_add(results, "%s", found[0].set);
    table_add(results, "%s", found[0].names[figure]);
    for (size_t i = 0; i < c->count; i++) {
        if (g->t->json)
            fprintf(g->t->out, ",\"%s\":%.6f", c->names[i], found[i].values[figure]);
        table_add(results, "%.4f", found[i].values[figure]);
    }
    if (g->t->json)
        fputs("}\n", g->t->out);
}

/* The figure that counts, and of a translation both ways as well. */
static sem_status compare_on(const training *g, const recipe_set *set, const compared *c, table *results,
                             sem_error *err)
{
    eval_result found[COMPARED_MAX];
    sem_status status = SEM_OK;
    for (size_t i = 0; i < c->count && status == SEM_OK; i++)
        status = semtrain_evaluate(g->t, g->r, set, c->models[i], &found[i], err);
    const size_t figures = strcmp(set->kind, "translation") == 0 ? 3 : 1;
    for (size_t k = 0; k < figures && status == SEM_OK; k++)
        add_comparison(g, c, found, k, results);
    return status;
}

/* Each [eval] set before and after, and under the teacher. */
static sem_status compare(const training *g, sem_error *err)
{
    static const char *const headers[] = {"set", "figure", "before", "after", "teacher"};
    const recipe_set *set;
    model *after = NULL, *teacher = NULL;
    if (recipe_set_at(g->r, true, 0) == NULL)
        return SEM_OK;
    table results;
    sem_status status = model_open(&after, g->r->train.output, NULL, NULL, err);
    if (status == SEM_OK && g->teacher != NULL)
        status = model_open(&teacher, g->r->train.teacher, NULL, NULL, err);
    const compared c = {.names = {headers[2], headers[3], headers[4]},
                        .models = {g->first, after, teacher},
                        .count = teacher != NULL ? 3 : 2};
    table_init(&results, headers, 2 + c.count, 1U << 2 | 1U << 3 | 1U << 4);
    for (size_t i = 0; status == SEM_OK && (set = recipe_set_at(g->r, true, i)) != NULL; i++)
        status = compare_on(g, set, &c, &results, err);
    progress_clear(&g->t->bar);
    if (status == SEM_OK && !g->t->json && !table_print(&results, g->t->out))
        status = sem_fail_memory(err, "the results");
    table_free(&results);
    model_close(after);
    model_close(teacher);
    return status;
}

/* What the loss's axis is called. */
static const char *loss_label(const training *g)
{
    for (size_t i = 1; i < g->count; i++)
        if (g->lessons[i].loss != g->lessons[0].loss)
            return "loss (of each set's own kind)";
    return g->lessons[0].loss == LOSS_MSE ? "loss (squared difference)" : "loss (nats a pair)";
}

static sem_status train(training *g, sem_error *err)
{
    float *params = NULL;
    train_report report;
    char folder[FILES_PATH_MAX];
    sem_status status = prepare(g, err);
    if (status == SEM_OK)
        status = watch_begin(&g->watch, g->t, g->r, g->base, loss_label(g), err);
    if (status == SEM_OK)
        status = files_parent(g->r->train.output, folder, err);
    const train_mix_options options = {.steps = g->steps,
                                       .negatives = g->r->train.negatives,
                                       .lessons = g->lessons,
                                       .set_count = g->count,
                                       .teacher = g->teacher,
                                       .guide = g->guide,
                                       .folder = folder};
    if (status == SEM_OK)
        status = train_on_mix(g->base, g->mix, &options, &g->r->daemon.train, &g->watch.control, &params, &report, err);
    if (status == SEM_OK)
        status = save(g, params, &report, err);
    free(params);
    progress_clear(&g->t->bar);
    if (status != SEM_OK)
        return status;
    /* What it was for is on disk. */
    if (g->r->train.checkpoint[0] != '\0' && unlink(g->r->train.checkpoint) != 0 && errno != ENOENT)
        return files_fail(err, "remove", g->r->train.checkpoint);
    status = watch_forget(&g->watch, err);
    if (status != SEM_OK)
        return status;
    print_report(g, &report);
    return compare(g, err);
}

static sem_status run(semtrain *t, const char *recipe_path, bool distil, sem_error *err)
{
    recipe r;
    training *g = calloc(1, sizeof *g);
    if (g == NULL)
        return sem_fail_memory(err, "a training");
    sem_status status = semtrain_recipe(t, recipe_path, &r, err);
    g->t = t;
    g->r = &r;
    g->distil = distil;
    if (status == SEM_OK)
        status = train(g, err);
    training_free(g);
    free(g);
    recipe_free(&r);
    return status;
}

sem_status run_train(semtrain *t, const char *recipe_path, sem_error *err)
{
    return run(t, recipe_path, false, err);
}

sem_status run_distill(semtrain *t, const char *recipe_path, sem_error *err)
{
    return run(t, recipe_path, true, err);
}
