#include "bench/clicksim/results.h"

#include "base/checked.h"
#include "base/files.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const results_variants[] = {"none", "naive", "debiased", "negatives", NULL};

static json_t *row_json(const results_row *r)
{
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "world", r->world, "variant",
                            r->variant, "heldout_is", r->heldout_is, "kept_is", r->kept_is, "round", (int)r->round,
                            "searches", (json_int_t)r->people.searches, "clicks", (json_int_t)r->people.clicks, "right",
                            (json_int_t)r->people.right, "found", (json_int_t)r->people.found, "pairs",
                            (json_int_t)r->pairs);
    json_t *more = json_pack("{s:f, s:f, s:f, s:f, s:s, s:s, s:f, s:f, s:f, s:f}", "mrr", r->heldout.mrr, "mrr_error",
                             r->heldout.error, "kept_mrr", r->kept.mrr, "kept_error", r->kept.error, "decision",
                             r->decision, "reason", r->reason, "training_s", r->training_s, "evaluating_s",
                             r->evaluating_s, "embedding_s", r->embedding_s, "flip_s", r->flip_s);
    if (out == NULL || more == NULL || json_object_update(out, more) != 0) {
        json_decref(out);
        out = NULL;
    }
    json_decref(more);
    return out;
}

sem_status results_append(const char *path, const results_row *row, sem_error *err)
{
    json_t *value = row_json(row);
    if (value == NULL)
        return sem_fail_memory(err, "a result");
    FILE *out = fopen(path, "ae");
    bool good = out != NULL && json_dumpf(value, out, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0 &&
                fputc('\n', out) != EOF;
    if (out != NULL)
        good = fclose(out) == 0 && good;
    json_decref(value);
    return good ? SEM_OK : files_fail(err, "write", path);
}

static void copy_field(char *out, size_t size, const json_t *line, const char *name)
{
    const char *value = json_string_value(json_object_get(line, name));
    snprintf(out, size, "%s", value != NULL ? value : "");
}

static size_t count_field(const json_t *line, const char *name)
{
    return (size_t)json_integer_value(json_object_get(line, name));
}

static double real_field(const json_t *line, const char *name)
{
    return json_number_value(json_object_get(line, name));
}

static results_row row_of(const json_t *line)
{
    results_row r = {.round = (unsigned)count_field(line, "round"),
                     .people = {.searches = count_field(line, "searches"),
                                .clicks = count_field(line, "clicks"),
                                .right = count_field(line, "right"),
                                .found = count_field(line, "found")},
                     .heldout = {real_field(line, "mrr"), real_field(line, "mrr_error")},
                     .kept = {real_field(line, "kept_mrr"), real_field(line, "kept_error")},
                     .pairs = count_field(line, "pairs"),
                     .training_s = real_field(line, "training_s"),
                     .evaluating_s = real_field(line, "evaluating_s"),
                     .embedding_s = real_field(line, "embedding_s"),
                     .flip_s = real_field(line, "flip_s")};
    copy_field(r.world, sizeof r.world, line, "world");
    copy_field(r.variant, sizeof r.variant, line, "variant");
    copy_field(r.heldout_is, sizeof r.heldout_is, line, "heldout_is");
    copy_field(r.kept_is, sizeof r.kept_is, line, "kept_is");
    copy_field(r.decision, sizeof r.decision, line, "decision");
    copy_field(r.reason, sizeof r.reason, line, "reason");
    return r;
}

static sem_status read_file(results_row **out, size_t *count, const char *path, sem_error *err)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return files_fail(err, "read", path);
    char *text = NULL;
    size_t size = 0;
    sem_status status = SEM_OK;
    while (status == SEM_OK && getline(&text, &size, in) > 0) {
        json_error_t where;
        json_t *line = json_loads(text, 0, &where);
        results_row *grown = line != NULL ? checked_realloc(*out, *count + 1, sizeof *grown) : NULL;
        if (line == NULL)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s", path, where.text);
        else if (grown == NULL)
            status = sem_fail_memory(err, "the results");
        if (status == SEM_OK && grown != NULL) {
            *out = grown;
            grown[(*count)++] = row_of(line);
        }
        json_decref(line);
    }
    free(text);
    fclose(in);
    return status;
}

sem_status results_read(results_row **out, size_t *count, const char *const *paths, size_t path_count, sem_error *err)
{
    sem_status status = SEM_OK;
    *out = NULL;
    *count = 0;
    for (size_t i = 0; i < path_count && status == SEM_OK; i++)
        status = read_file(out, count, paths[i], err);
    if (status != SEM_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}
