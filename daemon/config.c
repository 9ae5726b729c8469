#include "daemon/config.h"

#include "daemon/config_file.h"
#include "daemon/config_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SEEN_MAX = 256,           /* keys in the table, at most */
    EVENTS_SIZE_MIN = 1 << 20 /* bytes: an empty log takes some pages, and a full one is emptied by a part of it */
};

/* The file's values on their way into the configuration. */
typedef struct file_values {
    config *into;
    size_t seen[SEEN_MAX]; /* line on which each key of the table was given; 0: not yet */
} file_values;

static const char *state_directory(void)
{
    const char *given = getenv("STATE_DIRECTORY");
    return given != NULL && given[0] == '/' ? given : NULL;
}

/* systemd separates several folders by colons; the first is semd's. */
static void use_state_directory(config *c)
{
    const char *given = state_directory();
    size_t length = given == NULL ? 0 : strcspn(given, ":");
    if (length == 0 || length >= sizeof c->storage.path)
        return;
    memcpy(c->storage.path, given, length);
    c->storage.path[length] = '\0';
}

/* The next number of a list with commas or spaces between; false at its end or where none stands. */
static bool next_number(const char **at, double *out)
{
    char *end;
    const char *from = *at + strspn(*at, " ,");
    *out = strtod(from, &end);
    *at = end + strspn(end, " ,");
    return end != from;
}

static sem_status add_dimension(train_config *t, double dimension, double weight, sem_error *err)
{
    size_t place = t->dim_count;
    const size_t dim = dimension >= 1 && dimension <= UINT32_MAX ? (size_t)dimension : 0;
    if ((double)dim < dimension || dim == 0 || place == TRAIN_DIMS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "train.matryoshka: %g is dimension %zu (allowed: up to %d whole numbers from 1 on)", dimension,
                        place + 1, TRAIN_DIMS_MAX);
    if (!(weight > 0 && weight <= 1e6))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "train.matryoshka_weights: %g for dimension %zu (allowed: above 0, at most 1e6)", weight, dim);
    for (; place > 0 && t->dims[place - 1] > dim; place--) {
        t->dims[place] = t->dims[place - 1];
        t->dim_weights[place] = t->dim_weights[place - 1];
    }
    if (place > 0 && t->dims[place - 1] == dim)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "train.matryoshka names dimension %zu twice", dim);
    t->dims[place] = dim;
    t->dim_weights[place] = weight;
    t->dim_count++;
    return SEM_OK;
}

/* Dimensions in any order, as people write them. */
static sem_status read_dimensions(config *c, sem_error *err)
{
    const char *dims = c->train_names.matryoshka, *weights = c->train_names.matryoshka_weights;
    const bool weighted = *weights != '\0';
    bool missing = false;
    double dimension, weight = 1;
    sem_status status = SEM_OK;
    c->train.dim_count = 0;
    while (status == SEM_OK && !missing && next_number(&dims, &dimension)) {
        missing = weighted && !next_number(&weights, &weight);
        if (!missing)
            status = add_dimension(&c->train, dimension, weight, err);
    }
    if (status == SEM_OK && (missing || *dims != '\0' || *weights != '\0'))
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "train.matryoshka is '%s' and train.matryoshka_weights '%s' (expected: numbers, and none or "
                          "as many weights)",
                          c->train_names.matryoshka, c->train_names.matryoshka_weights);
    if (status != SEM_OK)
        c->train.dim_count = 0;
    return status;
}

sem_status config_resolve_train(config *c, sem_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1)
        cores = 1;
    if (cores > TRAIN_THREADS_MAX)
        cores = TRAIN_THREADS_MAX;
    c->train.threads = c->finetune.threads > 0 ? c->finetune.threads : (unsigned)cores;
    (void)schedule_shape_of(c->train_names.schedule, &c->train.schedule);
    (void)mnrl_scale_of(c->train_names.scale_kind, &c->train.scale_kind);
    (void)train_shape_of(c->train_names.shape, &c->train.shape);
    (void)train_precision_of(c->train_names.precision, &c->train.precision);
    sem_status status = read_dimensions(c, err);
    return status == SEM_OK ? train_config_check(&c->train, err) : status;
}

void config_defaults(config *c)
{
    memset(c, 0, sizeof *c);
    train_config_defaults(&c->train); /* what has no key of its own */
    for (size_t i = 0; i < config_key_count; i++)
        config_key_set(&config_keys[i], c, config_keys[i].initial, NULL);
    use_state_directory(c);
    (void)config_resolve_train(c, NULL); /* the defaults are right */
}

/* Lists the names of a section's keys into text. */
static void list_keys(const char *section, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < config_key_count; i++) {
        if (strcmp(config_keys[i].section, section) != 0)
            continue;
        int n = snprintf(text + used, size - used, "%s%s", used == 0 ? "" : ", ", config_keys[i].name);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

static sem_status unknown_key(const char *section, const char *name, sem_error *err)
{
    char keys[1024];
    if (!config_section_known(section))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "unknown section [%s] (allowed: server, limits, auth, storage, model, encode, index, events, "
                        "finetune, train, log)",
                        section);
    list_keys(section, keys, sizeof keys);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "unknown key %s.%s (allowed in [%s]: %s)", section, name, section, keys);
}

/* --- the file */

static sem_status take_section(void *context, const char *name, sem_error *err)
{
    (void)context;
    return config_section_known(name) ? SEM_OK : unknown_key(name, "", err);
}

