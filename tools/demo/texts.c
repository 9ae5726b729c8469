#include "tools/demo/texts.h"

#include "base/checked.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/utf8.h"

#include <jansson.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LIST_BYTES_MAX = 1 << 30, /* Packages is about 50 MB today */
    TWIN_BYTES = 120,         /* of a long description: -dev, -doc, -data packages share at least this */
    TEXT_BYTES_MIN = 80       /* "see the other package" is nothing to search for */
};

typedef struct slice {
    const char *data;
    size_t size;
} slice;

/* One description of one language. */
typedef struct description {
    uint64_t key; /* of its Description-md5 */
    slice brief;  /* the line that sums it up */
    slice rest;   /* the long description, as it stands in the list */
} description;

typedef struct package {
    slice name, section;
    const description *english, *italian; /* italian may be NULL */
    uint64_t twin;                        /* equal: their long descriptions begin alike */
    char *text;                           /* the long description on one line; owned */
} package;

typedef struct table {
    void *items;
    size_t count, capacity;
} table;

/* Room for one more item of `size` bytes, cleared; NULL when memory is out. */
static void *table_add(table *t, size_t size)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity == 0 ? 4096 : 2 * t->capacity;
        void *items = checked_realloc(t->items, capacity, size);
        if (items == NULL)
            return NULL;
        t->items = items;
        t->capacity = capacity;
    }
    void *item = (char *)t->items + size * t->count++;
    memset(item, 0, size);
    return item;
}

/* The next stanza of a list: lines up to an empty one. False at the end. */
static bool next_stanza(slice *list, slice *stanza)
{
    while (list->size > 0 && *list->data == '\n') {
        list->data++;
        list->size--;
    }
    if (list->size == 0)
        return false;
    const char *end = memmem(list->data, list->size, "\n\n", 2);
    size_t length = end == NULL ? list->size : (size_t)(end - list->data);
    *stanza = (slice){list->data, length};
    list->data += length;
    list->size -= length;
    return true;
}

/* The value of `field` ("Package: "), its continuation lines included; empty if
 * the stanza has none. */
static slice stanza_field(slice stanza, const char *field)
{
    size_t length = strlen(field);
    const char *end = stanza.data + stanza.size;
    for (const char *line = stanza.data; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        stop = stop == NULL ? end : stop;
        if ((size_t)(stop - line) >= length && memcmp(line, field, length) == 0) {
            while (stop < end && stop + 1 < end && stop[1] == ' ') {
                const char *next = memchr(stop + 1, '\n', (size_t)(end - stop - 1));
                stop = next == NULL ? end : next;
            }
            return (slice){line + length, (size_t)(stop - line) - length};
        }
        line = stop < end ? stop + 1 : end;
    }
    return (slice){NULL, 0};
}

static int by_key(const void *a, const void *b)
{
    uint64_t left = ((const description *)a)->key, right = ((const description *)b)->key;
    return (left > right) - (left < right);
}

/* All descriptions of one language, sorted by key, each key once. */
static sem_status read_descriptions(table *out, slice list, const char *field, sem_error *err)
{
    slice stanza;
    while (next_stanza(&list, &stanza)) {
        slice md5 = stanza_field(stanza, "Description-md5: ");
        slice value = stanza_field(stanza, field);
        if (md5.size == 0 || value.size == 0 || !utf8_valid(value.data, value.size))
            continue;
        description *d = table_add(out, sizeof *d);
        if (d == NULL)
            return sem_fail_memory(err, "the descriptions");
        const char *line = memchr(value.data, '\n', value.size);
        size_t brief = line == NULL ? value.size : (size_t)(line - value.data);
        d->key = hash_text(md5.data, md5.size);
        d->brief = (slice){value.data, brief};
        d->rest = (slice){value.data + brief, value.size - brief};
    }
    if (out->count == 0)
        return sem_fail(err, SEM_NOT_FOUND, "the list holds no line that begins with \"%s\"", field);
    description *all = out->items;
    qsort(all, out->count, sizeof *all, by_key);
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++)
        if (kept == 0 || all[i].key != all[kept - 1].key)
            all[kept++] = all[i];
    out->count = kept;
    return SEM_OK;
}

static const description *find(const table *t, uint64_t key)
{
    description wanted = {.key = key};
    return t->count == 0 ? NULL : bsearch(&wanted, t->items, t->count, sizeof wanted, by_key);
}

/* Paragraph marks (" .") and line ends become single spaces. */
static char *one_line(slice text)
{
    char *out = malloc(text.size + 1);
    if (out == NULL)
        return NULL;
    size_t n = 0;
    bool start = true; /* of a line */
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        bool mark = start && c == '.' && (i + 1 == text.size || text.data[i + 1] == '\n');
        if (c == '\n')
            start = true;
        else if (c != ' ')
            start = false;
        if (mark || isspace((unsigned char)c) || c == '\0') {
            if (n > 0 && out[n - 1] != ' ')
                out[n++] = ' ';
            continue;
        }
        out[n++] = c;
    }
    while (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    return out;
}

static int by_name(const void *a, const void *b)
{
    const package *left = a, *right = b;
    size_t shorter = left->name.size < right->name.size ? left->name.size : right->name.size;
    int order = memcmp(left->name.data, right->name.data, shorter);
    return order != 0 ? order : (left->name.size > right->name.size) - (left->name.size < right->name.size);
}

