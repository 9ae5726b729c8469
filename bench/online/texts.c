#include "bench/online/texts.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "bench/texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PACKAGES_MAX = 1000000, QUERY_PART_MAX = 200 };

typedef struct reading {
    online_texts *texts;
    uint64_t known[CORPUS_DOCUMENTS]; /* hashes of the corpus's documents, in order */
} reading;

static int by_number(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static bool take(void *context, const char *text, size_t length)
{
    reading *r = context;
    online_texts *t = r->texts;
    const uint64_t key = hash_text(text, length);
    /* Else two documents would be right for what people ask. */
    if (bsearch(&key, r->known, CORPUS_DOCUMENTS, sizeof key, by_number) != NULL)
        return true;
    bool full = (t->more_count & (t->more_count - 1)) == 0;
    char **grown = full ? checked_realloc(t->more, 2 * t->more_count + 1, sizeof *grown) : t->more;
    if (grown == NULL)
        return false;
    t->more = grown;
    grown[t->more_count] = strdup(text);
    return grown[t->more_count++] != NULL;
}

static sem_status read_more(online_texts *t, const char *path, sem_error *err)
{
    reading *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sem_fail_memory(err, "the documents");
    r->texts = t;
    for (size_t i = 0; i < CORPUS_DOCUMENTS; i++) {
        const char *text = t->packages->packages[i].text;
        r->known[i] = hash_text(text, strlen(text));
    }
    qsort(r->known, CORPUS_DOCUMENTS, sizeof *r->known, by_number);
    bool good = texts_read(path, PACKAGES_MAX, take, r) && t->more_count > 0;
    free(r);
    return good ? SEM_OK : sem_fail(err, SEM_INVALID_ARGUMENT, "%s: a line without a text, or too few of them", path);
}

sem_status online_texts_load(online_texts *t, const char *path, sem_error *err)
{
    *t = (online_texts){.packages = calloc(1, sizeof *t->packages)};
    if (t->packages == NULL)
        return sem_fail_memory(err, "the packages");
    sem_status status = corpus_load(t->packages, path, err);
    if (status != SEM_OK) {
        free(t->packages);
        t->packages = NULL;
        return status;
    }
    return read_more(t, path, err);
}

void online_texts_free(online_texts *t)
{
    if (t->packages != NULL)
        corpus_free(t->packages);
    free(t->packages);
    for (size_t i = 0; i < t->more_count; i++)
        free(t->more[i]);
    free(t->more);
    *t = (online_texts){0};
}

void online_texts_document(void *context, size_t number, packer *p)
{
    const online_texts *t = context;
    pack_map(p, 2);
    pack_str(p, "id");
    pack_uint(p, number);
    pack_str(p, "text");
    if (number < CORPUS_DOCUMENTS) {
        pack_str(p, t->packages->packages[number].text);
        return;
    }
    size_t at = number - CORPUS_DOCUMENTS, round = at / t->more_count;
    const char *text = t->more[at % t->more_count];
    if (round == 0) {
        pack_str(p, text);
        return;
    }
    buffer joined = {0};
    const char *other = t->packages->packages[(at + 31 * round) % CORPUS_DOCUMENTS].english;
    /* Behind the text: its first sentence is to go with the rest, since jobs learn from that. */
    if (buffer_print(&joined, "%s %s, %zu.", text, other, round))
        pack_strn(p, (const char *)joined.data, joined.size);
    else
        p->failed = true;
    buffer_free(&joined);
}

void online_texts_query(const void *context, size_t number, char out[TRAFFIC_QUERY_MAX])
{
    const online_texts *t = context;
    /* Of those that nobody clicks; the second part moves on by one with each time through the first. */
    const corpus_package *unclicked = t->packages->packages + CORPUS_HELDOUT + CORPUS_CLICKED;
    const size_t count = CORPUS_DOCUMENTS - CORPUS_HELDOUT - CORPUS_CLICKED;
    const corpus_package *a = &unclicked[number % count], *b = &unclicked[(number + number / count + 1) % count];
    const char *first = number % 2 == 0 ? a->english : a->italian;
    snprintf(out, TRAFFIC_QUERY_MAX, "%.*s, %.*s", (int)utf8_cut(first, strlen(first), QUERY_PART_MAX), first,
             (int)utf8_cut(b->english, strlen(b->english), QUERY_PART_MAX), b->english);
}
