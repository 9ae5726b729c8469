#include "tools/semtrain_recipe.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "daemon/config_file.h"
#include "tools/semtrain_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN_MAX = 128 };

/* One reading of a recipe. */
typedef struct recipe_reading {
    recipe *into;
    const char *set_seen[RECIPE_SETS_MAX][SEEN_MAX]; /* keys given in each [data] and [eval] */
    size_t set_seen_count[RECIPE_SETS_MAX];
    const config_key *seen[SEEN_MAX];
    size_t seen_count;
} recipe_reading;

/* --- finding sections and keys */

/* "data NAME" and "eval NAME"; NULL: another section. */
static const char *set_name(const char *section, bool *eval)
{
    *eval = strncmp(section, "eval ", 5) == 0;
    return *eval || strncmp(section, "data ", 5) == 0 ? section + 5 : NULL;
}

static bool is_plain_section(const char *section)
{
    return strcmp(section, "train") == 0 || strcmp(section, "mix") == 0 || strcmp(section, "mine") == 0 ||
           strcmp(section, "rank") == 0;
}

/* Whether a key of the table belongs to a set of this kind: [eval] reads data too, and has
 * no use for how it would be drawn from. */
static bool is_for(const config_key *key, bool eval)
{
    static const char *const drawing[] = {"window",  "window_bytes", "pairs",    "weight", "by_domain", "mixed_share",
                                          "domains", "description",  "negative", "loss",   "target"};
    if (strcmp(key->section, "eval") == 0)
        return eval;
    for (size_t i = 0; i < sizeof drawing / sizeof *drawing && eval; i++)
        if (strcmp(key->name, drawing[i]) == 0)
            return false;
    return true;
}

static const config_key *find_set_key(const char *name, bool eval)
{
    for (size_t i = 0; i < recipe_set_key_count; i++)
        if (strcmp(recipe_set_keys[i].name, name) == 0 && is_for(&recipe_set_keys[i], eval))
            return &recipe_set_keys[i];
    return NULL;
}

static const config_key *find_plain_key(const char *section, const char *name)
{
    for (size_t i = 0; i < recipe_key_count; i++)
        if (strcmp(recipe_keys[i].section, section) == 0 && strcmp(recipe_keys[i].name, name) == 0)
            return &recipe_keys[i];
    return strcmp(section, "train") == 0 ? config_key_find(section, name) : NULL;
}

static bool is_daemon_key(const config_key *key)
{
    return key >= config_keys && key < config_keys + config_key_count;
}

static sem_status unknown_key(const char *section, const char *name, sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT, "unknown key %s.%s (semtrain --keys lists all)", section, name);
}

/* --- sets */

static sem_status check_name(const char *section, const char *name, sem_error *err)
{
    const size_t length = strlen(name);
    if (length > 0 && length < RECIPE_NAME_MAX &&
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == length)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "[%s]: a set's name is 1 to %d letters, digits, hyphens and underscores",
                    section, RECIPE_NAME_MAX - 1);
}

static void set_defaults(recipe_set *set, const char *name, bool eval)
{
    *set = (recipe_set){.eval = eval};
    snprintf(set->name, sizeof set->name, "%s", name);
    for (size_t i = 0; i < recipe_set_key_count; i++)
        config_key_set(&recipe_set_keys[i], set, recipe_set_keys[i].initial, NULL);
}

/* The set of that name, added if it is new. */
static sem_status find_set(recipe *r, const char *section, const char *name, bool eval, recipe_set **out,
                           sem_error *err)
{
    sem_status status = check_name(section, name, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < r->set_count; i++)
        if (r->sets[i].eval == eval && strcmp(r->sets[i].name, name) == 0) {
            *out = &r->sets[i];
            return SEM_OK;
        }
    if (r->set_count == RECIPE_SETS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "[%s]: a recipe takes at most %d sets", section, RECIPE_SETS_MAX);
    recipe_set *grown = checked_realloc(r->sets, r->set_count + 1, sizeof *grown);
    if (grown == NULL)
        return sem_fail_memory(err, "a recipe");
    r->sets = grown;
    *out = &r->sets[r->set_count++];
    set_defaults(*out, name, eval);
    return SEM_OK;
}

static sem_status add_file(recipe_set *set, const char *path, sem_error *err)
{
    if (path[0] == '\0' || set->file_count == RECIPE_FILES_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s %s: file takes a path, at most %d times",
                        set->eval ? "eval" : "data", set->name, RECIPE_FILES_MAX);
    set->files[set->file_count] = strdup(path);
    if (set->files[set->file_count] == NULL)
        return sem_fail_memory(err, "a recipe");
    set->file_count++;
    return SEM_OK;
}

