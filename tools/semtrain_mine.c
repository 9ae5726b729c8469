/* mine: hard negatives as JSON lines that the same recipe's [data] reads back. */
#include "tools/semtrain.h"

#include <jansson.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file that takes its name when it is whole. */
typedef struct mined_file {
    semtrain *t;
    FILE *out;
    char path[FILES_PATH_MAX], partial[FILES_PATH_MAX];
    bool guide, words, model; /* what there are scores of */
} mined_file;

static json_t *text_value(data_text text)
{
    return json_stringn(text.bytes, text.length);
}

/* One number of each negative; null where it has no rank. */
typedef enum mined_figure { WORD_RANK, WORD_SCORE, MODEL_RANK, MODEL_SCORE, GUIDE_SCORE } mined_figure;

static json_t *figure_of(const mined_negative *n, mined_figure figure)
{
    const uint32_t rank = figure <= WORD_SCORE ? n->word_rank : n->model_rank;
    if (figure == GUIDE_SCORE)
        return json_real((double)n->guide_score);
    if (rank == MINE_NO_RANK)
        return json_null();
    if (figure == WORD_RANK || figure == MODEL_RANK)
        return json_integer(rank);
    return json_real((double)(figure == WORD_SCORE ? n->word_score : n->model_score));
}

static void set_figures(json_t *line, const char *name, const mined *m, mined_figure figure)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->count; i++)
        json_array_append_new(all, figure_of(&m->negatives[i], figure));
    json_object_set_new(line, name, all);
}

static json_t *line_of(const mined_file *f, const mined *m)
{
    json_t *line = json_pack("{s:o, s:[o]}", "query", text_value(m->anchor), "pos", text_value(m->positive));
    json_t *negatives = json_array();
    for (size_t i = 0; i < m->count; i++)
        json_array_append_new(negatives, text_value(m->negatives[i].text));
    if (line == NULL || json_array_size(negatives) != m->count || json_object_set_new(line, "neg", negatives) != 0) {
        json_decref(line);
        return NULL;
    }
    if (m->label.length > 0)
        json_object_set_new(line, "label", text_value(m->label));
    if (f->words) {
        set_figures(line, "word_rank", m, WORD_RANK);
        set_figures(line, "word_score", m, WORD_SCORE);
    }
    if (f->model) {
        set_figures(line, "model_rank", m, MODEL_RANK);
        set_figures(line, "model_score", m, MODEL_SCORE);
    }
    if (f->guide) {
        set_figures(line, "guide_score", m, GUIDE_SCORE);
        json_object_set_new(line, "positive_guide_score", json_real((double)m->positive_guide_score));
    }
    return line;
}

static sem_status write_line(void *context, const mined *m, sem_error *err)
{
    const mined_file *f = context;
    json_t *line = line_of(f, m);
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    json_decref(line);
    if (text == NULL)
        return sem_fail_memory(err, f->path);
    const bool written = fputs(text, f->out) >= 0 && fputc('\n', f->out) >= 0;
    free(text);
    return written ? SEM_OK : files_fail(err, "write", f->partial);
}

static void show(void *context, const char *phase, size_t done, size_t all)
{
    const mined_file *f = context;
    if (all > 0)
        progress_show(&f->t->bar, phase, (double)done / (double)all, "%zu/%zu queries", done, all);
    else
        progress_show(&f->t->bar, phase, -1, "%s", f->path);
}

static sem_status open_mined(mined_file *f, const recipe *r, const recipe_set *set, sem_error *err)
{
    sem_status status = files_join(f->path, err, "%s/%s.jsonl", r->mine.output, set->name);
    if (status == SEM_OK)
        status = files_join(f->partial, err, "%s.partial", f->path);
    if (status == SEM_OK)
        f->out = fopen(f->partial, "we");
    return status != SEM_OK || f->out != NULL ? status : files_fail(err, "create", f->partial);
}

/* Gives it its name when all went well. */
static sem_status close_mined(mined_file *f, sem_status status, sem_error *err)
{
    if (f->out == NULL)
        return status;
    if (status == SEM_OK && (fflush(f->out) != 0 || fsync(fileno(f->out)) != 0))
        status = files_fail(err, "write", f->partial);
    if (fclose(f->out) != 0 && status == SEM_OK)
        status = files_fail(err, "write", f->partial);
    if (status == SEM_OK && rename(f->partial, f->path) != 0)
        status = files_fail(err, "rename", f->partial);
    if (status != SEM_OK)
        unlink(f->partial);
    return status;
}

