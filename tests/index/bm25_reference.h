/* BM25 as it is written down, over texts of ASCII, with nothing saved and nothing
 * left out: what the lexical index is compared with. */
#ifndef SEM_TESTS_INDEX_BM25_REFERENCE_H
#define SEM_TESTS_INDEX_BM25_REFERENCE_H

#include <check.h>
#include <jansson.h>

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct reference_text {
    size_t *words; /* [count], owned: numbers of words */
    size_t count;
    bool gone;
} reference_text;

typedef struct reference {
    json_t *vocabulary; /* word -> number */
    reference_text *texts;
    size_t count;
} reference;

static inline size_t reference_word(reference *r, const char *word)
{
    json_t *known = json_object_get(r->vocabulary, word);
    if (known != NULL)
        return (size_t)json_integer_value(known);
    size_t number = json_object_size(r->vocabulary);
    json_object_set_new(r->vocabulary, word, json_integer((json_int_t)number));
    return number;
}

static inline reference_text reference_cut(reference *r, const char *text)
{
    reference_text out = {.words = malloc((strlen(text) / 2 + 1) * sizeof(size_t))};
    char word[256];
    ck_assert_ptr_nonnull(out.words);
    for (const char *p = text; *p != '\0';) {
        size_t length = 0;
        while (isalnum((unsigned char)*p) && length < sizeof word - 1)
            word[length++] = (char)tolower((unsigned char)*p++);
        word[length] = '\0';
        if (length > 0)
            out.words[out.count++] = reference_word(r, word);
        else
            p++;
    }
    return out;
}

static inline reference reference_create(size_t texts)
{
    reference r = {.vocabulary = json_object(), .count = texts, .texts = calloc(texts, sizeof(reference_text))};
    ck_assert_ptr_nonnull(r.texts);
    for (size_t i = 0; i < texts; i++)
        r.texts[i].gone = true;
    return r;
}

/* The text of document i, or NULL: it is deleted. */
static inline void reference_set(reference *r, size_t i, const char *text)
{
    free(r->texts[i].words);
    r->texts[i] = (reference_text){.gone = true};
    if (text != NULL)
        r->texts[i] = reference_cut(r, text);
}

static inline void reference_free(reference *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->texts[i].words);
    free(r->texts);
    json_decref(r->vocabulary);
}

static inline size_t reference_times(const reference_text *t, size_t word)
{
    size_t times = 0;
    for (size_t i = 0; i < t->count; i++)
        times += t->words[i] == word;
    return times;
}

/* scores[count] of every document for a query; 0: it holds none of its words. A
 * word that stands twice in the query counts twice. */
static inline void reference_score(reference *r, const char *query, double *scores)
{
    const double k1 = 1.2, b = 0.75;
    double documents = 0, tokens = 0;
    reference_text q = reference_cut(r, query);
    for (size_t d = 0; d < r->count; d++) {
        scores[d] = 0;
        documents += !r->texts[d].gone;
        tokens += (double)r->texts[d].count;
    }
    for (size_t i = 0; i < q.count; i++) {
        double held = 0;
        for (size_t d = 0; d < r->count; d++)
            held += reference_times(&r->texts[d], q.words[i]) > 0;
        double idf = log((documents - held + 0.5) / (held + 0.5));
        idf = idf > 0 ? idf : 1e-6;
        for (size_t d = 0; d < r->count; d++) {
            double f = (double)reference_times(&r->texts[d], q.words[i]), length = (double)r->texts[d].count;
            if (f > 0)
                scores[d] += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * length / (tokens / documents)));
        }
    }
    free(q.words);
}

/* The best document that is not yet in best[0 .. found - 1]: by score, ties (as
 * float32) by number; count: there is none. */
static inline size_t reference_next(const reference *r, const double *scores, const size_t *best, size_t found)
{
    size_t next = r->count;
    for (size_t d = 0; d < r->count; d++) {
        bool taken = scores[d] <= 0;
        for (size_t i = 0; i < found; i++)
            taken = taken || best[i] == d;
        if (!taken && (next == r->count || (float)scores[d] > (float)scores[next]))
            next = d;
    }
    return next;
}

/* The k best of these scores; how many there are that are not 0. */
static inline size_t reference_best(const reference *r, const double *scores, size_t k, size_t *best)
{
    size_t found = 0;
    for (size_t next; found < k && (next = reference_next(r, scores, best, found)) < r->count;)
        best[found++] = next;
    return found;
}

#endif
