#include "finetune/data_parse.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "base/utf8.h"
#include "finetune/data_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SCORE_MAX = 64 /* bytes of a score in a file of columns */ };

/* UTF-8, no NUL, and something to read in it. */
static sem_status check_text(data_text text, const char *what, sem_error *err)
{
    bool blank = true;
    if (!utf8_valid(text.bytes, text.length))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is not valid UTF-8", what);
    if (text.length > 0 && memchr(text.bytes, '\0', text.length) != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s holds a NUL", what);
    for (size_t i = 0; i < text.length && blank; i++)
        blank = text.bytes[i] == ' ' || (text.bytes[i] >= '\t' && text.bytes[i] <= '\r');
    if (blank)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is empty", what);
    return SEM_OK;
}

static example example_of(const data_source *source, data_text anchor, data_text positive)
{
    return (example){.anchor = anchor, .positive = positive, .weight = 1, .file = source->file, .line = source->line};
}

static sem_status parse_parallel(const data_source *source, data_text line, data_text other, data_sink *sink,
                                 void *context, sem_error *err)
{
    sem_status status = check_text(line, "the first file's text", err);
    if (status == SEM_OK)
        status = check_text(other, "the second file's text", err);
    if (status != SEM_OK)
        return status;
    const example e = example_of(source, line, other);
    return sink(context, &e, err);
}

/* --- columns */

typedef struct columns {
    data_text items[DATA_COLUMNS_MAX];
    size_t count;
} columns;

static sem_status split_columns(const data_options *o, data_text line, columns *out, sem_error *err)
{
    columns all = {0};
    const char *at = line.bytes, *end = line.bytes + line.length;
    for (bool more = true; more; all.count++) {
        const char *tab = memchr(at, '\t', (size_t)(end - at));
        if (all.count == DATA_COLUMNS_MAX)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "it has more than %d columns", DATA_COLUMNS_MAX);
        all.items[all.count] = (data_text){at, (size_t)((tab != NULL ? tab : end) - at)};
        more = tab != NULL;
        at = more ? tab + 1 : end;
    }
    if (o->column_count == 0) {
        *out = all;
        return SEM_OK;
    }
    out->count = o->column_count;
    for (size_t i = 0; i < o->column_count; i++) {
        if (o->columns[i] > all.count)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "column %zu is missing: it has %zu", o->columns[i], all.count);
        out->items[i] = all.items[o->columns[i] - 1];
    }
    return SEM_OK;
}

/* The anchor with each of the others; a translation may be missing, not all of them. Where the set chooses
 * columns, a line that lacks the texts of these has others, and makes no pair. */
static sem_status parse_columns(const data_source *source, const columns *c, data_sink *sink, void *context,
                                sem_error *err)
{
    const bool chosen = source->options->column_count > 0;
    size_t found = 0;
    if (chosen && c->items[0].length == 0)
        return SEM_OK;
    sem_status status = check_text(c->items[0], "the first column", err);
    for (size_t i = 1; i < c->count && status == SEM_OK; i++)
        if (c->items[i].length > 0) {
            found++;
            status = check_text(c->items[i], "a column", err);
        }
    if (status == SEM_OK && found == 0 && !chosen)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "it has no text beside the first column");
    for (size_t i = 1; i < c->count && status == SEM_OK; i++) {
        const example e = example_of(source, c->items[0], c->items[i]);
        if (c->items[i].length > 0)
            status = sink(context, &e, err);
    }
    return status;
}

static sem_status take_labelled(const data_source *source, data_text text, data_text label, data_sink *sink,
                                void *context, sem_error *err)
{
    sem_status status = check_text(text, "the text", err);
    if (status == SEM_OK)
        status = check_text(label, "the label", err);
    if (status != SEM_OK)
        return status;
    example e = example_of(source, text, (data_text){0});
    e.label = label;
    return sink(context, &e, err);
}

static bool read_number(data_text text, double *out)
{
    char copy[SCORE_MAX], *end;
    if (text.length == 0 || text.length >= sizeof copy)
        return false;
    memcpy(copy, text.bytes, text.length);
    copy[text.length] = '\0';
    if (strspn(copy, "0123456789+-.eE") != text.length)
        return false;
    *out = strtod(copy, &end);
    return *end == '\0' && end != copy && isfinite(*out);
}

static sem_status parse_scored(const data_source *source, const columns *c, data_sink *sink, void *context,
                               sem_error *err)
{
    example e = example_of(source, c->items[0], c->items[1]);
    e.has_score = true;
    sem_status status = check_text(c->items[0], "the first text", err);
    if (status == SEM_OK)
        status = check_text(c->items[1], "the second text", err);
    if (status == SEM_OK && !read_number(c->items[2], &e.score))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "the score is no number");
    return status == SEM_OK ? sink(context, &e, err) : status;
}