static int by_twin(const void *a, const void *b)
{
    const package *left = a, *right = b;
    int order = (left->twin > right->twin) - (left->twin < right->twin);
    return order != 0 ? order : by_name(a, b);
}

/* Keeps the first of each run of equals (by the order that it is sorted in). */
static void keep_first(table *t, bool by_twins)
{
    package *all = t->items;
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++) {
        bool again = kept > 0 && (by_twins ? all[i].twin == all[kept - 1].twin : by_name(&all[i], &all[kept - 1]) == 0);
        if (again)
            free(all[i].text);
        else
            all[kept++] = all[i];
    }
    t->count = kept;
}

static sem_status add_package(table *out, slice stanza, const table *english, const table *italian, sem_error *err)
{
    slice name = stanza_field(stanza, "Package: ");
    slice md5 = stanza_field(stanza, "Description-md5: ");
    uint64_t key = md5.size == 0 ? 0 : hash_text(md5.data, md5.size);
    const description *found = md5.size == 0 ? NULL : find(english, key);
    if (name.size == 0 || found == NULL)
        return SEM_OK;
    char *text = one_line(found->rest);
    if (text == NULL)
        return sem_fail_memory(err, "a description");
    size_t length = strlen(text);
    package *p = length < TEXT_BYTES_MIN ? NULL : table_add(out, sizeof *p);
    if (p == NULL) {
        free(text);
        return length < TEXT_BYTES_MIN ? SEM_OK : sem_fail_memory(err, "the packages");
    }
    *p = (package){name, stanza_field(stanza, "Section: "), found, find(italian, key), 0, text};
    p->twin = hash_text(text, length < TWIN_BYTES ? length : TWIN_BYTES);
    return SEM_OK;
}

static sem_status read_packages(table *out, slice list, const table *english, const table *italian, sem_error *err)
{
    slice stanza;
    while (next_stanza(&list, &stanza)) {
        sem_status status = add_package(out, stanza, english, italian, err);
        if (status != SEM_OK)
            return status;
    }
    if (out->count == 0)
        return sem_fail(err, SEM_NOT_FOUND, "the lists name no package with an English description");
    qsort(out->items, out->count, sizeof(package), by_name);
    keep_first(out, false);
    qsort(out->items, out->count, sizeof(package), by_twin);
    keep_first(out, true);
    qsort(out->items, out->count, sizeof(package), by_name);
    return SEM_OK;
}

static bool write_package(FILE *out, const package *p)
{
    json_t *line = json_object();
    bool good = line != NULL && json_object_set_new(line, "name", json_stringn(p->name.data, p->name.size)) == 0 &&
                json_object_set_new(line, "section",
                                    json_stringn(p->section.data ? p->section.data : "", p->section.size)) == 0 &&
                json_object_set_new(line, "en", json_stringn(p->english->brief.data, p->english->brief.size)) == 0 &&
                (p->italian == NULL ||
                 json_object_set_new(line, "it", json_stringn(p->italian->brief.data, p->italian->brief.size)) == 0) &&
                json_object_set_new(line, "text", json_string(p->text)) == 0 &&
                json_dumpf(line, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
    json_decref(line);
    return good;
}

/* Through a temporary name, so that a run that was stopped leaves no half file. */
static sem_status write_packages(const table *t, const char *path, texts_report *report, sem_error *err)
{
    char temporary[FILES_PATH_MAX];
    sem_status status = files_join(temporary, err, "%s.part", path);
    if (status != SEM_OK)
        return status;
    FILE *out = fopen(temporary, "w");
    if (out == NULL)
        return sem_fail(err, SEM_INTERNAL, "cannot write %s: %m", temporary);
    const package *all = t->items;
    bool good = true;
    for (size_t i = 0; good && i < t->count; i++) {
        good = write_package(out, &all[i]);
        report->both += all[i].italian != NULL;
    }
    good = fclose(out) == 0 && good;
    if (!good || rename(temporary, path) != 0) {
        remove(temporary);
        return sem_fail(err, SEM_INTERNAL, "cannot write %s: is the disk full?", path);
    }
    report->packages = t->count;
    return SEM_OK;
}

sem_status texts_join(const char *english, const char *italian, const char *packages, const char *out,
                      texts_report *report, sem_error *err)
{
    const char *paths[3] = {english, italian, packages};
    char *content[3] = {NULL, NULL, NULL};
    slice lists[3] = {{0}};
    table english_table = {0}, italian_table = {0}, package_table = {0};
    sem_status status = SEM_OK;
    memset(report, 0, sizeof *report);
    for (size_t i = 0; i < 3 && status == SEM_OK; i++) {
        status = files_read(paths[i], LIST_BYTES_MAX, &content[i], &lists[i].size, err);
        lists[i].data = content[i];
    }
    if (status == SEM_OK)
        status = read_descriptions(&english_table, lists[0], "Description-en: ", err);
    if (status == SEM_OK)
        status = read_descriptions(&italian_table, lists[1], "Description-it: ", err);
    if (status == SEM_OK)
        status = read_packages(&package_table, lists[2], &english_table, &italian_table, err);
    report->english = english_table.count;
    report->italian = italian_table.count;
    if (status == SEM_OK)
        status = write_packages(&package_table, out, report, err);
    for (size_t i = 0; i < package_table.count; i++)
        free(((package *)package_table.items)[i].text);
    free(package_table.items);
    free(english_table.items);
    free(italian_table.items);
    for (size_t i = 0; i < 3; i++)
        free(content[i]);
    return status;
}
