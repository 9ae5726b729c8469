#include "daemon/config.h"

#include "daemon/config_keys.h"

#include <ini.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_BYTES_MAX = 1 << 20, /* of a configuration file: far more than any real one has */
    SEEN_MAX = 256            /* keys in the table, at most */
};

/* One reading of a file. inih asks read_line() for lines and calls on_value()
 * for values, but tells no line numbers: they are counted here. */
typedef struct file_reading {
    const char *path;
    const char *rest; /* what is left of the text */
    size_t line;      /* of the text that inih is at, from 1 */
    config *into;
    size_t seen[SEEN_MAX]; /* line on which each key of the table was given; 0: not yet */
    bool failed;           /* the error is filled; later lines are not looked at */
    sem_error *err;
} file_reading;

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

/* Training takes a number of threads; 0 in the file means one a core. */
static void resolve_threads(config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1)
        cores = 1;
    if (cores > TRAIN_THREADS_MAX)
        cores = TRAIN_THREADS_MAX;
    c->train.threads = c->finetune.threads > 0 ? c->finetune.threads : (unsigned)cores;
}

void config_defaults(config *c)
{
    memset(c, 0, sizeof *c);
    train_config_defaults(&c->train); /* what has no key of its own */
    for (size_t i = 0; i < config_key_count; i++)
        config_key_set(&config_keys[i], c, config_keys[i].initial, NULL);
    use_state_directory(c);
    resolve_threads(c);
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
    char keys[512];
    if (!config_section_known(section))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "unknown section [%s] (allowed: server, limits, storage, model, encode, index, events, "
                        "finetune, train, log)",
                        section);
    list_keys(section, keys, sizeof keys);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "unknown key %s.%s (allowed in [%s]: %s)", section, name, section, keys);
}

/* --- the file */

/* Refuses what inih would take for something else: cut lines, continuation
 * lines, unknown sections without keys, text behind a section's bracket. */
static sem_status check_line(const char *line, size_t length, sem_error *err)
{
    char section[CONFIG_LINE_MAX + 1];
    if (length > CONFIG_LINE_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the line has %zu bytes (at most %d)", length, CONFIG_LINE_MAX);
    if (memchr(line, '\0', length) != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the line holds a NUL byte");
    size_t blank = 0;
    while (blank < length && (line[blank] == ' ' || line[blank] == '\t' || line[blank] == '\r'))
        blank++;
    if (blank == length || line[blank] == '#' || line[blank] == ';')
        return SEM_OK;
    if (blank > 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the line is indented (a key starts at the left edge)");
    if (line[0] != '[')
        return SEM_OK;
    const char *end = memchr(line, ']', length);
    if (end == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the section's ']' is missing");
    size_t name = (size_t)(end - line) - 1;
    memcpy(section, line + 1, name);
    section[name] = '\0';
    if (!config_section_known(section))
        return unknown_key(section, "", err);
    for (end++; end < line + length && strchr(" \t\r", *end) != NULL; end++)
        ;
    if (end < line + length && *end != ';' && *end != '#')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "text follows [%s]", section);
    return SEM_OK;
}

static sem_status check_lines(const char *path, const char *text, size_t size, sem_error *err)
{
    size_t number = 1;
    const char *end = text + size;
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        text += 3;
    for (const char *line = text; line < end; number++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline != NULL ? newline : end) - line);
        if (check_line(line, length, err) != SEM_OK)
            return sem_error_prefix(err, "%s:%zu", path, number);
        line += length + 1;
    }
    return SEM_OK;
}

/* Like fgets(). Every line fits: check_lines() has seen to it. */
static char *read_line(char *into, int size, void *stream)
{
    file_reading *reading = stream;
    size_t length = strcspn(reading->rest, "\n");
    if (reading->rest[0] == '\0' || size < 2)
        return NULL;
    if (reading->rest[length] == '\n')
        length++;
    if (length > (size_t)size - 1)
        length = (size_t)size - 1;
    memcpy(into, reading->rest, length);
    into[length] = '\0';
    reading->rest += length;
    reading->line++;
    return into;
}

static sem_status take_value(file_reading *reading, const char *section, const char *name, const char *value)
{
    const config_key *key = config_key_find(section, name);
    if (key == NULL)
        return unknown_key(section, name, reading->err);
    size_t *seen = &reading->seen[key - config_keys];
    if (*seen != 0 && key->kind != KEY_LISTEN)
        return sem_fail(reading->err, SEM_INVALID_ARGUMENT, "%s.%s was given on line %zu already", section, name,
                        *seen);
    if (*seen == 0 && key->kind == KEY_LISTEN)
        reading->into->server.listen_count = 0;
    *seen = reading->line;
    return config_key_set(key, reading->into, value, reading->err);
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
    file_reading *reading = user;
    if (reading->failed)
        return 0;
    if (section[0] == '\0')
        sem_fail(reading->err, SEM_INVALID_ARGUMENT, "the key %s stands before the first [section]", name);
    else if (take_value(reading, section, name, value) == SEM_OK)
        return 1;
    sem_error_prefix(reading->err, "%s:%zu", reading->path, reading->line);
    reading->failed = true;
    return 0;
}

static sem_status read_file(config *c, const char *path, sem_error *err)
{
    char *text = NULL;
    size_t size = 0;
    sem_status status = files_read(path, FILE_BYTES_MAX, &text, &size, err);
    if (status != SEM_OK)
        return status;
    sem_error inner;
    file_reading reading = {.path = path, .rest = text, .into = c, .err = err == NULL ? &inner : err};
    status = check_lines(path, text, size, err);
    if (status == SEM_OK) {
        int line = ini_parse_stream(read_line, &reading, on_value, &reading);
        if (reading.failed)
            status = SEM_INVALID_ARGUMENT;
        else if (line > 0)
            status =
                sem_fail(err, SEM_INVALID_ARGUMENT, "%s:%d: expected [section], key = value or a comment", path, line);
        else if (line < 0)
            status = sem_fail_memory(err, path);
    }
    free(text);
    return status;
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
    if (c->server.output_limit < c->server.output_buffer)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "server.output_limit is %zu bytes, below server.output_buffer with %zu", c->server.output_limit,
                        c->server.output_buffer);
    return train_config_check(&c->train, err);
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
    resolve_threads(&next);
    if (check_whole(&next, err) != SEM_OK)
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
    resolve_threads(c);
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
