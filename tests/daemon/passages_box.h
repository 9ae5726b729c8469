/* Collections whose documents are cut into passages, looked at from outside. */
#ifndef SEM_TESTS_DAEMON_PASSAGES_BOX_H
#define SEM_TESTS_DAEMON_PASSAGES_BOX_H

#include "tests/daemon/blackbox.h"

#include "base/random.h"

#include <math.h>

enum { TOKENS = 24, OVERLAP = 8, SPECIAL = 2 };

/* Sentences of words that the small models know and some that they do not, in several
 * scripts; ended by NUL. Owned by the caller's buffer. */
static inline void passages_text(buffer *out, unsigned seed, unsigned sentences)
{
    static const char *const words[] = {"money",
                                        "card",
                                        "water",
                                        "Straße",
                                        "日本",
                                        "träge",
                                        "bank",
                                        "king",
                                        "snow",
                                        "дом",
                                        "limit",
                                        "fee",
                                        "e\xcc\x81t\xc3\xa9",
                                        "tree",
                                        "cash",
                                        "naïve"};
    random_state r;
    random_seed(&r, seed);
    out->size = 0;
    for (unsigned i = 0; i < sentences; i++) {
        size_t count = 3 + random_below(&r, 9);
        for (size_t w = 0; w < count; w++) {
            const char *word = words[random_below(&r, sizeof words / sizeof *words)];
            ck_assert(buffer_append(out, w > 0 ? " " : "", w > 0) && buffer_append(out, word, strlen(word)));
        }
        const char *end = random_below(&r, 5) == 0 ? "!\n\n" : ". ";
        ck_assert(buffer_append(out, end, strlen(end)));
    }
    ck_assert(buffer_append(out, "", 1));
    out->size--;
}

static inline void passages_upsert(box *b, const char *collection, unsigned id, const char *text, size_t length)
{
    buffer params = {0};
    packer p = box_begin_upsert(&params, collection, 1);
    box_pack_text(&p, id, text, length);
    box_call_packed(b, "upsert", &params);
}

/* How many there are of a collection, as collection.list says. */
static inline uint64_t passages_count(box *b, const char *collection)
{
    return object_uint(object_get(box_collection(b, collection), "passages"), UINT64_MAX);
}

typedef struct cut_document {
    char *text;
    size_t length, count;
    struct {
        size_t from, to;
    } * ranges;     /* [count] */
    float *vectors; /* [count, dim] */
    size_t dim;
} cut_document;

static inline void cut_document_free(cut_document *d)
{
    free(d->text);
    free(d->ranges);
    free(d->vectors);
}

static inline cut_document passages_get(box *b, const char *collection, unsigned id)
{
    const msgpack_object *doc =
        box_at(box_call(b, "get", "{'collection': '%s', 'ids': [%u], 'with': ['text', 'vector']}", collection, id), 0);
    const msgpack_object *text = object_get(doc, "text"), *all = object_get(doc, "passages");
    ck_assert_ptr_null(object_get(doc, "vector"));
    cut_document d = {.length = text->via.str.size, .count = box_count(all)};
    ck_assert_uint_gt(d.count, 0);
    d.dim = object_get(box_at(all, 0), "vector")->via.bin.size / sizeof(float);
    d.text = malloc(d.length + 1);
    d.ranges = calloc(d.count, sizeof *d.ranges);
    d.vectors = calloc(d.count, d.dim * sizeof(float));
    ck_assert(d.text != NULL && d.ranges != NULL && d.vectors != NULL);
    memcpy(d.text, text->via.str.ptr, d.length);
    d.text[d.length] = '\0';
    for (size_t i = 0; i < d.count; i++) {
        const msgpack_object *one = box_at(all, i), *range = object_get(one, "passage");
        ck_assert_uint_eq(box_count(range), 2);
        d.ranges[i].from = object_uint(box_at(range, 0), SIZE_MAX);
        d.ranges[i].to = object_uint(box_at(range, 1), SIZE_MAX);
        ck_assert_uint_eq(object_get(one, "vector")->via.bin.size, d.dim * sizeof(float));
        memcpy(d.vectors + i * d.dim, object_get(one, "vector")->via.bin.ptr, d.dim * sizeof(float));
    }
    return d;
}

static inline bool passages_boundary(const char *text, size_t length, size_t at)
{
    return at == length || ((unsigned char)text[at] & 0xC0) != 0x80;
}

/* Passages are in order, between characters, and have all of the text but white space. */
static inline void passages_expect_whole(const cut_document *d)
{
    size_t covered = 0;
    for (size_t i = 0; i < d->count; i++) {
        size_t from = d->ranges[i].from, to = d->ranges[i].to;
        ck_assert(from <= to && to <= d->length);
        ck_assert(passages_boundary(d->text, d->length, from) && passages_boundary(d->text, d->length, to));
        ck_assert(i == 0 || (from > d->ranges[i - 1].from && to > d->ranges[i - 1].to));
        for (; covered < from; covered++)
            ck_assert_ptr_nonnull(strchr(" \n", d->text[covered]));
        covered = to;
    }
    for (; covered < d->length; covered++)
        ck_assert_ptr_nonnull(strchr(" \n", d->text[covered]));
}

/* Each vector is what the model that is current makes of the passage's text alone. */
static inline void passages_expect_vectors(box *b, const cut_document *d, size_t tokens)
{
    ck_assert_uint_le(d->count, 1000);
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "prompt");
    pack_str(&p, "document");
    pack_str(&p, "texts");
    pack_array(&p, d->count);
    for (size_t i = 0; i < d->count; i++)
        pack_strn(&p, d->text + d->ranges[i].from, d->ranges[i].to - d->ranges[i].from);
    const msgpack_object *all = box_call_packed(b, "encode", &params);
    for (size_t i = 0; i < d->count; i++) {
        const msgpack_object *one = box_at(object_get(all, "embeddings"), i);
        ck_assert_uint_eq(one->via.bin.size, d->dim * sizeof(float));
        double cosine = 0;
        for (size_t k = 0; k < d->dim; k++) {
            float value;
            memcpy(&value, one->via.bin.ptr + k * sizeof value, sizeof value);
            cosine += (double)value * d->vectors[i * d->dim + k];
        }
        ck_assert_msg(cosine > 0.9999, "passage %zu: cosine %f", i, cosine);
        ck_assert_uint_le(object_uint(box_at(object_get(all, "tokens"), i), SIZE_MAX), tokens);
    }
}

/* All that is promised of a document; returns how many passages it has. */
static inline size_t passages_expect_right(box *b, const char *collection, unsigned id, const char *text, size_t tokens)
{
    cut_document d = passages_get(b, collection, id);
    ck_assert_str_eq(d.text, text);
    passages_expect_whole(&d);
    passages_expect_vectors(b, &d, tokens);
    size_t count = d.count;
    cut_document_free(&d);
    return count;
}

#endif