static sem_status parse_tabs(const data_source *source, data_text line, data_sink *sink, void *context, sem_error *err)
{
    const data_form form = source->options->form;
    const size_t least = data_form_columns(form);
    columns c;
    sem_status status = split_columns(source->options, line, &c, err);
    if (status != SEM_OK)
        return status;
    if (c.count < least)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "it has %zu columns with tabs between; at least %zu are needed",
                        c.count, least);
    if (form == DATA_LABELLED)
        return take_labelled(source, c.items[0], c.items[1], sink, context, err);
    return form == DATA_STS ? parse_scored(source, &c, sink, context, err)
                            : parse_columns(source, &c, sink, context, err);
}

/* --- JSON */

/* The optional members of an object that has been named. */
typedef struct extras {
    char label_number[DATA_JSON_NUMBER_MAX], domain_number[DATA_JSON_NUMBER_MAX], id_number[DATA_JSON_NUMBER_MAX];
    data_text label, domain, id;
    double weight, score;
    bool has_score;
} extras;

static sem_status read_extras(const data_fields *f, const data_json *json, extras *out, sem_error *err)
{
    sem_status status = SEM_OK;
    *out = (extras){.weight = 1};
    if (f->label != NULL)
        status = data_json_word(json, f->label, out->label_number, &out->label, err);
    if (status == SEM_OK && f->domain != NULL)
        status = data_json_word(json, f->domain, out->domain_number, &out->domain, err);
    if (status == SEM_OK && f->id != NULL)
        status = data_json_word(json, f->id, out->id_number, &out->id, err);
    if (status == SEM_OK && f->weight != NULL)
        status = data_json_number(json, f->weight, &out->weight, err);
    if (status == SEM_OK && !(out->weight > 0 && out->weight <= 1e6))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" is %g; it must be above 0 and at most 1e6", f->weight,
                          out->weight);
    if (status == SEM_OK && f->score != NULL) {
        out->has_score = true;
        status = data_json_number(json, f->score, &out->score, err);
    }
    return status;
}

static void put_extras(example *e, const extras *x)
{
    e->label = x->label;
    e->domain = x->domain;
    e->anchor_key = x->id.length > 0 ? hash_text(x->id.bytes, x->id.length) : 0;
    e->weight = (float)x->weight;
    e->score = x->score;
    e->has_score = x->has_score;
}

static sem_status check_texts(const data_texts *texts, const char *what, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < texts->count && status == SEM_OK; i++)
        status = check_text(texts->items[i], what, err);
    return status;
}

/* The anchor with each positive, and all negatives. */
static sem_status give_pairs(const data_source *source, data_text anchor, const data_texts *positives,
                             const data_text *negatives, size_t negative_count, const extras *x, data_sink *sink,
                             void *context, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < positives->count && status == SEM_OK; i++) {
        example e = example_of(source, anchor, positives->items[i]);
        e.negatives = negatives;
        e.negative_count = negative_count;
        put_extras(&e, x);
        status = sink(context, &e, err);
    }
    return status;
}

/* All texts of a set mean the same: each stands in a pair, in a new order every pass.
 * The set is their label, so that none is a negative of another. */
static sem_status give_set(const data_source *source, data_texts *set, const extras *x, data_sink *sink, void *context,
                           sem_error *err)
{
    random_state r;
    random_seed(&r, source->draw);
    random_shuffle(&r, set->items, set->count, sizeof *set->items);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < set->count && status == SEM_OK; i += 2) {
        example e = example_of(source, set->items[i], set->items[(i + 1) % set->count]);
        put_extras(&e, x);
        if (e.label.length == 0)
            e.label_key = random_at(source->file, source->line) | 1;
        status = sink(context, &e, err);
    }
    return status;
}

static sem_status parse_set(const data_source *source, const data_json *json, const extras *x, data_sink *sink,
                            void *context, sem_error *err)
{
    data_texts set = {0};
    sem_status status = data_json_texts(json, "set", &set, err);
    if (status == SEM_OK)
        status = check_texts(&set, "a text of the set", err);
    if (status == SEM_OK && set.count < 2)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "the set has %zu texts; at least 2 are a pair", set.count);
    if (status == SEM_OK)
        status = give_set(source, &set, x, sink, context, err);
    data_texts_free(&set);
    return status;
}