static void forget_files(recipe_set *set)
{
    while (set->file_count > 0)
        free(set->files[--set->file_count]);
}

recipe_set *recipe_set_at(recipe *r, bool eval, size_t k)
{
    for (size_t i = 0; i < r->set_count; i++)
        if (r->sets[i].eval == eval && k-- == 0)
            return &r->sets[i];
    return NULL;
}

void recipe_free(recipe *r)
{
    for (size_t i = 0; i < r->set_count; i++)
        forget_files(&r->sets[i]);
    free(r->sets);
    r->sets = NULL;
    r->set_count = 0;
}

/* --- the file */

static sem_status take_section(void *context, const char *section, sem_error *err)
{
    recipe_reading *reading = context;
    recipe_set *set;
    bool eval;
    const char *name = set_name(section, &eval);
    if (name != NULL)
        return find_set(reading->into, section, name, eval, &set, err);
    if (is_plain_section(section))
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "unknown section [%s] (allowed: train, mix, mine, rank, data NAME, eval NAME)", section);
}

static sem_status take_set_value(recipe_reading *reading, recipe_set *set, const char *section, const char *name,
                                 const char *value, sem_error *err)
{
    const size_t place = (size_t)(set - reading->into->sets);
    if (strcmp(name, "file") == 0)
        return add_file(set, value, err);
    const config_key *key = find_set_key(name, set->eval);
    if (key == NULL)
        return unknown_key(section, name, err);
    for (size_t i = 0; i < reading->set_seen_count[place]; i++)
        if (reading->set_seen[place][i] == key->name)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s.%s was given already", section, name);
    if (reading->set_seen_count[place] < SEEN_MAX)
        reading->set_seen[place][reading->set_seen_count[place]++] = key->name;
    return config_key_set(key, set, value, err);
}

static sem_status take_plain_value(recipe *r, const config_key *key, const char *value, sem_error *err)
{
    return is_daemon_key(key) ? config_key_set(key, &r->daemon, value, err) : config_key_set(key, r, value, err);
}

static sem_status take_value(void *context, const char *section, const char *name, const char *value, size_t line,
                             sem_error *err)
{
    (void)line;
    recipe_reading *reading = context;
    recipe_set *set;
    bool eval;
    const char *of = set_name(section, &eval);
    if (of != NULL) {
        sem_status status = find_set(reading->into, section, of, eval, &set, err);
        return status == SEM_OK ? take_set_value(reading, set, section, name, value, err) : status;
    }
    const config_key *key = find_plain_key(section, name);
    if (key == NULL)
        return unknown_key(section, name, err);
    for (size_t i = 0; i < reading->seen_count; i++)
        if (reading->seen[i] == key)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s.%s was given already", section, name);
    if (reading->seen_count < SEEN_MAX)
        reading->seen[reading->seen_count++] = key;
    return take_plain_value(reading->into, key, value, err);
}

/* --- the command line */

static sem_status take_override(recipe *r, const char *text, sem_error *err)
{
    char section[64], name[64];
    const char *equals = strchr(text, '='), *dot = strchr(text, '.');
    bool eval;
    recipe_set *set;
    if (equals == NULL || dot == NULL || dot > equals || (size_t)(dot - text) >= sizeof section ||
        (size_t)(equals - dot) > sizeof name)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "-o %s: expected section.key=value", text);
    snprintf(section, sizeof section, "%.*s", (int)(dot - text), text);
    snprintf(name, sizeof name, "%.*s", (int)(equals - dot - 1), dot + 1);
    const char *of = set_name(section, &eval);
    const config_key *key = of != NULL ? find_set_key(name, eval) : find_plain_key(section, name);
    if (of == NULL)
        return key != NULL ? take_plain_value(r, key, equals + 1, err) : unknown_key(section, name, err);
    sem_status status = find_set(r, section, of, eval, &set, err);
    if (status != SEM_OK)
        return status;
    if (strcmp(name, "file") == 0) {
        forget_files(set); /* one takes the place of the file's */
        return add_file(set, equals + 1, err);
    }
    return key != NULL ? config_key_set(key, set, equals + 1, err) : unknown_key(section, name, err);
}

/* --- what follows from the text */

static const char *field_or_null(const char *field)
{
    return field[0] != '\0' ? field : NULL;
}

static sem_status read_columns(recipe_set *set, sem_error *err)
{
    char *end;
    const char *at = set->columns;
    for (set->data.column_count = 0; *at != '\0'; at = end + strspn(end, " ,")) {
        unsigned long column = strtoul(at, &end, 10);
        if (end == at || column == 0 || set->data.column_count == DATA_COLUMNS_MAX)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s %s: columns is '%s' (allowed: up to %d numbers from 1 on, spaces between)",
                            set->eval ? "eval" : "data", set->name, set->columns, DATA_COLUMNS_MAX);
        set->data.columns[set->data.column_count++] = column;
    }
    return SEM_OK;
}

