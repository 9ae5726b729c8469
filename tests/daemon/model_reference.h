/* The documents that a daemon must have, and what a search must find among them. */
#ifndef SEM_TESTS_DAEMON_MODEL_REFERENCE_H
#define SEM_TESTS_DAEMON_MODEL_REFERENCE_H

#include "tests/common/testing.h"

#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COLLECTIONS = 3, /* two of the model's vectors, one of the client's */
    IDS = 1500,
    WORDS = 8,
    TEXTS = WORDS * WORDS * WORDS,
    TEXT_SIZE = 96,
    GROUPS = 5,
    NUMBERS = 1000,
    EXTERNAL_DIM = 16,
    DIM_MAX = 512,
    TARGETS = 4,
    RECALLS_LEAST = 200 /* searches from which a mean says something */
};

static const double TOLERANCE = 2e-5;

typedef struct document {
    bool exists;
    unsigned text;
    int group, number;          /* meta */
    float vector[EXTERNAL_DIM]; /* of the client's */
} document;

typedef struct collection {
    const char *name;
    bool exists, external;
    document docs[IDS];
    struct {
        double sum;
        size_t searches;
    } recalls[TARGETS];
} collection;

typedef struct reference {
    random_state random;
    collection collections[COLLECTIONS];
    size_t dim;
    float texts[TEXTS][DIM_MAX]; /* what the model makes of each text */
} reference;

/* numbers from <= n < to of one group */
typedef struct condition {
    int group, from, to;
} condition;

static const char *const words[WORDS] = {"refund", "card", "transfer", "account", "exchange", "cash", "limit", "fee"};

static inline uint64_t below(reference *r, uint64_t n)
{
    return random_below(&r->random, n);
}

static inline void reference_begin(reference *r, uint64_t seed)
{
    static const char *const names[COLLECTIONS] = {"default", "notes", "vectors"};
    memset(r, 0, sizeof *r);
    random_seed(&r->random, seed);
    for (int i = 0; i < COLLECTIONS; i++)
        r->collections[i] = (collection){.name = names[i], .exists = i == 0, .external = i == 2};
}

static inline void text_of(unsigned i, char out[TEXT_SIZE])
{
    snprintf(out, TEXT_SIZE, "my %s and a %s or %s in the bank", words[i % 8], words[i / 8 % 8], words[i / 64 % 8]);
}

static inline bool has_word(unsigned text, unsigned word)
{
    return text % 8 == word || text / 8 % 8 == word || text / 64 % 8 == word;
}

static inline void random_vector(reference *r, float out[EXTERNAL_DIM])
{
    for (int i = 0; i < EXTERNAL_DIM; i++)
        out[i] = (float)(random_unit(&r->random) + random_unit(&r->random) - 1.0) + (i % 8 == 0 ? 0.5f : 0.0f);
}

/* Gives the document another content; of the same text (and vector) where that is said. */
static inline void reference_change(reference *r, collection *c, unsigned i, bool same_text)
{
    document *d = &c->docs[i];
    if (!same_text) {
        d->text = (unsigned)below(r, TEXTS);
        random_vector(r, d->vector);
    }
    d->exists = true;
    d->group = (int)below(r, GROUPS);
    d->number = (int)below(r, NUMBERS);
}

static inline void reference_delete(collection *c, unsigned i)
{
    c->docs[i] = (document){.exists = false};
}

static inline void reference_drop(collection *c)
{
    c->exists = false;
    memset(c->docs, 0, sizeof c->docs);
}

static inline condition random_condition(reference *r, uint64_t span)
{
    int from = (int)below(r, NUMBERS), width = 1 + (int)below(r, span);
    return (condition){.group = (int)below(r, GROUPS), .from = from, .to = from + width};
}

static inline bool passes(const document *d, const condition *f)
{
    return d->group == f->group && d->number >= f->from && d->number < f->to;
}

static inline const float *vector_of(const reference *r, const collection *c, const document *d)
{
    return c->external ? d->vector : r->texts[d->text];
}

static inline double similarity(const reference *r, const collection *c, const document *d, const float *query)
{
    const float *v = vector_of(r, c, d);
    double sum = 0;
    for (size_t i = 0; i < (c->external ? EXTERNAL_DIM : r->dim); i++)
        sum += (double)v[i] * query[i];
    return sum;
}

static inline void random_query(reference *r, const collection *c, unsigned text, float *out)
{
    if (c->external)
        random_vector(r, out);
    else
        memcpy(out, r->texts[text], r->dim * sizeof *out);
}

static inline bool same_vector(const reference *r, const collection *c, const document *d, const void *bytes,
                               size_t size)
{
    const float *v = vector_of(r, c, d);
    size_t dim = c->external ? EXTERNAL_DIM : r->dim;
    if (size != dim * sizeof(float))
        return false;
    for (size_t i = 0; i < dim; i++) {
        float x;
        memcpy(&x, (const char *)bytes + i * sizeof x, sizeof x);
        if (fabs((double)x - v[i]) > TOLERANCE)
            return false;
    }
    return true;
}

static inline int higher_first(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

/* The scores of all that pass the filter (NULL: none), best first; how many they are. */
static inline size_t brute_force(const reference *r, const collection *c, const float *query, const condition *f,
                                 double best[IDS])
{
    size_t count = 0;
    for (size_t i = 0; i < IDS; i++)
        if (c->docs[i].exists && (f == NULL || passes(&c->docs[i], f)))
            best[count++] = similarity(r, c, &c->docs[i], query);
    qsort(best, count, sizeof *best, higher_first);
    return count;
}

static inline void reference_add_recall(reference *r, const collection *c, size_t target, double recall)
{
    collection *to = &r->collections[c - r->collections];
    to->recalls[target].sum += recall;
    to->recalls[target].searches++;
}

/* What was asked is reached on average, whatever happened meanwhile. */
static inline void reference_expect_recall(const reference *r)
{
    static const double asked[TARGETS] = {0.8, 0.9, 0.95, 0.99};
    for (int i = 0; i < COLLECTIONS; i++)
        for (int t = 0; t < TARGETS; t++) {
            const size_t searches = r->collections[i].recalls[t].searches;
            const double mean = r->collections[i].recalls[t].sum / (double)(searches > 0 ? searches : 1);
            printf("%s: recall %.2f reached %.4f in %zu searches\n", r->collections[i].name, asked[t], mean, searches);
            ck_assert_msg(searches < RECALLS_LEAST || mean >= asked[t] - 0.01, "%s: recall %g instead of %g",
                          r->collections[i].name, mean, asked[t]);
        }
}

#endif