/* ["a", "p", "n", ...] */
static sem_status parse_array(const data_source *source, const data_json *json, data_sink *sink, void *context,
                              sem_error *err)
{
    data_texts all = {0};
    const extras none = {.weight = 1};
    sem_status status = data_json_texts(json, NULL, &all, err);
    if (status == SEM_OK)
        status = check_texts(&all, "a text", err);
    if (status == SEM_OK && all.count < 2)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "the array has %zu texts; at least 2 are a pair", all.count);
    if (status == SEM_OK) {
        const data_texts positive = {.items = all.items + 1, .count = 1};
        status = give_pairs(source, all.items[0], &positive, all.items + 2, all.count - 2, &none, sink, context, err);
    }
    data_texts_free(&all);
    return status;
}

/* A text that waits for a positive has the name of none. */
static sem_status parse_members(const data_source *source, const data_json *json, const data_fields *names,
                                const extras *x, data_sink *sink, void *context, sem_error *err)
{
    data_text nothing = {0};
    data_texts anchor = {0}, positives = {0}, negatives = {0};
    const data_texts alone = {.items = &nothing, .count = 1};
    const bool paired = names->positive != NULL;
    sem_status status = data_json_texts(json, names->anchor, &anchor, err);
    if (status == SEM_OK && anchor.count != 1)
        status =
            sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" holds %zu texts; it must be one", names->anchor, anchor.count);
    if (status == SEM_OK)
        status = check_texts(&anchor, names->anchor, err);
    if (status == SEM_OK && paired)
        status = data_json_texts(json, names->positive, &positives, err);
    if (status == SEM_OK && paired && positives.count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" is empty", names->positive);
    if (status == SEM_OK)
        status = check_texts(&positives, names->positive, err);
    if (status == SEM_OK && names->negative != NULL && data_json_has(json, names->negative))
        status = data_json_texts(json, names->negative, &negatives, err);
    if (status == SEM_OK)
        status = check_texts(&negatives, names->negative, err);
    if (status == SEM_OK)
        status = give_pairs(source, anchor.items[0], paired ? &positives : &alone, negatives.items, negatives.count, x,
                            sink, context, err);
    data_texts_free(&anchor);
    data_texts_free(&positives);
    data_texts_free(&negatives);
    return status;
}

static sem_status parse_pairs(const data_source *source, const data_json *json, data_sink *sink, void *context,
                              sem_error *err)
{
    static const data_fields usual = {.anchor = "query", .positive = "pos", .negative = "neg"};
    const data_fields *named = &source->options->fields;
    if (data_json_is_array(json))
        return parse_array(source, json, sink, context, err);
    extras x;
    sem_status status = read_extras(named, json, &x, err);
    if (status != SEM_OK)
        return status;
    if (named->anchor != NULL)
        return parse_members(source, json, named, &x, sink, context, err);
    if (data_json_has(json, "set"))
        return parse_set(source, json, &x, sink, context, err);
    if (!data_json_has(json, "query"))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the object has neither \"query\" nor \"set\"");
    return parse_members(source, json, &usual, &x, sink, context, err);
}

/* Labelled and graded text as objects: each name has a default. */
static sem_status parse_object(const data_source *source, const data_json *json, data_sink *sink, void *context,
                               sem_error *err)
{
    const data_form form = source->options->form;
    const data_fields *given = &source->options->fields;
    data_fields named = *given;
    if (data_json_is_array(json))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "it is an array; form %s takes objects", data_form_name(form));
    if (form == DATA_LABELLED) {
        named.anchor = given->anchor != NULL ? given->anchor : "text";
        named.label = given->label != NULL ? given->label : "label";
    } else {
        named.anchor = given->anchor != NULL ? given->anchor : "a";
        named.positive = given->positive != NULL ? given->positive : "b";
        named.score = given->score != NULL ? given->score : "score";
    }
    extras x;
    sem_status status = read_extras(&named, json, &x, err);
    return status == SEM_OK ? parse_members(source, json, &named, &x, sink, context, err) : status;
}

sem_status data_parse(const data_source *source, data_text line, data_text other, data_sink *sink, void *context,
                      sem_error *err)
{
    const data_form form = source->options->form;
    if (form == DATA_PARALLEL)
        return parse_parallel(source, line, other, sink, context, err);
    if (form == DATA_COLUMNS || (form != DATA_PAIRS && !source->json))
        return parse_tabs(source, line, sink, context, err);
    data_json *json;
    sem_status status = data_json_parse(&json, line, err);
    if (status != SEM_OK)
        return status;
    status = form == DATA_PAIRS ? parse_pairs(source, json, sink, context, err)
                                : parse_object(source, json, sink, context, err);
    data_json_free(json);
    return status;
}