static sem_status take_value(void *context, const char *section, const char *name, const char *value, size_t line,
                             sem_error *err)
{
    file_values *file = context;
    const config_key *key = config_key_find(section, name);
    if (key == NULL)
        return unknown_key(section, name, err);
    size_t *seen = &file->seen[key - config_keys];
    if (*seen != 0 && key->kind != KEY_LISTEN)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s.%s was given on line %zu already", section, name, *seen);
    if (*seen == 0 && key->kind == KEY_LISTEN)
        file->into->server.listen_count = 0;
    *seen = line;
    return config_key_set(key, file->into, value, err);
}

static sem_status read_file(config *c, const char *path, sem_error *err)
{
    file_values file = {.into = c};
    const config_taker taker = {.section = take_section, .value = take_value, .context = &file};
    return config_file_read(path, &taker, err);
}

/* --- the command line */

static sem_status take_override(config *c, const char *text, bool *listen_seen, sem_error *err)
{
    char section[64], name[64];
    const char *equals = strchr(text, '=');
    const char *dot = strchr(text, '.');
    if (equals == NULL || dot == NULL || dot > equals || (size_t)(dot - text) >= sizeof section ||
        (size_t)(equals - dot) > sizeof name)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "-o %s: expected section.key=value", text);
    snprintf(section, sizeof section, "%.*s", (int)(dot - text), text);
    snprintf(name, sizeof name, "%.*s", (int)(equals - dot - 1), dot + 1);
    const config_key *key = config_key_find(section, name);
    if (key == NULL) {
        unknown_key(section, name, err);
        return sem_error_prefix(err, "-o %s", text);
    }
    if (key->kind == KEY_LISTEN && !*listen_seen) {
        c->server.listen_count = 0;
        *listen_seen = true;
    }
    if (config_key_set(key, c, equals + 1, err) != SEM_OK)
        return sem_error_prefix(err, "-o");
    return SEM_OK;
}

/* What no single key can be checked for. */
static sem_status check_whole(const config *c, sem_error *err)
{
    if (c->storage.path[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "storage.path is empty (expected a folder)");
    if (c->events.keep_ms != 0 && c->events.keep_ms < c->events.click_window_ms)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "events.keep is %llu ms, below events.click_window with %llu: a search would be gone while it "
                        "takes clicks",
                        (unsigned long long)c->events.keep_ms, (unsigned long long)c->events.click_window_ms);
    if (c->events.max_size != 0 && c->events.max_size < EVENTS_SIZE_MIN)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "events.max_size is %llu bytes (allowed: 0, or from %d on)",
                        (unsigned long long)c->events.max_size, EVENTS_SIZE_MIN);
    if (c->server.output_limit < c->server.output_buffer)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "server.output_limit is %zu bytes, below server.output_buffer with %zu", c->server.output_limit,
                        c->server.output_buffer);
    return SEM_OK;
}

sem_status config_load(config *c, const char *path, const char *const *overrides, size_t count, sem_error *err)
{
    config next = *c;
    bool listen_seen = false;
    sem_error inner;
    if (err == NULL)
        err = &inner;
    if (path != NULL && read_file(&next, path, err) != SEM_OK)
        return err->code;
    for (size_t i = 0; i < count; i++)
        if (take_override(&next, overrides[i], &listen_seen, err) != SEM_OK)
            return err->code;
    if (config_resolve_train(&next, err) != SEM_OK || check_whole(&next, err) != SEM_OK)
        return err->code;
    *c = next;
    return SEM_OK;
}

/* --- reload and help */

static bool same_value(const config_key *key, const config *a, const config *b)
{
    const char *left = (const char *)a + key->offset;
    const char *right = (const char *)b + key->offset;
    switch (key->kind) {
    case KEY_PATH:
    case KEY_CALENDAR:
    case KEY_CHOICE:
    case KEY_HTTP: return strcmp(left, right) == 0;
    case KEY_LISTEN: break;
    default: return memcmp(left, right, key->size) == 0;
    }
    if (a->server.listen_count != b->server.listen_count)
        return false;
    for (size_t i = 0; i < a->server.listen_count; i++)
        if (strcmp(a->server.listen[i], b->server.listen[i]) != 0)
            return false;
    return true;
}

void config_reload(config *c, const config *next, char *refused, size_t size)
{
    size_t used = 0;
    if (size > 0)
        refused[0] = '\0';
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        if (!key->restart) {
            memcpy((char *)c + key->offset, (const char *)next + key->offset, key->size);
            continue;
        }
        if (same_value(key, c, next) || used >= size)
            continue;
        int n = snprintf(refused + used, size - used, "%s%s.%s", used == 0 ? "" : " ", key->section, key->name);
        used += n > 0 ? (size_t)n : 0;
    }
    (void)config_resolve_train(c, NULL); /* next is right */
}

bool config_describe(buffer *out)
{
    char line[512];
    const char *section = "";
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        if (strcmp(section, key->section) != 0) {
            section = key->section;
            snprintf(line, sizeof line, "[%s]\n", section);
            if (!buffer_append(out, line, strlen(line)))
                return false;
        }
        snprintf(line, sizeof line, "  %-15s = %-20s %s%s\n", key->name, key->initial, key->help,
                 key->restart ? " (restart)" : "");
        if (!buffer_append(out, line, strlen(line)))
            return false;
    }
    return true;
}