static void print_report(const semtrain *t, const char *name, const char *path, const mine_report *m)
{
    if (t->json) {
        fprintf(t->out,
                "{\"set\":\"%s\",\"pairs\":%" PRIu64 ",\"documents\":%" PRIu64 ",\"candidates\":%" PRIu64
                ",\"known\":%" PRIu64 ",\"same_text\":%" PRIu64 ",\"same_label\":%" PRIu64 ",\"by_guide\":%" PRIu64
                ",\"drawn\":%" PRIu64 ",\"without\":%" PRIu64 "}\n",
                name, m->pairs, m->documents, m->candidates, m->known, m->same_text, m->same_label, m->by_guide,
                m->drawn, m->without);
        return;
    }
    fprintf(t->out,
            "%s: %" PRIu64 " pairs, %" PRIu64 " documents, %" PRIu64 " candidates; left out %" PRIu64
            " known positives, %" PRIu64 " same texts, %" PRIu64 " same labels, %" PRIu64
            " by the guide; drawn %" PRIu64 " (%" PRIu64 " pairs without) -> %s\n",
            name, m->pairs, m->documents, m->candidates, m->known, m->same_text, m->same_label, m->by_guide, m->drawn,
            m->without, path);
}

static sem_status mine_set_of(semtrain *t, const recipe *r, const recipe_set *set, const mine_options *o,
                              sem_error *err)
{
    mined_file f = {.t = t, .guide = o->guide != NULL, .words = o->by_words, .model = o->by_model};
    mine_report report;
    const mine_control control = {.cancel = t->cancel, .progress = show, .sink = write_line, .context = &f};
    sem_status status = open_mined(&f, r, set, err);
    if (status == SEM_OK)
        status = mine_negatives(&set->data, o, &control, &report, err);
    status = close_mined(&f, status, err);
    progress_clear(&t->bar);
    if (status == SEM_OK)
        print_report(t, set->name, f.path, &report);
    return status;
}

/* The models that mining needs; the guide may be the model itself. */
static sem_status open_models(const recipe *r, mine_options *o, model **m, model **guide, sem_error *err)
{
    sem_status status = SEM_OK;
    const bool guided = r->mine.guide[0] != '\0', same = strcmp(r->mine.guide, r->train.model) == 0;
    if (o->by_model || (guided && same))
        status = semtrain_model(r, m, err);
    if (status == SEM_OK && guided && !same)
        status = model_open(guide, r->mine.guide, NULL, NULL, err);
    o->model = *m;
    o->guide = !guided ? NULL : same ? *m : *guide;
    return status;
}

static sem_status mine_all(semtrain *t, recipe *r, sem_error *err)
{
    model *m = NULL, *guide = NULL;
    mine_options o = {.by_words = strcmp(r->mine.by, "model") != 0,
                      .by_model = strcmp(r->mine.by, "words") != 0,
                      .top = r->mine.top,
                      .negatives = r->mine.negatives,
                      .seed = r->mine.seed,
                      .keep_same_label = r->mine.keep_same_label,
                      .keep_same_text = r->mine.keep_same_text,
                      .guide_ratio = r->mine.guide_ratio,
                      .threads = r->train.threads,
                      .nice = {.added = (int)r->train.nice}};
    const recipe_set *set;
    if (recipe_set_at(r, false, 0) == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the recipe has no [data NAME] section");
    if (r->mine.output[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mine.output is empty (expected a folder)");
    sem_status status = files_make_folder(r->mine.output, err);
    if (status == SEM_OK)
        status = open_models(r, &o, &m, &guide, err);
    for (size_t i = 0; status == SEM_OK && (set = recipe_set_at(r, false, i)) != NULL; i++)
        status = mine_set_of(t, r, set, &o, err);
    model_close(m);
    model_close(guide);
    return status;
}

sem_status run_mine(semtrain *t, const char *recipe_path, sem_error *err)
{
    recipe r;
    sem_status status = semtrain_recipe(t, recipe_path, &r, err);
    if (status == SEM_OK)
        status = mine_all(t, &r, err);
    recipe_free(&r);
    return status;
}
