#include "tools/semtrain_results.h"

#include "base/checked.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rank_results {
    char path[FILES_PATH_MAX];
    int fd;
    rank_result *items;
    size_t count;
};

const char *rank_results_path(const rank_results *s)
{
    return s->path;
}

static sem_status add(rank_results *s, const rank_result *result, sem_error *err)
{
    rank_result *grown = checked_realloc(s->items, s->count + 1, sizeof *grown);
    if (grown == NULL)
        return sem_fail_memory(err, "the results of a ranking");
    s->items = grown;
    s->items[s->count++] = *result;
    return SEM_OK;
}

static bool read_line(const char *line, size_t length, rank_result *out)
{
    json_t *o = json_loadb(line, length, 0, NULL);
    const char *name = json_string_value(json_object_get(o, "name"));
    const char *run = json_string_value(json_object_get(o, "run"));
    const json_t *pairs = json_object_get(o, "pairs"), *score = json_object_get(o, "score");
    const bool good = name != NULL && strlen(name) < RECIPE_NAME_MAX && run != NULL && json_is_integer(pairs) &&
                      (json_is_number(score) || json_is_null(score)) && sscanf(run, "%16" SCNx64, &out->run) == 1;
    if (good) {
        snprintf(out->name, sizeof out->name, "%s", name);
        out->pairs = (uint64_t)json_integer_value(pairs);
        out->score = json_is_null(score) ? NAN : json_number_value(score);
    }
    json_decref(o);
    return good;
}

/* Reads all whole lines and leaves the file's end behind them. */
static sem_status read_all(rank_results *s, sem_error *err)
{
    FILE *in = fopen(s->path, "re");
    if (in == NULL)
        return files_fail(err, "open", s->path);
    char *line = NULL;
    size_t room = 0, number = 0;
    off_t whole = 0;
    sem_status status = SEM_OK;
    for (ssize_t n; status == SEM_OK && (n = getline(&line, &room, in)) > 0 && line[n - 1] == '\n'; whole += n) {
        rank_result result = {.run = 0};
        number++;
        status = read_line(line, (size_t)n, &result)
                     ? add(s, &result, err)
                     : sem_fail(err, SEM_FAILED_PRECONDITION,
                                "%s:%zu: no result of a ranking; remove the file to begin anew", s->path, number);
    }
    free(line);
    fclose(in);
    if (status == SEM_OK && (ftruncate(s->fd, whole) != 0 || lseek(s->fd, 0, SEEK_END) < 0))
        status = files_fail(err, "cut", s->path);
    return status;
}

sem_status rank_results_open(rank_results **out, const char *path, sem_error *err)
{
    *out = NULL;
    rank_results *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "the results of a ranking");
    s->fd = -1;
    sem_status status = files_join(s->path, err, "%s", path);
    if (status == SEM_OK && (s->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) < 0)
        status = files_fail(err, "open", path);
    if (status == SEM_OK)
        status = read_all(s, err);
    if (status == SEM_OK)
        *out = s;
    else
        rank_results_close(s);
    return status;
}

void rank_results_close(rank_results *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->items);
    free(s);
}

bool rank_results_find(const rank_results *s, rank_result *result)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].run == result->run && strcmp(s->items[i].name, result->name) == 0) {
            *result = s->items[i];
            return true;
        }
    return false;
}

sem_status rank_results_keep(rank_results *s, const rank_result *result, sem_error *err)
{
    char run[17];
    snprintf(run, sizeof run, "%016" PRIx64, result->run);
    json_t *o = json_pack("{s:s, s:s, s:I, s:o}", "name", result->name, "run", run, "pairs", (json_int_t)result->pairs,
                          "score", isfinite(result->score) ? json_real(result->score) : json_null());
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text == NULL)
        return sem_fail_memory(err, "a result of a ranking");
    const size_t length = strlen(text);
    text[length] = '\n'; /* in the place of its NUL */
    sem_status status = files_write_all(s->fd, s->path, text, length + 1, err);
    free(text);
    if (status == SEM_OK && fsync(s->fd) != 0)
        status = files_fail(err, "fsync", s->path);
    return status == SEM_OK ? add(s, result, err) : status;
}