static sem_status finish_set(recipe *r, recipe_set *set, sem_error *err)
{
    data_options *d = &set->data;
    *d = data_options_defaults();
    d->name = set->name;
    data_form_parse(set->form, &d->form); /* the key allows no other name */
    d->files = (const char *const *)set->files;
    d->file_count = set->file_count;
    d->fields = (data_fields){.anchor = field_or_null(set->anchor),
                              .positive = field_or_null(set->positive),
                              .negative = field_or_null(set->negative),
                              .label = field_or_null(set->label),
                              .domain = field_or_null(set->domain),
                              .id = field_or_null(set->id),
                              .weight = field_or_null(set->pair_weight),
                              .score = field_or_null(set->score)};
    d->header = set->header;
    d->longest = set->max_line;
    d->window = set->window;
    d->window_bytes = set->window_bytes;
    d->max_malformed = set->max_malformed;
    /* Its order does not change when a set is added beside it. */
    d->seed = random_at(r->daemon.train.seed, hash_text(set->name, strlen(set->name)));
    sem_status status = read_columns(set, err);
    const bool by_pairs = !set->eval || set->corpus[0] == '\0';
    return status == SEM_OK && by_pairs ? data_options_check(d, err) : status;
}

static sem_status resolve_train(recipe *r, sem_error *err)
{
    /* What lies beside the output has its name and more. */
    for (size_t n = strlen(r->train.output); n > 1 && r->train.output[n - 1] == '/'; n--)
        r->train.output[n - 1] = '\0';
    r->daemon.finetune.threads = r->train.threads;
    sem_status status = config_resolve_train(&r->daemon, err);
    r->train.threads = r->daemon.train.threads;
    r->daemon.train.nice.added = (int)r->train.nice;
    r->daemon.train.checkpoint = r->train.checkpoint[0] != '\0' ? r->train.checkpoint : NULL;
    r->daemon.train.checkpoint_every = r->train.checkpoint_every;
    return status;
}

sem_status recipe_load(recipe *out, const char *path, const char *const *overrides, size_t count, sem_error *err)
{
    *out = (recipe){0};
    config_defaults(&out->daemon);
    for (size_t i = 0; i < recipe_key_count; i++)
        config_key_set(&recipe_keys[i], out, recipe_keys[i].initial, NULL);
    recipe_reading *reading = calloc(1, sizeof *reading);
    if (reading == NULL)
        return sem_fail_memory(err, path);
    reading->into = out;
    const config_taker taker = {.section = take_section, .value = take_value, .context = reading};
    sem_status status = config_file_read(path, &taker, err);
    free(reading);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = take_override(out, overrides[i], err);
    if (status == SEM_OK)
        status = resolve_train(out, err);
    /* Sets no longer move. */
    for (size_t i = 0; i < out->set_count && status == SEM_OK; i++)
        status = finish_set(out, &out->sets[i], err);
    return status;
}

/* --- help */

static bool describe(buffer *out, const config_key *key)
{
    char line[512];
    snprintf(line, sizeof line, "  %-15s = %-14s %s\n", key->name, key->initial, key->help);
    return buffer_append(out, line, strlen(line));
}

static bool describe_section(buffer *out, const char *head, const char *section)
{
    if (!buffer_append(out, head, strlen(head)))
        return false;
    const bool of_sets = strcmp(section, "data") == 0 || strcmp(section, "eval") == 0;
    const config_key file = {.name = "file", .initial = "", .help = "path; repeatable"};
    if (of_sets && !describe(out, &file))
        return false;
    for (size_t i = 0; i < recipe_key_count; i++)
        if (strcmp(recipe_keys[i].section, section) == 0 && !describe(out, &recipe_keys[i]))
            return false;
    for (size_t i = 0; i < config_key_count && strcmp(section, "train") == 0; i++)
        if (strcmp(config_keys[i].section, section) == 0 && !describe(out, &config_keys[i]))
            return false;
    for (size_t i = 0; i < recipe_set_key_count; i++)
        if (strcmp(recipe_set_keys[i].section, section) == 0 && !describe(out, &recipe_set_keys[i]))
            return false;
    return true;
}

bool recipe_describe(buffer *out)
{
    return describe_section(out, "[train]\n", "train") && describe_section(out, "[mix]\n", "mix") &&
           describe_section(out, "[data NAME]\n", "data") && describe_section(out, "[mine]\n", "mine") &&
           describe_section(out, "[rank]\n", "rank") &&
           describe_section(out, "[eval NAME], and the keys of [data NAME] that say how to read it\n", "eval");
}
